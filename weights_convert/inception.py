"""The weights of FID's Inception-v3 for `jaxdiff.metrics.inception_features`, from the file that pytorch-fid downloads.

`pt_inception-2015-12-05-6726825d.pth` of pytorch-fid and the file of that date of torch-fidelity have the same names.
Each batch norm is folded into its convolution, in float64:

    kernel' = kernel · γ / √(σ² + ε),   bias' = β − μ γ / √(σ² + ε),   ε = 0.001
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxdiff.files import one_sentence
from jaxdiff.metrics.inception import FILE, inception_shapes
from weights_convert.installed import install, place

__all__ = ["add_arguments", "from_torch", "run"]

EPSILON = 1e-3
PARTS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def from_torch(source: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns named weights from the state dict, as read tensors.

    Raises:
      ValueError: a tensor is missing, has another shape, or has numbers that are not finite.
    """
    problems: list[str] = []
    weights: dict[str, np.ndarray] = {}
    for name, shape in inception_shapes().items():
        if name.endswith("/kernel"):
            layer = name.removesuffix("/kernel")
            weights |= _folded(source, layer, shape, problems)
    if problems:
        raise ValueError(one_sentence(f"These are not the weights of FID's Inception-v3: {'; '.join(problems[:12])}."))
    return weights


def _folded(
    source: Mapping[str, np.ndarray], layer: str, shape: tuple[int, ...], problems: list[str]
) -> dict[str, np.ndarray]:
    """Kernel and bias of one convolution; what does not fit is added to the problems."""
    height, width, before, after = shape
    wanted = {part: (after,) for part in PARTS} | {"conv.weight": (after, before, height, width)}
    found: dict[str, np.ndarray] = {}
    for part, expected in wanted.items():
        name = f"{layer.replace('/', '.')}.{part}"
        if name not in source:
            problems.append(f"missing {name}")
        elif source[name].shape != expected:
            problems.append(f"mis-shaped {name}: {source[name].shape}")
        elif not np.isfinite(value := source[name].astype(np.float64)).all() or (
            part == PARTS[-1] and (value < 0).any()
        ):
            problems.append(f"not finite {name}")
        else:
            found[part] = value
    if len(found) < len(wanted):
        return {}
    kernel, gain, bias, mean, variance = (found[part] for part in PARTS)
    gain = gain / np.sqrt(variance + EPSILON)
    folded = {
        f"{layer}/kernel": np.ascontiguousarray((kernel * gain[:, None, None, None]).transpose(2, 3, 1, 0)),
        f"{layer}/bias": bias - mean * gain,
    }
    return {name: value.astype(np.float32) for name, value in folded.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `python -m weights_convert inception`."""
    parser.add_argument(
        "src", type=pathlib.Path, help="pt_inception-2015-12-05-6726825d.pth, which pytorch-fid downloads"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")
    parser.add_argument(
        "out", nargs="?", type=pathlib.Path, help="output file (default: where jaxdiff looks, in $JAXDIFF_CACHE)"
    )


def run(args: argparse.Namespace) -> int:
    """Converts the weights and writes them as one `.safetensors` file; returns the exit code.

    Raises:
      ValueError: the weights are of no use, or the file exists or cannot be written.
    """
    from weights_convert.reader import read_tensors

    out = place(args.out, FILE, overwrite=args.overwrite)
    install("Inception-v3", from_torch(read_tensors(args.src)), out)
    return 0
