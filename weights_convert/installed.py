"""Weights of a metric, written where jaxdiff looks for them."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from jaxdiff import assets
from jaxdiff.files import atomic

__all__ = ["install", "place"]


def place(out: pathlib.Path | None, name: str, *, overwrite: bool) -> pathlib.Path:
    """Returns where the weights go: `out`, or the file of that name in the cache folder.

    Raises:
      ValueError: the file exists, and is not to be replaced.
    """
    out = out or assets.cache_dir() / name
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists already; choose another output file, or add --overwrite.")
    return out


def install(title: str, weights: Mapping[str, np.ndarray], out: pathlib.Path) -> None:
    """Writes named weights as one `.safetensors` file, whole or not at all, and prints a line that says so.

    Raises:
      ValueError: the file cannot be written.
    """
    import safetensors.numpy

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic(out) as partial:
            partial.write_bytes(safetensors.numpy.save(dict(sorted(weights.items()))))
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error.strerror}; choose another output file.") from error
    print(f"{title}: {sum(w.size for w in weights.values()):,} weights -> {out}")
