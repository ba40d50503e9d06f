"""The vocabulary of checkpoints that hold more than tensors: what is not known becomes an inert record.

A training code pickles its options, its callbacks and its own classes beside the weights. None of that is needed, and
none of it is made: a class that is not known is a name with arguments. Only a name that could run a program, which the
standard library has many of, makes the file one that is refused.
"""

import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from weights_convert.arrays import Region
from weights_convert.containers import nested_storage
from weights_convert.pickled import Block, MalformedError, Record, Storage, Unset, Vocabulary
from weights_convert.torch_pickle import TORCH, Budget

__all__ = ["FOREIGN", "plain_pickle"]

PYTHON_2 = frozenset({"__builtin__", "cPickle", "commands", "copy_reg", "exceptions", "nt", "os2", "popen2", "urllib2"})
DATA = frozenset(
    f"{module}.{name}"
    for module, names in {
        "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple",
        "__builtin__": "bool bytearray complex dict float frozenset int list long object set slice str tuple unicode",
        "argparse": "Namespace",
        "collections": "ChainMap Counter OrderedDict UserDict UserList defaultdict deque",
        "copyreg": "_reconstructor",
        "copy_reg": "_reconstructor",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "functools": "partial",
        "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "types": "SimpleNamespace",
        "typing": "Any Dict List Optional Tuple Union",
        "uuid": "UUID",
        "_codecs": "encode",
    }.items()
    for name in names.split()
)
"""Of the standard library, the names that only hold data."""
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


def is_inert(module: str, name: str) -> bool:
    """Whether a name may become a record: it is of no module that comes with Python, or holds data alone."""
    root = module.partition(".")[0]
    return f"{module}.{name}" in DATA or (root not in sys.stdlib_module_names and root not in PYTHON_2)


class _Dtype(Unset):
    """What ``numpy.dtype(code)`` described; only plain numbers have a value."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        known = isinstance(code, str) and code in NUMBERS
        self.value = np.dtype(f"<{code}") if known else None

    def set_state(self, state: Any) -> None:
        if self.value is not None and isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.value = self.value.newbyteorder(">")


def _number(dtype: Any, data: Any) -> Any:
    """A numpy scalar as Python's number; None if it is of another type."""
    if isinstance(data, Record) and data.name == "_codecs.encode" and isinstance(data.arguments[0], str):
        data = data.arguments[0].encode("latin-1")
    if not isinstance(dtype, _Dtype) or dtype.value is None or not isinstance(data, bytes):
        return None
    if len(data) != dtype.value.itemsize:
        raise MalformedError("one of its numbers is damaged")
    return np.frombuffer(data, dtype.value)[0].item()


NUMPY: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
}

FOREIGN = TORCH._replace(calls={**TORCH.calls, **NUMPY}, foreign=is_inert)
"""PyTorch's names and numpy's numbers; what else is named becomes a record unless it could run a program."""


def plain_pickle(file: IO[bytes], budget: Budget, regions: dict[str, Region]) -> Vocabulary:
    """The vocabulary of a pickle whose tensors are whole files of torch, as NVIDIA's codes write them.

    Args:
        file: the pickle, which has the tensors' numbers.
        budget: what its pickles may cost together.
        regions: takes the places of the storages.
    """

    def storage(data: Any) -> Storage:
        if not isinstance(data, Block):
            raise MalformedError("one of its storages is damaged")
        return nested_storage(file, budget, regions, data)

    def number(dtype: Any, data: Any) -> Any:
        if isinstance(data, Block) and data.size <= 8:
            place = file.tell()
            file.seek(data.offset)
            data = file.read(data.size)
            file.seek(place)
        return _number(dtype, data)

    calls: dict[str, Callable[..., Any]] = {**FOREIGN.calls, "torch.storage._load_from_bytes": storage}
    calls |= {name: number for name in NUMPY if name.endswith("scalar")}
    return FOREIGN._replace(calls=calls, blocks=True)
