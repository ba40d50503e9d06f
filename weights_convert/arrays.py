"""Named arrays that stay in their file until one is asked for, so that memory holds one tensor at a time."""

import math
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxdiff.files import open_regular
from weights_convert.pickled import MalformedError, Storage, Tensor

__all__ = ["Lazy", "Region", "Tensors", "lazy_array", "numpy_type", "renamed", "shapes_of", "whole"]

Order = Literal["<", ">"]
CHUNK = 2**24
"""Bytes that are read at a time to compute a checksum."""


class Lazy(NamedTuple):
    """An array that is not read yet: its shape and type, and what reads it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]

    def reshaped(self, shape: tuple[int, ...]) -> "Lazy":
        """The same numbers in another shape."""
        return Lazy(shape, self.dtype, lambda: self.read().reshape(shape))


class Tensors(Mapping[str, np.ndarray]):
    """Arrays by name; each look-up reads one from the file.

    Args:
        entries: what reads each of them.
    """

    def __init__(self, entries: Mapping[str, Lazy]) -> None:
        self.entries = dict(entries)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array; nothing is read."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def renamed(self, names: Mapping[str, str]) -> "Tensors":
        """The arrays that ``names`` lists, as old name → new name."""
        return Tensors({new: self.entries[old] for old, new in names.items()})


def shapes_of(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Shape of each array; those in a file are not read."""
    if isinstance(tensors, Tensors):
        return tensors.shapes
    return {name: tuple(value.shape) for name, value in tensors.items()}


def renamed(tensors: Mapping[str, np.ndarray], names: Mapping[str, str]) -> Mapping[str, np.ndarray]:
    """The arrays that ``names`` lists, as old name → new name; those in a file are not read."""
    if isinstance(tensors, Tensors):
        return tensors.renamed(names)
    return {new: tensors[old] for old, new in names.items()}


class Region(NamedTuple):
    """Where the bytes of a storage are in a file, and their CRC-32 where the file records it."""

    offset: int
    size: int
    crc: int | None = None


def numpy_type(dtype: str) -> str:
    """The numpy type that holds numbers of a stored type; bfloat16 is read as its bits."""
    return "uint16" if dtype == "bfloat16" else dtype


def lazy_array(path: pathlib.Path, name: str, tensor: Tensor, region: Region, order: Order = "<") -> Lazy:
    """A strided view of a storage, after making sure that it stays inside the storage and repeats nothing.

    Raises:
        MalformedError: if it does not, or the storage has another size than it says.
    """
    storage = tensor.storage
    stored = np.dtype(numpy_type(storage.dtype)).newbyteorder(order)
    if region.size != storage.size * stored.itemsize:
        raise MalformedError(f"the storage of {name} has {region.size} bytes, which is not what it says")
    dtype = np.dtype(np.float32) if storage.dtype == "bfloat16" else stored.newbyteorder("=")
    count = math.prod(tensor.size)
    if count == 0:
        try:
            np.zeros(tensor.size, dtype)
        except ValueError as error:
            raise MalformedError(f"the tensor {name} has a shape that no array can have") from error
        return Lazy(tensor.size, dtype, lambda: np.zeros(tensor.size, dtype))
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True))
    if tensor.offset + span > storage.size or count > storage.size:
        raise MalformedError(f"the tensor {name} reaches outside its storage")
    return Lazy(tensor.size, dtype, lambda: _read(path, name, tensor, region, stored, span))


def _read(
    path: pathlib.Path, name: str, tensor: Tensor, region: Region, stored: np.dtype[Any], span: int
) -> np.ndarray:
    with open_regular(path) as file:
        if region.crc is not None and region.crc != _crc(file.fileno(), region):
            raise MalformedError(f"the storage of {name} is damaged: its checksum differs")
        file.seek(region.offset + tensor.offset * stored.itemsize)
        flat = np.fromfile(file, stored, span)
    if flat.size != span:
        raise MalformedError("it is cut off")
    flat = flat.astype(stored.newbyteorder("="), copy=False)
    if tensor.storage.dtype == "bfloat16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    strides = tuple(stride * flat.itemsize for stride in tensor.stride)
    return np.lib.stride_tricks.as_strided(flat, tensor.size, strides, writeable=False)


def _crc(file: int, region: Region) -> int:
    crc = 0
    for start in range(region.offset, region.offset + region.size, CHUNK):
        crc = zlib.crc32(os.pread(file, min(CHUNK, region.offset + region.size - start), start), crc)
    return crc


def whole(storage: Storage, shape: tuple[int, ...]) -> Tensor:
    """A storage as one dense array of ``shape``."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return Tensor(storage, 0, shape, tuple(reversed(strides)))
