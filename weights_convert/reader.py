"""Read named arrays from PyTorch checkpoints (zip and legacy format) and safetensors files, with no torch installed.

A file is never trusted: its pickle can only describe tensors, and every size, offset and stride is checked against the
bytes that are there before an array is made.
"""

import hashlib
import os
import pathlib
from typing import IO, NamedTuple

import numpy as np

from jaxdiff.files import one_sentence, open_regular, quiet
from weights_convert.containers import load_saved
from weights_convert.state_dict import check_names, find_state

__all__ = ["StateDict", "read_state_dict", "read_tensors", "sha256"]

Path = str | os.PathLike[str]


class StateDict(NamedTuple):
    """Named arrays, and where in the file they were ("" for the whole file)."""

    tensors: dict[str, np.ndarray]
    key: str


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of a checkpoint file, as ``read_state_dict`` finds them."""
    return read_state_dict(path).tensors


def read_state_dict(path: Path, *, key: str | None = None) -> StateDict:
    """Read the state dict of a ``.pt``, ``.pth``, ``.ckpt`` or ``.safetensors`` file.

    Args:
        path: the file.
        key: where the state dict is nested, such as "model" or "ema.state_dict"; by default the file's top, or the
            first of the usual names that is there, averaged weights (ema) before others.

    Returns:
        Arrays by name, of their stored type but bfloat16 widened to float32. A "module." before every name is dropped.

    Raises:
        ValueError: if the file cannot be read, is damaged, or holds anything but tensors and plain containers.
    """
    path = pathlib.Path(path)
    try:
        with quiet(), open_regular(path) as file:
            found = _read(file, key)
            check_names(found.tensors)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {one_sentence(error)}.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror or error}.") from error
    return StateDict(_without_module(found.tensors), found.key)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(file: IO[bytes], key: str | None) -> StateDict:
    saved = load_saved(file)
    described, where = find_state(saved.value, key)
    return StateDict(dict(saved.tensors(described)), where)


def _without_module(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
