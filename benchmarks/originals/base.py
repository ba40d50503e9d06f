"""What every maker of random networks shares."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from weights_convert.priors import Options

__all__ = ["Original", "Random", "Values", "fill", "image", "labels", "module_of", "pick"]

Values = dict[str, Any]
Random = np.random.Generator


class Original(NamedTuple):
    """A network of the authors' code.

    Attributes:
        told: the arguments that made it.
        path: the file or folder that it was written to.
        options: what a user has to say beside.
        module: the torch module.
        network: (x [N, C, H, W], label [N], class) → what our network is compared with.
        labels: a noise label for each of two images.
        shape: height, width and channels of an image.
        classes: number of classes, or None.
        vectors: classes are given as one vector an image.
        denoise: the authors' D(x; σ), where their code has one.
        sigmas: a noise level for each of two images.
        step: (x_t, t [N], class) → the authors' x̂₀ and log-variance at whole timesteps t, where their code has them.
    """

    told: Values
    path: Path
    options: Options
    module: Any
    network: Callable[..., Any]
    labels: tuple[float, float]
    shape: tuple[int, int, int]
    classes: int | None = None
    vectors: bool = False
    denoise: Callable[..., Any] | None = None
    sigmas: tuple[float, float] = (0.05, 3.0)
    step: Callable[..., tuple[Any, Any]] | None = None


def pick(rng: Random, *values: Any) -> Any:
    """One of some values."""
    return values[int(rng.integers(len(values)))]


def image(rng: Random, levels: int, channels: int, square: bool = False) -> tuple[int, int, int]:
    """The shape of a small image that so many levels can halve."""
    unit = 2 ** (levels - 1)
    height, width = (unit * int(rng.integers(2, 4)) for _ in range(2))
    return (height, height, channels) if square else (height, width, channels)


def labels(rng: Random) -> tuple[float, float]:
    """Two timesteps, an early and a late one; the late one may lie between two whole ones."""
    return float(rng.integers(20)), float(rng.integers(200, 999)) + pick(rng, 0.0, 0.25)


def fill(module: Any, rng: Random) -> None:
    """Weights that are not zero anywhere; Fourier frequencies and other buffers stay."""
    import torch

    for name, value in module.named_parameters():
        if not value.requires_grad:
            continue
        drawn = rng.normal(size=tuple(value.shape))
        if value.ndim > 1:
            drawn = drawn / np.sqrt(max(1, value.numel() // max(value.shape)))
        elif name.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn = 0.1 * drawn
        value.data.copy_(torch.from_numpy(drawn.astype(np.float32)))
    module.eval()


def module_of(clones: Path | None, repository: str, name: str) -> Any:
    """A module of a clone; modules of the same name from another clone are forgotten."""
    if clones is None or not (clones / repository).is_dir():
        raise FileNotFoundError(f"there is no clone of {repository}; give its folder with --originals.")
    place = str((clones / repository).resolve())
    if place not in sys.path[:1]:
        top = {"models", "training", "cm", "torch_utils", "dnnlib", "sde_lib", "op", "utils", "functions"}
        for loaded in [n for n in sys.modules if n.partition(".")[0] in top]:
            del sys.modules[loaded]
        sys.path[:] = [place, *(p for p in sys.path if p != place)]
    return importlib.import_module(name)
