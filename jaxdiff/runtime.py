"""The fast way to run on a CPU, chosen before JAX starts: kernels, memory and devices.

``import jaxdiff`` changes nothing of the process. The command line calls `fast_cpu` first, and a script may do the same.
``JAXDIFF_FAST=off`` turns kernels and memory off. docs/performance.md has the figures.
"""

import contextlib
import importlib.util
import os
import platform
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

import jax
import jaxlib

from jaxdiff import hosts, memory
from jaxdiff.assets import OFF

__all__ = ["Choice", "advice", "fast_cpu", "fast_dtype", "in_use", "machine_lacks", "processor_flags"]

FLAGS = (
    "--xla_cpu_experimental_onednn_custom_call=true",  # convolutions and products by oneDNN
    "--xla_cpu_experimental_ynn_fusion_type=-individual_dot,-individual_convolution",  # reductions stay with YNN
)
ONEDNN = "onednn_custom_call=true"
KNOWN = ((0, 11), (0, 13))
"""First version of jaxlib that knows the flags, and the first that nobody has tried: XLA stops at an unknown flag."""

ON = ("on", "1", "yes", "true")
AMX = "amx_bf16"
"""Linux's name of the matrix unit of some Intel processors."""
FIRST_GPU = 8.0
"""Compute capability of the first NVIDIA GPU with bfloat16."""


class Choice(NamedTuple):
    """How this process computes on a CPU.

    Attributes:
        onednn: whether oneDNN computes convolutions and products, in place of XLA's own kernels.
        kept: whether freed memory stays with the process.
    """

    onednn: bool
    kept: bool


def fast_cpu(*, kernels: bool = True, environment: MutableMapping[str, str] = os.environ) -> Choice:
    """Make JAX fast on a CPU. Call it before JAX computes anything.

    - **Kernels.** oneDNN computes convolutions, if jaxlib has it. If you have set XLA_FLAGS, they are not changed.
    - **Memory.** The process keeps freed memory, because getting it again from the system is slow.
    - **Devices.** Each core of the CPU becomes a device (`hosts.use_all_cores`).

    With oneDNN's kernels, JAX's compilation cache is off, because writing such a program to disk can end the process. After
    JAX has started, only the memory can still be changed.

    Args:
        kernels: whether to use oneDNN's kernels. They suit long runs, because every start compiles again.
        environment: the environment variables. ``JAXDIFF_FAST=off`` leaves kernels and memory as they are, and ``on`` uses
            the kernels in any case.

    Returns:
        What is in use now.
    """
    started = hosts.started()
    hosts.use_all_cores()
    wish = environment.get("JAXDIFF_FAST", "").strip().lower()
    if wish not in OFF:
        possible = not environment.get("XLA_FLAGS") and not started and _flags_known() and not _accelerated(environment)
        if possible and (kernels or wish in ON):
            environment["XLA_FLAGS"] = " ".join(FLAGS)
        memory.keep()
    choice = in_use(environment)
    if choice.onednn and not started:
        jax.config.update("jax_enable_compilation_cache", False)
    return choice


def in_use(environment: Mapping[str, str] = os.environ) -> Choice:
    """How this process computes on a CPU, whoever chose it."""
    return Choice(ONEDNN in environment.get("XLA_FLAGS", ""), memory.kept())


def advice(environment: Mapping[str, str] = os.environ) -> str | None:
    """What would make this processor faster than it is now, as a sentence; None if nothing is known to."""
    if environment.get("JAXDIFF_FAST", "").strip().lower() in OFF:
        return "JAXDIFF_FAST=off leaves the faster kernels out."
    if not in_use(environment).onednn and not _accelerated(environment):
        if _version() < KNOWN[0]:
            return "Python 3.12 or later with JAX 0.11 or later brings faster kernels."
        if _flags_known():
            return "your own XLA_FLAGS stand in for the faster kernels; leave them out."
    if AMX in processor_flags() and in_use(environment).onednn:
        return "its matrix unit (AMX) multiplies faster in bfloat16 than in float32: --dtype auto takes it."
    return None


def fast_dtype(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The type that the network is fastest in on JAX's first device, "bfloat16" or "float32", and why, as a clause."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        if AMX not in processor_flags():
            return "float32", "this CPU has no matrix unit for bfloat16"
        if not in_use(environment).onednn:
            return "float32", "the kernels that use this CPU's matrix unit are not in use"
        return "bfloat16", "this CPU has a matrix unit for it (AMX)"
    if float(getattr(device, "compute_capability", FIRST_GPU)) < FIRST_GPU:
        return "float32", f"{device.device_kind} does not compute in bfloat16"
    return "bfloat16", f"{device.device_kind} is faster in it"


def processor_flags() -> frozenset[str]:
    """Instructions that the processor has, by Linux's names; empty elsewhere."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        line = next((line for line in file if line.startswith(("flags", "Features"))), "")
        return frozenset(line.partition(":")[2].split())
    return frozenset()


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in jaxlib.__version__.split(".")[:2])


def _flags_known() -> bool:
    return KNOWN[0] <= _version() < KNOWN[1] and platform.machine() in ("x86_64", "AMD64")


def _accelerated(environment: Mapping[str, str]) -> bool:
    """Whether the run may be on a GPU or TPU, where the cache of compiled programs is worth more than a CPU's kernels."""
    wanted = environment.get("JAX_PLATFORMS", "")
    if wanted:
        return wanted != "cpu"
    return any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))


def machine_lacks(error: Exception) -> str | None:
    """What the machine lacks, if that is why something failed; None if the fault is ours."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower():
        return "there is not enough memory for so much at once; ask for fewer or smaller images."
    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        named = os.environ.get("JAX_PLATFORMS", "")
        return f"JAX finds no device (JAX_PLATFORMS={named!r}); leave that variable out, or install JAX for the device."
    return None
