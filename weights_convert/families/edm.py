"""NVIDIA's EDM: SongUNet and DhariwalUNet behind the EDM, VP, VE and iDDPM preconditioners.

A pickle holds the name of the preconditioner's class and the arguments of its constructor, so nothing is inferred.

Reference: Karras et al. 2022; NVlabs/edm, ``training/networks.py``.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.models import Preconditioning, PriorConfig, SongConfig
from jaxdiff.models.song_layout import SongLayer
from jaxdiff.typing import PyTree
from weights_convert.families import rules
from weights_convert.families.rules import CONV, LINEAR, POINT, SAME, Rule
from weights_convert.families.song_rules import Part, Words, song_rules

__all__ = ["config_from", "convert", "dropped", "names"]

SONG: dict[str, Any] = {
    "label_dim": 0,
    "augment_dim": 0,
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "channel_mult_emb": 4,
    "num_blocks": 4,
    "attn_resolutions": [16],
    "dropout": 0.10,
    "label_dropout": 0,
    "embedding_type": "positional",
    "channel_mult_noise": 1,
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": [1, 1],
}
DHARIWAL: dict[str, Any] = {
    "label_dim": 0,
    "augment_dim": 0,
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "channel_mult_emb": 4,
    "num_blocks": 3,
    "attn_resolutions": [32, 16, 8],
    "dropout": 0.10,
    "label_dropout": 0,
}
"""Arguments of the two networks and their defaults."""
PYRAMIDS = {"standard": "none", "skip": "skip", "residual": "residual"}
COMMON = {"img_resolution", "img_channels", "label_dim", "use_fp16", "model_type"}
PROCESSES: dict[str, dict[str, Any]] = {
    "EDMPrecond": {"model_type": "DhariwalUNet", "sigma_min": 0, "sigma_max": math.inf, "sigma_data": 0.5},
    "VPPrecond": {"model_type": "SongUNet", "beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5},
    "VEPrecond": {"model_type": "SongUNet", "sigma_min": 0.02, "sigma_max": 100},
    "iDDPMPrecond": {"model_type": "DhariwalUNet", "C_1": 0.001, "C_2": 0.008, "M": 1000},
}
"""Arguments of the preconditioners and their defaults."""


def config_from(class_name: str, arguments: Mapping[str, Any]) -> PriorConfig:
    """The prior of a preconditioner and the arguments of its constructor.

    Raises:
        ValueError: if a class or an argument is unknown.
    """
    if class_name not in PROCESSES:
        raise ValueError(f"there is no preconditioner {class_name!r}; it must be one of {', '.join(PROCESSES)}.")
    own = {**PROCESSES[class_name], "use_fp16": False, "label_dim": 0}
    if unbuilt := {"img_resolution", "img_channels"} - set(arguments):
        raise ValueError(f"the configuration lacks {', '.join(sorted(unbuilt))}; the file is no whole EDM network.")
    process = own | {name: value for name, value in arguments.items() if name in own or name in COMMON}
    network = {name: value for name, value in arguments.items() if name not in own and name not in COMMON}
    network |= {"label_dim": int(process["label_dim"] or 0)}
    outputs = 2 if class_name == "iDDPMPrecond" else 1
    unet = _network(str(process["model_type"]), network, process, outputs)
    return PriorConfig(unet, variance="fixed_small", **_process(class_name, process))


def _process(class_name: str, given: dict[str, Any]) -> dict[str, Any]:
    if class_name == "EDMPrecond":
        low, high = float(given["sigma_min"]) or 0.002, min(float(given["sigma_max"]), 80.0)
        form = Preconditioning("edm", "edm", sigma_data=float(given["sigma_data"]))
        return {"schedule": "karras", "schedule_range": (low, high), "preconditioning": form}
    if class_name == "VPPrecond":
        least, more, levels = float(given["beta_min"]), float(given["beta_d"]), int(given["M"])
        form = Preconditioning("eps", "vp", beta_min=least, beta_d=more, levels=levels)
        return {
            "schedule": "vp", "schedule_range": (least, least + more), "num_steps": levels, "preconditioning": form,
        }  # fmt: skip
    if class_name == "VEPrecond":
        ends = (float(given["sigma_min"]), float(given["sigma_max"]))
        return {
            "schedule": "geometric", "schedule_range": ends, "preconditioning": Preconditioning("ve", "log_half_sigma"),
        }  # fmt: skip
    # Its levels u_j are those of the cosine schedule with this offset and largest β.
    ends = (float(given["C_2"]), 1 - float(given["C_1"]))
    return {
        "schedule": "cosine", "schedule_range": ends, "num_steps": int(given["M"]),
        "preconditioning": Preconditioning("eps", "nearest"),
    }  # fmt: skip


def _network(kind: str, given: dict[str, Any], process: dict[str, Any], outputs: int) -> SongConfig:
    defaults = {"SongUNet": SONG, "DhariwalUNet": DHARIWAL}.get(kind)
    if defaults is None:
        raise ValueError(f"there is no network {kind!r} in EDM; it must be SongUNet or DhariwalUNet.")
    if unknown := sorted(set(given) - set(defaults)):
        raise ValueError(f"EDM's {kind} has no argument {', '.join(unknown)}.")
    values = defaults | given
    width, mult = int(values["model_channels"]), [int(m) for m in values["channel_mult"]]
    size, images = int(process["img_resolution"]), int(process["img_channels"])
    levels = tuple(i for i in range(len(mult)) if size >> i in values["attn_resolutions"])
    shared: dict[str, Any] = {
        "image_size": size,
        "in_channels": images,
        "out_channels": outputs * images,
        "channels": tuple(width * m for m in mult),
        "num_res_blocks": int(values["num_blocks"]),
        "attend_down": levels,
        "attend_up": levels,
        "embedding_channels": width * int(values["channel_mult_emb"]),
        "num_classes": int(values["label_dim"]) or None,
        "downsample": ("res",) * (len(mult) - 1),
        "upsample": ("res",) * (len(mult) - 1),
        "dropout": float(values["dropout"]),
    }
    return SongConfig(**shared, **(_song(values, width) if kind == "SongUNet" else _dhariwal(width, mult)))


def _song(values: dict[str, Any], width: int) -> dict[str, Any]:
    return {
        "stem_channels": width,
        "embedding": values["embedding_type"],
        "noise_channels": width * int(values["channel_mult_noise"]),
        "resample_filter": tuple(float(tap) for tap in values["resample_filter"]),
        "input_pyramid": PYRAMIDS.get(values["encoder_type"], values["encoder_type"]),
        "output_pyramid": PYRAMIDS.get(values["decoder_type"], values["decoder_type"]),
    }


def _dhariwal(width: int, mult: list[int]) -> dict[str, Any]:
    return {
        "stem_channels": width * mult[0],
        "attend_up_last": False,
        "head_channels": 64,
        "noise_channels": width,
        "sin_first": False,
        "freq_shift": 0.0,
        "label_place": "embedding",
        "epsilon": 1e-5,
        "scale_shift": True,
        "residual_scale": 1.0,
        "middle_scale": 1.0,
        "resampled_shortcut": False,
    }


# --- names ---------------------------------------------------------------------------


def names(config: SongConfig) -> list[Rule]:
    """The name table of a network behind a preconditioner."""
    song = config.label_place == "noise"

    def side(level: int) -> str:
        size = config.image_size >> level
        return f"{size}x{size}"

    def place(layer: SongLayer) -> str | tuple[str, str]:
        head, *numbers = layer.name.split("_")
        if layer.name == "stem":
            return f"model.enc.{side(0)}_conv"
        if head == "out":
            top = f"model.dec.{side(0)}"
            return (f"{top}_aux_norm", f"{top}_aux_conv") if song else ("model.out_norm", "model.out_conv")
        if head == "middle":
            return f"model.dec.{side(config.depth)}_in{int(layer.name == 'middle_res_1')}"
        level, what = int(numbers[0]), numbers[1]
        half = "enc" if head == "down" else "dec"
        if what in ("res", "attention"):
            return f"model.{half}.{side(level)}_block{numbers[2]}"
        if what == "resample":
            return f"model.{half}.{side(level + 1)}_down" if head == "down" else f"model.{half}.{side(level - 1)}_up"
        if what == "pyramid":
            kind = "skip" if layer.kind == "pyramid_skip" else "residual"
            return f"model.enc.{side(level + 1)}_aux_{kind}"
        return f"model.dec.{side(level)}_aux_norm", f"model.dec.{side(level)}_aux_conv"

    words = Words(
        place=place,
        res=(
            Part("norm0", SAME), Part("conv0", CONV), Part("affine", LINEAR), Part("norm1", SAME), Part("conv1", CONV),
            Part("skip", CONV),
        ),
        attention=(Part("norm2", SAME), Part("qkv", POINT), Part("proj", POINT)),
        embed=("model.map_layer0", "model.map_layer1"),
        frequencies="model.map_noise.freqs",
        label=Part("model.map_label", LINEAR),
        qkv=rules.per_head,
    )  # fmt: skip
    return song_rules(config, words)


def dropped(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Tensors that are not needed: filters, which the configuration gives, the augmentation label, and iDDPM's levels."""
    return [n for n in tensors if n.endswith(".resample_filter") or n in ("model.map_augment.weight", "u")]


def convert(tensors: Mapping[str, np.ndarray], config: PriorConfig) -> PyTree:
    """Our parameters from EDM's tensors.

    Raises:
        ValueError: if they are not those of the configuration.
    """
    if not isinstance(config.unet, SongConfig):
        raise ValueError("an EDM network needs a configuration of the song family.")
    return rules.convert(tensors, names(config.unet), config.unet, dropped(tensors))
