"""The files that tensors come in: PyTorch's zip and legacy formats, plain pickles with such files inside, safetensors.

Each gives a value whose tensors are descriptions, and the place of every storage in the file. Nothing of the numbers
is read yet.
"""

import io
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from jaxdiff.files import parse_json
from weights_convert import torch_pickle
from weights_convert.arrays import Lazy, Order, Region, Tensors, lazy_array, numpy_type, whole
from weights_convert.pickled import Block, Loaded, MalformedError, Storage, Tensor, Vocabulary
from weights_convert.torch_pickle import TORCH, Budget

__all__ = ["Saved", "load_saved"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PICKLE_BYTES = 256 * 2**20

ZIP_ERRORS = (
    zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError, struct.error, OSError,
)  # fmt: skip
"""What zipfile raises on damaged files."""

MISTAKEN = {
    b"<!doctype html": "it is a web page, which a server sent in place of the file; download the file again",
    b"<html": "it is a web page, which a server sent in place of the file; download the file again",
    b"version https://": "it is a pointer of Git LFS in place of the file; get the file with `git lfs pull`",
}
"""Beginnings of what is often saved under a checkpoint's name."""

SAFETENSORS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Types of safetensors that are read, by numpy's names; bfloat16 is widened."""


class Saved(NamedTuple):
    """What a file holds: dictionaries, lists, records and descriptions of tensors; and the places of their storages."""

    path: pathlib.Path
    value: Any
    regions: Mapping[str, Region]
    order: Order = "<"

    def lazy(self, name: str, tensor: Tensor) -> Lazy:
        """The array that a description means."""
        if tensor.storage.key not in self.regions:
            raise MalformedError(f"the storage {tensor.storage.key} is missing")
        return lazy_array(self.path, name, tensor, self.regions[tensor.storage.key], self.order)

    def tensors(self, described: Mapping[str, Tensor]) -> Tensors:
        """The arrays that descriptions mean, by name."""
        return Tensors({name: self.lazy(name, tensor) for name, tensor in described.items()})


def load_saved(
    file: IO[bytes], vocabulary: Vocabulary = TORCH, plain: Callable[..., Vocabulary] | None = None
) -> Saved:
    """Read what an open file describes.

    Args:
        file: a zip or legacy file of torch, a safetensors file, or a pickle.
        vocabulary: the names that it may use.
        plain: makes the vocabulary of a pickle that is no file of torch; by default such a pickle is refused.

    Raises:
        MalformedError: if it is damaged, of another kind, or asks for what the vocabulary does not admit.
    """
    head = file.read(16)
    file.seek(0)
    if not head:
        raise MalformedError("it is empty")
    if head.startswith(b"PK\x03\x04"):
        return _load_zip(file, vocabulary)
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**40:
        return _load_safetensors(file)
    if head[:1] == b"\x80":
        return _load_pickles(file, vocabulary, plain)
    what = next((what for start, what in MISTAKEN.items() if head.lstrip().lower().startswith(start)), None)
    raise MalformedError(what or "it is neither a PyTorch checkpoint nor a safetensors file")


# --- zip ---------------------------------------------------------


def _load_zip(file: IO[bytes], vocabulary: Vocabulary) -> Saved:
    """Torch's format since 1.6: an uncompressed zip of ``data.pkl`` and one ``data/KEY`` a storage."""
    try:
        archive = zipfile.ZipFile(file)
    except ZIP_ERRORS as error:
        raise MalformedError("its zip directory is damaged or cut off") from error
    entries = _checked_entries(archive, os.fstat(file.fileno()).st_size)
    pickles = [name for name in entries if name.split("/")[-1] == "data.pkl" and name.count("/") <= 1]
    if len(pickles) != 1:
        raise MalformedError("it is a zip file but no PyTorch checkpoint: it has no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
        raise MalformedError("its data.pkl is far larger than a checkpoint needs")
    order = _member(archive, entries, root + "byteorder") if root + "byteorder" in entries else b"little"
    loaded = torch_pickle.load(io.BytesIO(_member(archive, entries, pickles[0])), vocabulary=vocabulary)
    regions = dict(_zip_regions(file, entries, root, loaded.storages))
    return Saved(pathlib.Path(file.name), loaded.value, regions, ">" if order.strip() == b"big" else "<")


def _checked_entries(archive: zipfile.ZipFile, file_size: int) -> dict[str, zipfile.ZipInfo]:
    entries = {info.filename: info for info in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise MalformedError("two of its zip entries have the same name")
    total = 0
    for info in entries.values():
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise MalformedError(f"its entry {info.filename} is compressed or encrypted, which PyTorch never does")
        total += info.file_size
    if total > file_size:
        raise MalformedError("its zip entries claim more bytes than the file has")
    return entries


def _member(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], name: str) -> bytes:
    try:
        return archive.read(entries[name])  # checks the CRC
    except ZIP_ERRORS as error:
        raise MalformedError(f"its entry {name} is damaged or cut off") from error


def _zip_regions(
    file: IO[bytes], entries: Mapping[str, zipfile.ZipInfo], root: str, storages: Mapping[str, Storage]
) -> Iterator[tuple[str, Region]]:
    """Where the data of each storage begin: behind a header whose length its own copy of the name decides."""
    end = os.fstat(file.fileno()).st_size
    for key in storages:
        name = f"{root}data/{key}"
        if name not in entries:
            raise MalformedError(f"the storage {name} is missing")
        info = entries[name]
        header = os.pread(file.fileno(), 30, info.header_offset)
        if len(header) != 30 or not header.startswith(b"PK\x03\x04"):
            raise MalformedError(f"its entry {name} is damaged or cut off")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        if start + info.file_size > end:
            raise MalformedError(f"its entry {name} is damaged or cut off")
        yield key, Region(start, info.file_size, info.CRC)


# --- pickles -----------------------------------------------------


def _load_pickles(file: IO[bytes], vocabulary: Vocabulary, plain: Callable[..., Vocabulary] | None) -> Saved:
    """Torch's format before 1.6, which begins with a number; or any other pickle."""
    budget = Budget()
    inner: dict[str, Region] = {}
    first = torch_pickle.load(file, budget, vocabulary if plain is None else plain(file, budget, inner))
    if first.value == LEGACY_MAGIC and isinstance(first.value, int):
        loaded, regions, order = _load_legacy(file, budget, vocabulary)
        return Saved(pathlib.Path(file.name), loaded.value, regions, order)
    if plain is None or not isinstance(first.value, dict | list | torch_pickle.Record):
        raise MalformedError("it is a pickle but no PyTorch checkpoint")
    return Saved(pathlib.Path(file.name), first.value, inner)


def _load_legacy(file: IO[bytes], budget: Budget, vocabulary: Vocabulary) -> tuple[Loaded, dict[str, Region], Order]:
    """What follows the magic number: three pickles, a list of keys, then (count, numbers) for each storage."""
    if torch_pickle.load(file, budget).value != LEGACY_PROTOCOL:
        raise MalformedError("it is of a PyTorch format that is not known")
    system = torch_pickle.load(file, budget).value
    little = not isinstance(system, dict) or system.get("little_endian", True)
    loaded = torch_pickle.load(file, budget, vocabulary)
    keys = torch_pickle.load(file, budget).value
    if not isinstance(keys, list) or not all(isinstance(k, str) and k in loaded.storages for k in keys):
        raise MalformedError("its list of storages is damaged")
    order: Order = "<" if little else ">"
    return loaded, _legacy_regions(file, [loaded.storages[k] for k in keys], order), order


def _legacy_regions(file: IO[bytes], storages: list[Storage], order: Order) -> dict[str, Region]:
    end = os.fstat(file.fileno()).st_size
    regions: dict[str, Region] = {}
    for storage in storages:
        header = file.read(8)
        if len(header) != 8:
            raise MalformedError("it is cut off")
        size = storage.size * np.dtype(numpy_type(storage.dtype)).itemsize
        if struct.unpack(order + "q", header) != (storage.size,):
            raise MalformedError(f"its storage {storage.key} has another size than its tensors say")
        if size > end - file.tell():
            raise MalformedError("it is cut off")
        regions[storage.key] = Region(file.tell(), size)
        file.seek(size, os.SEEK_CUR)
    return regions


def nested_storage(file: IO[bytes], budget: Budget, regions: dict[str, Region], block: Block) -> Storage:
    """``torch.storage._load_from_bytes``: a whole legacy file inside a pickle, whose value is one bare storage."""
    place = file.tell()
    file.seek(block.offset)
    if torch_pickle.load(file, budget).value != LEGACY_MAGIC:
        raise MalformedError("one of its storages is damaged")
    loaded, inner, order = _load_legacy(file, budget, TORCH)
    if not isinstance(loaded.value, Storage) or order != "<" or file.tell() != block.offset + block.size:
        raise MalformedError("one of its storages is damaged")
    file.seek(place)
    storage = loaded.value._replace(key=f"@{block.offset}")
    regions[storage.key] = inner[loaded.value.key]
    return storage


# --- safetensors -------------------------------------------------


def _load_safetensors(file: IO[bytes]) -> Saved:
    """The length of a JSON header, the header, the numbers; checked by the safetensors package."""
    import ml_dtypes  # noqa: F401  (teaches numpy the name bfloat16)
    import safetensors

    try:
        with safetensors.safe_open(file.name, framework="np") as source:
            names = list(source.keys())
    except safetensors.SafetensorError as error:
        raise MalformedError(f"it is no whole safetensors file ({error})") from error
    length = struct.unpack("<Q", file.read(8))[0]
    header = parse_json(file.read(length).decode("utf-8"))
    value, regions = {}, {}
    for name in names:
        begin, end = header[name]["data_offsets"]
        if (dtype := header[name]["dtype"]) not in SAFETENSORS:
            raise MalformedError(
                f"its tensor {name} is of type {dtype}, which is not read; save it as float32 or float16 first"
            )
        storage = Storage(name, SAFETENSORS[dtype], (end - begin) // np.dtype(numpy_type(SAFETENSORS[dtype])).itemsize)
        value[name] = whole(storage, tuple(header[name]["shape"]))
        regions[name] = Region(8 + length + begin, end - begin)
    return Saved(pathlib.Path(file.name), value, regions)
