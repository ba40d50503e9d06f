"""Checkpoint files as torch writes them, made without torch, so that each can be bent in one place."""

import io
import pathlib
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

STORAGE = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: Global
    arguments: tuple


class Persistent(NamedTuple):
    saved: tuple


class Pickler(pickle._Pickler):
    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, Persistent):
            self.save(obj.saved)
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


def dumps(obj: Any, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol=protocol).dump(obj)
    return stream.getvalue()


class TorchFiles:
    """Writes what ``torch.save`` would."""

    Global, Call, Persistent = Global, Call, Persistent

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def tensor(self, key: str, array: np.ndarray, location="cpu", legacy=False, **bent: Any) -> Call:
        stride = tuple(s // array.itemsize for s in array.strides)
        kind = Global("torch", bent.get("kind", STORAGE[array.dtype.name]))
        storage = ("storage", kind, key, location, bent.get("numel", array.size), *([None] if legacy else []))
        arguments = (bent.get("offset", 0), bent.get("size", array.shape), bent.get("stride", stride))
        return Call(
            Global("torch._utils", "_rebuild_tensor_v2"), (Persistent(storage), *arguments, False, OrderedDict())
        )

    def zip(self, name: str, saved: Any, storages: dict[str, bytes], compression=zipfile.ZIP_STORED) -> pathlib.Path:
        path = self.folder / name
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", dumps(saved))
            archive.writestr("archive/byteorder", "little")
            for key, data in storages.items():
                archive.writestr(f"archive/data/{key}", data)
        return path

    def legacy(self, name: str, saved: Any, storages: dict[str, np.ndarray]) -> pathlib.Path:
        path = self.folder / name
        parts = [dumps(0x1950A86A20F9469CFC6C), dumps(1001), dumps({"little_endian": True}), dumps(saved)]
        parts.append(dumps(list(storages)))
        for array in storages.values():
            parts += [struct.pack("<q", array.size), array.tobytes()]
        path.write_bytes(b"".join(parts))
        return path

    def plain(self, name: str, saved: Any) -> pathlib.Path:
        """A pickle that is no file of torch, as NVIDIA's codes write it."""
        path = self.folder / name
        path.write_bytes(dumps(saved, protocol=4))
        return path

    def checkpoint(self, name: str, tensors: dict[str, np.ndarray], *, legacy=False, location="cpu", wrap=None):
        """A whole state dict; ``wrap`` nests it."""
        described = OrderedDict(
            (k, self.tensor(str(i), v, location, legacy)) for i, (k, v) in enumerate(tensors.items())
        )
        saved = wrap(described) if wrap else described
        if legacy:
            return self.legacy(name, saved, {str(i): v for i, v in enumerate(tensors.values())})
        return self.zip(name, saved, {str(i): v.tobytes() for i, v in enumerate(tensors.values())})


@pytest.fixture
def torch_files(tmp_path: pathlib.Path) -> TorchFiles:
    return TorchFiles(tmp_path)
