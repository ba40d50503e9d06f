"""``jaxdiff doctor``: what is installed, and whether it restores."""

import argparse
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from jaxdiff import assets, compilation_cache, hub, runtime
from jaxdiff.cli import inventory
from jaxdiff.cli.console import results, say
from jaxdiff.cli.options import add_general
from jaxdiff.engine.placement import available_memory
from jaxdiff.files import load_image

__all__ = ["ABOUT", "EXAMPLES", "USAGE", "Finding", "add_arguments", "run"]

USAGE = "[options]"
ABOUT = (
    "Print what is installed, devices, kernels, memory and caches, and check two small restorations: one against an answer "
    "in closed form, one with the embedded prior. Exit code 0 if all is well, else 1."
)
EXAMPLES = ("jaxdiff doctor", "jaxdiff doctor --quick", "jaxdiff doctor --verbose")

EXACT, CHEAP = jd.samplers.METHODS["mmps"], jd.samplers.METHODS["ddnm"]
"""Methods of the two checks: one whose draws follow a Gaussian posterior, one without a gradient through the network."""
ENOUGH = 2**30
"""Bytes of memory that a restoration at 64×64 needs, with room to spare."""


class Finding(NamedTuple):
    """A line of the report.

    Attributes:
        well: True or False for what was checked; None for what is only told.
        what: the subject.
        text: what was found, and what to do if it is not well.
    """

    well: bool | None
    what: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--quick`` and ``--verbose``."""
    parser.add_argument("--quick", action="store_true", help="check the installation only, and restore nothing")
    add_general(parser, seed=False)


def run(args: argparse.Namespace) -> int:
    """Print a line for each finding; returns 1 if one is not well."""
    parts = [_installed, _machine, _caches] + ([] if args.quick else [_restorations])
    bad = 0
    for part in parts:
        for finding in part():
            mark = {True: "ok  ", False: "FAIL", None: "    "}[finding.well]
            results.print(f"{mark} {finding.what}: {finding.text}", soft_wrap=True, markup=False)
            bad += finding.well is False
    say("all is well" if not bad else f"{bad} of these need your attention")
    return int(bad > 0)


def _installed() -> Iterator[Finding]:
    """Versions; what is missing or too old, and how to install it."""
    yield Finding(None, "versions", inventory.versions())
    found = inventory.packages()
    if not found:
        yield Finding(None, "packages", "jaxdiff was not installed by pip, so what it needs is not known")
        return
    core = [package for package in found if not package.extra]
    for package in core:
        if not package.fits:
            have = "is missing" if package.version is None else f"is {package.version}, older than {package.least}"
            yield Finding(False, package.name, f"{have}; pip install -U '{package.name}>={package.least}'")
    yield Finding(None, "needed", ", ".join(f"{package.name} {package.version}" for package in core))
    for extra in dict.fromkeys(package.extra for package in found if package.extra):
        mine = [package for package in found if package.extra == extra]
        have = ", ".join(f"{p.name} {p.version or 'missing'}" for p in mine)
        todo = "" if all(p.fits for p in mine) else f"; for it: pip install 'jaxdiff[{extra}]'"
        yield Finding(None, f"extra {extra}", f"{have}{todo}")


def _machine() -> Iterator[Finding]:
    """Devices, kernels, threads and memory."""
    try:
        yield Finding(True, "devices", inventory.devices())
    except (RuntimeError, AssertionError) as error:
        named = os.environ.get("JAX_PLATFORMS", "")
        why = f"JAX finds none (JAX_PLATFORMS={named!r}: {str(error).splitlines()[0]})"
        yield Finding(False, "devices", f"{why}; leave that variable out, or install JAX for the device")
        return
    yield Finding(None, "processor", inventory.processor())
    if more := runtime.advice():
        yield Finding(None, "faster", more)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = os.environ.get("XLA_FLAGS", "") or "not set"
    yield Finding(None, "threads", f"{usable} of {os.cpu_count()} cores may be used; XLA_FLAGS: {flags}")
    free = available_memory(jax.devices()[0]) * (jax.local_device_count() if jax.default_backend() == "cpu" else 1)
    advice = "" if free >= ENOUGH else "; close other programs, or a run will end for lack of memory"
    yield Finding(free >= ENOUGH, "memory", f"{_size(free)} free, {inventory.kept_memory()} when freed{advice}")


def _caches() -> Iterator[Finding]:
    """Folders that are kept between runs."""
    programs = compilation_cache.folder_for(os.environ)
    off = "off (JAXDIFF_CACHE); each start compiles again"
    yield Finding(None, "cache of compiled programs", off if programs is None else _told(programs))
    yield Finding(None, "cache of priors of the hub", _told(hub.cache_folder()))
    for folder in filter(None, (programs, hub.cache_folder())):
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not os.access(there, os.W_OK):
            yield Finding(
                False, str(folder), f"{there} is not writable; set JAXDIFF_CACHE and JAXDIFF_PRIORS to others"
            )


def _told(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}, empty"
    return f"{folder}, {_size(sum(path.lstat().st_size for path in folder.rglob('*') if path.is_file()))}"


def _size(count: float) -> str:
    """Such as 1.5 GiB."""
    if not math.isfinite(count):
        return "an unknown amount"
    power = min(3, int(math.log2(max(count, 1))) // 10)
    return f"{count / 2 ** (10 * power):.{1 if power else 0}f} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def _restorations() -> Iterator[Finding]:
    for what, check in (("restoration in closed form", closed_form), ("restoration with faces64", with_faces64)):
        begun = time.perf_counter()
        try:
            wrong, text = check()
        except Exception as error:  # whatever it is, the user is told of it and of the other checks
            wrong, text = True, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        took = f"{text}, in {time.perf_counter() - begun:.0f} s"
        advice = "; try JAXDIFF_FAST=off, without XLA_FLAGS, or with JAX_PLATFORMS=cpu"
        yield Finding(not wrong, what, took + advice * wrong)


def closed_form() -> tuple[bool, str]:
    """Pixels of N(0, 1) seen as y = x + 0.5 n with y = 1 have the posterior N(0.8, 0.2); whether draws differ from it.

    Mean y/(1 + σ²) = 0.8 and variance σ²/(1 + σ²) = 0.2. The mean of 1024 draws may miss by five standard errors (0.07). The
    method's own deviation is up to a tenth too small (docs/exactness.md), so 15 % are allowed.
    """
    shape, draws = (4, 4, 1), 64
    prior = jd.GaussianPrior(jnp.zeros(shape), jnp.eye(16), jnp.ones(16), jd.schedules.linear(1000))
    operator = jd.operators.denoise(image_shape=shape)
    problem = jd.Problem.of(operator, jnp.ones(shape), 0.5)
    found = jd.posterior(jax.random.key(0), prior, problem, EXACT(iterations=3), n=draws, steps=100)
    mean, std = float(np.mean(found.samples)), float(np.std(found.samples))
    wrong = not (abs(mean - 0.8) < 5 * math.sqrt(0.2 / 1024) and abs(std / math.sqrt(0.2) - 1) < 0.15)
    return wrong, f"mean {mean:.3f} (0.800), deviation {std:.3f} ({math.sqrt(0.2):.3f})"


def with_faces64() -> tuple[bool, str]:
    """Whether a hidden box of a real face is not restored better than by grey."""
    denoiser = jd.load_denoiser("faces64")
    face = jnp.asarray(load_image(assets.path("astronaut.png"), size=(64, 64), resize=True).pixels)
    operator = jd.operators.inpaint_box(image_shape=face.shape, size=24)
    problem = jd.observe(jax.random.key(0), operator, face, noise=0.05)
    run = jax.jit(lambda key, prior, problem: jd.sample(key, prior, problem, CHEAP(), steps=10)[0])
    restored = run(jax.random.key(1), denoiser, problem)
    grey, ours = (float(jd.metrics.psnr(jnp.clip(x, -1, 1), face)) for x in (problem.y, restored))
    return not ours > grey, f"{ours:.1f} dB, where grey has {grey:.1f} dB"  # NaN is not more
