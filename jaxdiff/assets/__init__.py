"""Files inside the package, and the folder for files that are too large for it.

This module knows where files are and how to read named tensors from one; their meaning is the caller's business.
"""

from __future__ import annotations

import functools
import importlib.resources
import os
import pathlib

import numpy as np

__all__ = ["OFF", "cache_dir", "path", "tensors"]

OFF = ("off", "0", "no", "false")
"""Values of `$JAXDIFF_CACHE` that are no folder: compiled programs are not kept then."""


def cache_dir() -> pathlib.Path:
    """Returns the folder of files that are made or fetched once: `$JAXDIFF_CACHE`, or `~/.cache/jaxdiff`."""
    chosen = os.environ.get("JAXDIFF_CACHE", "").strip()
    if chosen and chosen.lower() not in OFF:
        return pathlib.Path(os.path.expanduser(chosen))
    return pathlib.Path.home() / ".cache" / "jaxdiff"


def path(name: str) -> pathlib.Path:
    """Returns the path of a packaged file, or of the file of that name in the cache folder.

    Args:
      name: file name, such as `"lpips_alex.safetensors"`; a packaged file wins over one in the cache.

    Raises:
      FileNotFoundError: neither place has it.
    """
    packaged = pathlib.Path(str(importlib.resources.files(__name__).joinpath(name)))
    for candidate in (packaged, cache_dir() / name):
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"{name} is neither packaged with jaxdiff nor in {cache_dir()}.")


@functools.lru_cache(maxsize=8)
def _tensors(file: str, modified: int) -> dict[str, np.ndarray]:
    """Reads once per file version; numpy arrays, so that a first call inside a trace leaks no tracer."""
    import safetensors.numpy

    del modified
    return safetensors.numpy.load_file(file)


def tensors(name: str) -> dict[str, np.ndarray]:
    """Returns the named arrays of a `.safetensors` file that `path` finds; do not write to them."""
    file = path(name)
    return _tensors(str(file), file.stat().st_mtime_ns)
