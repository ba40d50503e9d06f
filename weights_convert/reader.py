"""Read named arrays from PyTorch checkpoints (zip and legacy format) and safetensors files, with no torch installed.

A file is never trusted: its pickle can only describe tensors, and every size, offset and stride is checked against the
bytes that are there before an array is made.
"""

import hashlib
import io
import math
import os
import pathlib
import struct
import zipfile
from collections.abc import Mapping
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from jaxdiff.files import one_sentence, open_regular, quiet
from weights_convert import torch_pickle
from weights_convert.torch_pickle import Budget, MalformedError, Storage, Tensor

__all__ = ["StateDict", "read_state_dict", "read_tensors", "sha256"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PICKLE_BYTES = 256 * 2**20
MAX_NAME = 200
"""Letters of a tensor's name; the longest of a real network are about a hundred."""
NESTED_KEYS = (
    "ema", "model_ema", "ema_model", "ema_state_dict", "model_ema_state_dict", "params_ema", "state_dict_ema",
    "state_dict", "model_state_dict", "model", "module", "net", "params",
)  # fmt: skip
"""Where training codes put the state dict; averaged weights first."""

ZIP_ERRORS = (
    zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError, struct.error, OSError,
)  # fmt: skip
"""What zipfile raises on damaged files."""

READABLE = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
"""Types of safetensors that numpy, or ``_widen``, knows."""

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
    head = file.read(16)
    file.seek(0)
    if not head:
        raise MalformedError("it is empty")
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(file, key)
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**40:
        return StateDict(_read_safetensors(file), "")
    if head[:1] == b"\x80":
        return _read_legacy(file, key)
    raise MalformedError("it is neither a PyTorch checkpoint nor a safetensors file")


# --- formats -----------------------------------------------------


def _read_zip(file: IO[bytes], key: str | None) -> StateDict:
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
    stream = io.BytesIO(_member(archive, entries, pickles[0]))
    tensors, where = _select(torch_pickle.load(stream).value, key)

    def storage_bytes(storage: Storage) -> bytes:
        return _member(archive, entries, f"{root}data/{storage.key}")

    return StateDict(_materialise(tensors, storage_bytes, ">" if order.strip() == b"big" else "<"), where)


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
    if name not in entries:
        raise MalformedError(f"the storage {name} is missing")
    try:
        return archive.read(entries[name])  # checks the CRC
    except ZIP_ERRORS as error:
        raise MalformedError(f"its entry {name} is damaged or cut off") from error


def _read_legacy(file: IO[bytes], key: str | None) -> StateDict:
    """Torch's format before 1.6: four pickles, a list of keys, then (count, numbers) for each storage."""
    budget = Budget()
    if torch_pickle.load(file, budget).value != LEGACY_MAGIC:
        raise MalformedError("it is a pickle but no PyTorch checkpoint")
    if torch_pickle.load(file, budget).value != LEGACY_PROTOCOL:
        raise MalformedError("it is of a PyTorch format that is not known")
    system = torch_pickle.load(file, budget).value
    little = not isinstance(system, dict) or system.get("little_endian", True)
    loaded = torch_pickle.load(file, budget)
    tensors, where = _select(loaded.value, key)
    keys = torch_pickle.load(file, budget).value
    if not isinstance(keys, list) or not all(isinstance(k, str) and k in loaded.storages for k in keys):
        raise MalformedError("its list of storages is damaged")
    order: Literal["<", ">"] = "<" if little else ">"
    wanted = {tensor.storage.key for tensor in tensors.values()}
    blocks = _legacy_blocks(file, [loaded.storages[k] for k in keys], wanted, order)

    def storage_bytes(storage: Storage) -> bytes:
        if storage.key not in blocks:
            raise MalformedError(f"the storage {storage.key} is missing")
        return blocks[storage.key]

    return StateDict(_materialise(tensors, storage_bytes, order), where)


def _legacy_blocks(file: IO[bytes], storages: list[Storage], wanted: set[str], order: str) -> dict[str, bytes]:
    """The bytes of each wanted storage, stepping over the others."""
    end = os.fstat(file.fileno()).st_size
    blocks: dict[str, bytes] = {}
    for storage in storages:
        header = file.read(8)
        if len(header) != 8:
            raise MalformedError("it is cut off")
        size = storage.size * np.dtype(_numpy_type(storage.dtype)).itemsize
        if struct.unpack(order + "q", header) != (storage.size,):
            raise MalformedError(f"its storage {storage.key} has another size than its tensors say")
        if size > end - file.tell():
            raise MalformedError("it is cut off")
        if storage.key in wanted:
            blocks[storage.key] = file.read(size)
        else:
            file.seek(size, os.SEEK_CUR)
    return blocks


def _read_safetensors(file: IO[bytes]) -> dict[str, np.ndarray]:
    """safetensors: the length of a JSON header, the header, the numbers; read by the safetensors package."""
    import ml_dtypes  # noqa: F401  (teaches numpy the name bfloat16)
    import safetensors

    tensors = {}
    try:
        with safetensors.safe_open(file.name, framework="np") as source:
            for name in source.keys():  # noqa: SIM118
                if (dtype := source.get_slice(name).get_dtype()) not in READABLE:
                    raise MalformedError(
                        f"its tensor {name} is of type {dtype}, which is not read; save it as float32 or float16 first"
                    )
                tensors[name] = _widen(_safetensor(source, name))
    except safetensors.SafetensorError as error:
        raise MalformedError(f"it is no whole safetensors file ({error})") from error
    return tensors


def _safetensor(source: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(source.get_tensor(name))
    except ValueError as error:  # more dimensions than numpy has, or longer ones
        raise MalformedError(f"its tensor {name} has a shape that no array can have") from error


# --- from descriptions to arrays ---------------------------------


def _numpy_type(dtype: str) -> str:
    return "uint16" if dtype == "bfloat16" else dtype


def _materialise(tensors: Mapping[str, Tensor], storage_bytes: Any, order: Literal["<", ">"]) -> dict[str, np.ndarray]:
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage.key not in storages:
            dtype = np.dtype(_numpy_type(storage.dtype)).newbyteorder(order)
            data = storage_bytes(storage)
            if len(data) != storage.size * dtype.itemsize:
                raise MalformedError(f"the storage of {name} has {len(data)} bytes, which is not what it says")
            flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
            storages[storage.key] = _from_bfloat16(flat) if storage.dtype == "bfloat16" else flat
        arrays[name] = _view(name, tensor, storages[storage.key])
    return arrays


def _view(name: str, tensor: Tensor, flat: np.ndarray) -> np.ndarray:
    """The strided view, after making sure that it stays inside the storage and repeats nothing."""
    count = math.prod(tensor.size)
    if count == 0:
        try:
            return np.zeros(tensor.size, flat.dtype)
        except ValueError as error:
            raise MalformedError(f"the tensor {name} has a shape that no array can have") from error
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True))
    if last >= flat.size or count > flat.size:
        raise MalformedError(f"the tensor {name} reaches outside its storage")
    strides = tuple(stride * flat.itemsize for stride in tensor.stride)
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, strides, writeable=False)


def _from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


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
