"""Read a folder of diffusers: its configuration, its scheduler, and its weights, whole or in shards."""

import pathlib
import re
from typing import Any

from jaxdiff.files import open_regular, parse_json
from weights_convert.arrays import Tensors
from weights_convert.containers import Saved, load_saved
from weights_convert.foreign import FOREIGN
from weights_convert.pickled import MalformedError, Tensor

__all__ = ["UNET", "Config", "fix_names", "read_json", "read_unet", "unet_folder", "with_defaults"]

Config = dict[str, Any]

MAX_JSON = 2**24
WEIGHTS = "diffusion_pytorch_model"
STEMS = (WEIGHTS, "model", "pytorch_model")
"""Names of weight files: that of diffusers, and those of accelerate."""
UNET: Config = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
    "add_attention": True,
}
"""The arguments of ``UNet2DModel`` and their defaults."""
AVERAGING = {
    "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup",
}  # fmt: skip
"""What diffusers' averaging of weights adds to the configuration in ``unet_ema``."""

OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Attention layers as diffusers named them before 0.12."""


def read_json(path: pathlib.Path) -> Config:
    """A small JSON file that holds named values.

    Raises:
        MalformedError: if it is anything else.
    """
    with open_regular(path) as file:
        text = file.read(MAX_JSON + 1)
    if len(text) > MAX_JSON:
        raise MalformedError(f"its {path.name} is far longer than a configuration")
    try:
        values = parse_json(text.decode("utf-8"))
    except ValueError as error:
        raise MalformedError(f"its {path.name} is no JSON") from error
    if not isinstance(values, dict):
        raise MalformedError(f"its {path.name} has no named values")
    return values


def unet_folder(folder: pathlib.Path) -> pathlib.Path:
    """Where a model's configuration and weights are: the folder itself, or in it ``unet_ema``, averaged, or ``unet``.

    Raises:
        MalformedError: if they are nowhere.
    """
    for place in (folder / "unet_ema", folder / "unet", folder):
        if (place / "config.json").is_file():
            return place
    inside = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise MalformedError(f"it is a folder without config.json or unet/config.json; it has {inside}")


def with_defaults(given: Config) -> Config:
    """A whole configuration of ``UNet2DModel``.

    Raises:
        MalformedError: if it is of another class, or has an option that is not known.
    """
    name = given.get("_class_name", "UNet2DModel")
    if name not in ("UNet2DModel", "UNetUnconditionalModel"):
        raise MalformedError(f"its network is {name}, which is not read; only UNet2DModel is")
    said = {key: value for key, value in given.items() if not key.startswith("_") and key not in AVERAGING}
    if unknown := sorted(set(said) - set(UNET)):
        raise MalformedError(f"its config.json has options that are not known: {', '.join(unknown[:6])}")
    return {**UNET, **said}


def read_unet(folder: pathlib.Path) -> tuple[Tensors, list[str]]:
    """The weights of a folder, names in today's form, and the files that were read.

    Raises:
        MalformedError: if there are none, or several of equal rank.
    """
    shards = _shards(folder)
    saved = [_saved(folder / name) for name in shards]
    entries = {}
    for name, file in zip(shards, saved, strict=True):
        if not isinstance(file.value, dict):
            raise MalformedError(f"its {name} holds no named tensors")
        for key, value in file.value.items():
            if not isinstance(key, str) or not isinstance(value, Tensor):
                raise MalformedError(f"its {name} holds something beside named tensors")
            if key in entries:
                raise MalformedError(f"its tensor {key} is in two files")
            entries[key] = file.lazy(key, value)
    return fix_names(Tensors(entries)), shards


def _saved(path: pathlib.Path) -> Saved:
    with open_regular(path) as file:
        return load_saved(file, FOREIGN)


def _shards(folder: pathlib.Path) -> list[str]:
    """The weight files: safetensors before bin, full precision before a variant."""
    for stem in STEMS:
        for ending in ("safetensors", "bin"):
            if (folder / f"{stem}.{ending}").is_file():
                return [f"{stem}.{ending}"]
            for index in (f"{stem}.{ending}.index.json", *_only(folder, f"{stem}.{ending}.index.*.json")):
                if (folder / index).is_file():
                    return _listed(folder, index)
            if variant := _only(folder, f"{stem}.*.{ending}"):
                return variant
    raise MalformedError(f"its folder has no {WEIGHTS}.safetensors or .bin")


def _only(folder: pathlib.Path, pattern: str) -> list[str]:
    """The file of such a name, if there is just one."""
    found = [path.name for path in folder.glob(pattern)]
    return found if len(found) == 1 else []


def _listed(folder: pathlib.Path, index: str) -> list[str]:
    """The files that an index of shards names."""
    places = read_json(folder / index).get("weight_map")
    names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    if not names or not all(re.fullmatch(r"[\w.-]+", name) and (folder / name).is_file() for name in names):
        raise MalformedError(f"its {index} names files that are not there")
    return names


def fix_names(tensors: Tensors) -> Tensors:
    """Attention layers by the names and in the shapes that diffusers gives them today."""
    entries = {}
    for name, entry in tensors.entries.items():
        match = re.fullmatch(r"(.*attentions\.\d+\.)(\w+|to_out\.0)(\.\w+)", name)
        if match and entry.shape[2:] == (1, 1):  # a convolution of one pixel
            entry = entry.reshaped(entry.shape[:2])
        entries[f"{match[1]}{OLD_NAMES.get(match[2], match[2])}{match[3]}" if match else name] = entry
    if len(entries) != len(tensors):
        raise MalformedError("two of its tensors have the same name")
    return Tensors(entries)
