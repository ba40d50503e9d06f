"""What is installed and what this machine is, as lines: for ``jaxdiff info`` and ``jaxdiff doctor``."""

import platform
import re
from importlib import metadata
from typing import NamedTuple

import jax

import jaxdiff as jd
from jaxdiff import runtime

__all__ = ["Package", "devices", "kept_memory", "packages", "processor", "versions"]

EXTENSIONS = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}
"""Linux's names of what makes products fast, and what people call them."""
NOT_SHOWN = {"dev", "docs", "test", "cuda12", "cuda13", "tpu"}
"""Extras that are for working on jaxdiff, and those of devices, which the list of devices shows."""


class Package(NamedTuple):
    """A package that jaxdiff uses.

    Attributes:
        name: as it is installed by pip.
        extra: the part of jaxdiff that needs it; empty if all do.
        least: the oldest version that will do.
        version: what is installed; None if it is not.
    """

    name: str
    extra: str
    least: str
    version: str | None

    @property
    def fits(self) -> bool:
        """Whether it is installed and new enough."""
        return self.version is not None and _numbers(self.version) >= _numbers(self.least)


def packages() -> list[Package]:
    """What jaxdiff's own metadata name, each with what is installed of it; empty if jaxdiff was not installed by pip."""
    try:
        needed = metadata.requires("jaxdiff") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for text in needed:
        name = re.match(r"[\w.-]+", text)
        extra = re.search(r"extra\s*==\s*['\"](\S+)['\"]", text)
        part = extra.group(1) if extra else ""
        if name is None or name.group() == "jaxdiff" or part in NOT_SHOWN:
            continue
        least = re.search(r">=\s*([\d.]+)", text)
        found.append(Package(name.group(), part, least.group(1) if least else "0", _installed(name.group())))
    return found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Such as (0, 24): enough to compare releases."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def versions() -> str:
    """Of jaxdiff, JAX and Python."""
    return f"jaxdiff {jd.__version__}, jax {jax.__version__}, Python {platform.python_version()}"


def devices() -> str:
    """What JAX computes on."""
    return ", ".join(f"{d.platform}:{d.id} ({d.device_kind})" for d in jax.devices())


def processor() -> str:
    """The processor's extensions, and the kernels in use."""
    now, here = runtime.in_use(), runtime.processor_flags()
    has = [title for flag, title in EXTENSIONS.items() if flag in here]
    kernels = "oneDNN for long commands (for all with JAXDIFF_FAST=on), else XLA's own" if now.onednn else "XLA's own"
    return f"{', '.join(has) or platform.machine()}; kernels: {kernels}"


def kept_memory() -> str:
    """What becomes of memory that is freed."""
    return "kept" if runtime.in_use().kept else "given back to the system"
