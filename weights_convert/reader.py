"""Read named arrays from PyTorch checkpoints (zip and legacy format) and safetensors files, with no torch installed.

A file is never trusted: its pickle can only describe tensors, and every size, offset and stride is checked against the
bytes that are there before an array is made.
"""

import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from jaxdiff.files import one_sentence, open_regular, quiet
from weights_convert.containers import load_saved
from weights_convert.pickled import MalformedError, Tensor

__all__ = ["StateDict", "read_state_dict", "read_tensors", "sha256"]

MAX_NAME = 200
"""Letters of a tensor's name; the longest of a real network are about a hundred."""
NESTED_KEYS = (
    "ema", "model_ema", "ema_model", "ema_state_dict", "model_ema_state_dict", "params_ema", "state_dict_ema",
    "state_dict", "model_state_dict", "model", "module", "net", "params",
)  # fmt: skip
"""Where training codes put the state dict; averaged weights first."""

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
            _check_names(found.tensors)
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
    described, where = _select(saved.value, key)
    return StateDict(dict(saved.tensors(described)), where)


# --- finding the state dict --------------------------------------


def _select(saved: Any, key: str | None) -> tuple[dict[str, Tensor], str]:
    if not isinstance(saved, dict):
        raise MalformedError("it holds no state dict, only a list or a single tensor")
    if key is not None:
        place: Any = saved
        for part in key.split("."):
            if not isinstance(place, dict) or part not in place:
                raise MalformedError(f"it has nothing under the key {key!r}; {_keys(place)}")
            place = place[part]
        tensors = _tensors_of(place)
        if not tensors:
            raise MalformedError(f"there are no named tensors under the key {key!r}")
        return tensors, key
    place, where = saved, list[str]()
    for _ in range(4):
        if tensors := _tensors_of(place):
            return tensors, ".".join(where)
        inner = next((k for k in NESTED_KEYS if isinstance(place.get(k), dict) and place[k]), None)
        if inner is None:
            break
        where.append(inner)
        place = place[inner]
    raise MalformedError(f"no state dict is found in it; {_keys(place)}: name the right one with --key")


def _keys(place: Any) -> str:
    names = [str(k) for k in place if isinstance(k, str | int)] if isinstance(place, dict) else []
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"its keys are {shown}" if names else "it has no keys"


def _tensors_of(place: Any) -> dict[str, Tensor]:
    if not isinstance(place, dict):
        return {}
    return {k: v for k, v in place.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _check_names(tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse names that would flood or command a terminal; those of a network's tensors are paths of attributes."""
    for name in tensors:
        if len(name) > MAX_NAME or not name.isprintable():
            raise MalformedError(f"the tensor name {name!r} is too long or holds control characters")


def _without_module(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
