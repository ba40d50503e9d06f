"""Ways to bend honest files, for ``benchmarks.fuzz``: each makes a hostile file from honest ones, by a generator."""

import copy
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "torch"
Random = np.random.Generator

EXTREME = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**59, 2**62, 2**63 - 1, 2**64 - 1]


def bent(rng: Random, seeds: list[bytes]) -> bytes:
    """One of the seeds after one to four accidents."""
    data = bytearray(pick(rng, seeds))
    for _ in range(rng.integers(1, 5)):
        place, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 64))
        match rng.integers(7):
            case 0:  # other bits
                for i in rng.integers(0, max(len(data), 1), 3):
                    data[i : i + 1] = bytes([rng.integers(256)])
            case 1:  # cut off
                del data[place:]
            case 2:  # a hole
                del data[place : place + length]
            case 3:  # a stretch many times
                data[place:place] = data[place : place + length] * int(rng.integers(1, 2000))
            case 4:  # a piece of another file
                other = pick(rng, seeds)
                start = int(rng.integers(len(other)))
                data[place:place] = other[start : start + 20 * length]
            case 5:  # a number that is too large
                layout = "<I" if rng.random() < 0.4 else ">I" if rng.random() < 0.6 else "<Q"
                whole = struct.pack(layout, pick(rng, EXTREME) % 2 ** (8 * struct.calcsize(layout)))
                data[place : place + len(whole)] = whole
            case 6:  # another digit in a text
                digits = [i for i, byte in enumerate(data[:4096]) if 48 <= byte < 58]
                if digits:
                    data[pick(rng, digits)] = rng.integers(48, 58)
    return bytes(data)


def pick(rng: Random, values: Any) -> Any:
    """One of the values."""
    return values[int(rng.integers(len(values)))]


OPCODES = [
    *(b"N", b"]", b"}", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"e", b"a", b"s", b"u", b"R", b"b", b"Q", b"\x94"),
    *(b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n"),
    *(b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cos\nsystem\n"),
    *(b"X\x07\x00\x00\x00storage", b"X\x01\x00\x00\x000", b"X\x03\x00\x00\x00cpu", b"U\x02f4", b"C\x04\x00\x00\x80?"),
    *(b"K\x01", b"J\xff\xff\xff\xff", b"G?\xf0\x00\x00\x00\x00\x00\x00", b"\x88", b"\x8a\x09" + b"\xff" * 8 + b"\x0f"),
    *(b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n", b"ctorch.storage\n_load_from_bytes\n", b"ca\nb\n"),
    *(b"\x8f", b"\x90", b"\x91", b"X\x05\x00\x00\x00state", b"X\x08\x00\x00\x00_modules", b"X\x03\x00\x00\x00ema"),
    *(b"0", b"1", b"2", b"\x81", b"I9\n", b"X\xff\xff\xff\x7f", b"r\xff\xff\xff\x7f", b"U\x04\x1b[2J"),
]


def bent_pickle(rng: Random, seeds: list[bytes]) -> bytes:
    """A bent pickle, or one of random instructions with a memory of earlier values."""
    if rng.random() < 0.4:
        return bent(rng, seeds)
    parts, kept = [b"\x80\x02"], 0
    for _ in range(rng.integers(1, 80)):
        draw = rng.random()
        if draw < 0.15:
            parts.append(b"q" + bytes([kept]))
            kept = (kept + 1) % 200
        elif draw < 0.4 and kept:
            parts.append(b"h" + bytes([rng.integers(kept)]))
        else:
            parts.append(pick(rng, OPCODES) * int(rng.choice([1, 1, 1, 1, 3, 3000])))
    return b"".join([*parts, b"."])


def bent_pickle_in_zip(rng: Random, seeds: list[bytes]) -> bytes:
    """The same inside a whole zip file, as torch writes it."""
    return _zipped(bent_pickle(rng, [_unzipped(seed) for seed in seeds]))


def _zipped(data: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(GOLDEN / "nested_zip.pt") as honest, zipfile.ZipFile(whole, "w") as archive:
        for name in honest.namelist():
            archive.writestr(name, data if name.endswith("data.pkl") else honest.read(name))
    return whole.getvalue()


def _unzipped(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def bent_archive(rng: Random, seeds: list[bytes]) -> bytes:
    """A zip file of torch whose pickle is bent."""
    seed, whole = pick(rng, seeds), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as honest, zipfile.ZipFile(whole, "w") as archive:
        for name in honest.namelist():
            data = honest.read(name)
            archive.writestr(name, bent_pickle(rng, [data]) if name.endswith("data.pkl") else data)
    return whole.getvalue()


ODD = [
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    1e308,
    float("nan"),
    "",
    "x",
    "\x1b[2J",
    "n" * 10**5,
    [],
    [[]],
    {},
    {"a": 1},
    "../x",
]


def bent_json(rng: Random, seeds: list[bytes]) -> bytes:
    """JSON with odd values in places, or bent as any file."""
    if rng.random() < 0.3:
        return bent(rng, seeds)
    whole = json.loads(pick(rng, seeds))
    for _ in range(rng.integers(1, 4)):
        place = whole
        while place and rng.random() < 0.7 and (inner := [v for v in place.values() if isinstance(v, dict)]):
            place = pick(rng, inner)
        name = pick(rng, sorted(place)) if place and rng.random() < 0.8 else str(pick(rng, ODD))
        place[name] = copy.deepcopy(pick(rng, ODD))
    return json.dumps(whole).encode()
