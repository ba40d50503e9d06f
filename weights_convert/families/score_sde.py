"""score_sde: NCSN++, DDPM++ and its DDPM, as PyTorch's numbered modules or as flax's automatic names.

The file holds no configuration; ``config_from`` takes that of the repository's ``configs/``.

Reference: Song et al. 2021; yang-song/score_sde_pytorch and yang-song/score_sde, ``models/``.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.models import Preconditioning, PriorConfig, SongConfig
from jaxdiff.models.song_layout import SongLayer, song_layout
from jaxdiff.typing import PyTree
from weights_convert.arrays import renamed
from weights_convert.families import rules
from weights_convert.families.rules import CONV, LINEAR, NIN, NIN_CONV, SAME, Layout, Rule
from weights_convert.families.song_rules import Part, Words, song_rules

__all__ = ["config_from", "convert", "names", "network"]

ACTIVATIONS = {"swish": "silu", "relu": "relu", "elu": "elu", "lrelu": "lrelu"}
PYRAMIDS = {"none": "none", "input_skip": "skip", "output_skip": "skip", "residual": "residual"}
MODEL: dict[str, Any] = {
    "name": "ncsnpp",
    "nf": 128,
    "ch_mult": (1, 2, 2, 2),
    "num_res_blocks": 4,
    "attn_resolutions": (16,),
    "dropout": 0.1,
    "resamp_with_conv": True,
    "conditional": True,
    "fir": False,
    "fir_kernel": (1, 3, 3, 1),
    "skip_rescale": True,
    "resblock_type": "biggan",
    "progressive": "none",
    "progressive_input": "none",
    "progressive_combine": "sum",
    "embedding_type": "fourier",
    "nonlinearity": "swish",
    "normalization": "GroupNorm",
    "scale_by_sigma": True,
    "sigma_min": 0.01,
    "sigma_max": 50.0,
    "num_scales": 1000,
    "beta_min": 0.1,
    "beta_max": 20.0,
}
UNUSED = {"ema_rate", "init_scale", "fourier_scale", "conv_size", "attention_type", "sigma_begin"}
"""Fields of a configuration's ``model`` with the repository's defaults, and those without a bearing on a trained network."""


def network(model: Mapping[str, Any], *, image_size: int, channels: int = 3, centered: bool = False) -> SongConfig:
    """The network of a configuration's ``model`` and ``data``.

    Raises:
        ValueError: if a field is unknown or asks for what is not supported.
    """
    values = _filled(model)
    nf, mult = int(values["nf"]), [int(m) for m in values["ch_mult"]]
    attend = tuple(i for i in range(len(mult)) if image_size >> i in values["attn_resolutions"])
    options = _ddpm(values) if values["name"] == "ddpm" else _ncsnpp(values)
    activation = ACTIVATIONS[str(values["nonlinearity"]).lower()]
    shared: dict[str, Any] = {
        "image_size": image_size,
        "in_channels": channels,
        "out_channels": channels,
        "stem_channels": nf,
        "channels": tuple(nf * m for m in mult),
        "num_res_blocks": int(values["num_res_blocks"]),
        "attend_down": attend,
        "attend_up": attend,
        "attend_up_last": True,
        "embedding": options["embedding"] if values["conditional"] else "none",
        "noise_channels": nf * (2 if options["embedding"] == "fourier" else 1),
        "label_rounding": "score_sde",
        "embedding_channels": 4 * nf,
        "activation": activation,
        "outer_activation": activation,
        "downsample": (options["resample"],) * (len(mult) - 1),
        "upsample": (options["resample"],) * (len(mult) - 1),
        "downsample_padding": 0,
        "center_input": not centered,
        "dropout": float(values["dropout"]),
    }
    return SongConfig(**shared, **{k: v for k, v in options.items() if k not in ("embedding", "resample")})


def _filled(model: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(model) - set(MODEL) - UNUSED):
        raise ValueError(f"score_sde's model has no field {', '.join(unknown)} that is known here.")
    values = MODEL | {name: value for name, value in model.items() if name in MODEL}
    for name in ("resblock_type", "progressive", "progressive_input", "progressive_combine", "embedding_type"):
        values[name] = str(values[name]).lower()
    choices: dict[str, tuple[str, ...]] = {
        "name": ("ncsnpp", "ddpm"),
        "resblock_type": ("biggan", "ddpm"),
        "progressive": ("none", "output_skip", "residual"),
        "progressive_input": ("none", "input_skip", "residual"),
        "progressive_combine": ("sum", "cat"),
        "embedding_type": ("fourier", "positional"),
        "normalization": ("GroupNorm",),
        "nonlinearity": tuple(ACTIVATIONS),
    }
    for name, allowed in choices.items():
        if values[name] not in allowed:
            raise ValueError(f"{name} of score_sde's model must be one of {', '.join(allowed)}; got {values[name]!r}.")
    return values


def _ncsnpp(values: dict[str, Any]) -> dict[str, Any]:
    scale = math.sqrt(2) if values["skip_rescale"] else 1.0
    plain = "conv" if values["resamp_with_conv"] else "plain"
    return {
        "embedding": values["embedding_type"],
        "resample": "res" if values["resblock_type"] == "biggan" else plain,
        "residual_scale": scale,
        "middle_scale": scale,
        "resample_filter": tuple(float(tap) for tap in values["fir_kernel"]) if values["fir"] else (),
        "resampled_shortcut": values["resblock_type"] == "biggan",
        "input_pyramid": PYRAMIDS[values["progressive_input"]],
        "combine": values["progressive_combine"],
        "output_pyramid": PYRAMIDS[values["progressive"]],
    }


def _ddpm(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "embedding": "positional",
        "resample": "conv" if values["resamp_with_conv"] else "plain",
        "group_channels": 1,
        "residual_scale": 1.0,
        "middle_scale": 1.0,
        "resample_filter": (),
        "resampled_shortcut": False,
    }


def config_from(
    model: Mapping[str, Any],
    *,
    image_size: int,
    channels: int = 3,
    centered: bool = False,
    sde: str = "vesde",
    continuous: bool = True,
) -> PriorConfig:
    """The prior of a configuration.

    Args:
        model: its ``model``.
        image_size: ``data.image_size``.
        channels: ``data.num_channels``.
        centered: ``data.centered``: images in [-1, 1], else in [0, 1].
        sde: ``training.sde``, "vesde", "vpsde" or "subvpsde".
        continuous: ``training.continuous``.

    Raises:
        ValueError: if a field is unknown or asks for what is not supported.
    """
    unet, values = network(model, image_size=image_size, channels=channels, centered=centered), _filled(model)
    data_range = (-1.0, 1.0) if centered else (0.0, 1.0)
    if sde.lower() not in ("vesde", "vpsde", "subvpsde"):
        raise ValueError(f"sde must be vesde, vpsde or subvpsde, got {sde!r}.")
    _refuse(values, sde.lower(), continuous, centered)
    if sde.lower() == "vesde":
        return _ve(unet, values, data_range, continuous)
    least, most, levels = float(values["beta_min"]), float(values["beta_max"]), int(values["num_scales"])
    if sde.lower() == "vpsde" and not continuous:
        ends = (least / levels, most / levels)
        return PriorConfig(unet, "linear", levels, variance="fixed_small", schedule_range=ends)
    kind, label = ("eps", "vp") if sde.lower() == "vpsde" else ("subvp", "subvp")
    if unet.embedding == "fourier":
        label = f"log_{label}"
    form = Preconditioning(kind, label, beta_min=least, beta_d=most - least, data_range=data_range, levels=1000)
    return PriorConfig(unet, "vp", variance="fixed_small", schedule_range=(least, most), preconditioning=form)


def _refuse(values: dict[str, Any], sde: str, continuous: bool, centered: bool) -> None:
    """Combinations that no configuration of the repository has, and that mean something else in its code than here."""
    fourier, scaled = values["embedding_type"] == "fourier" and values["name"] == "ncsnpp", values["scale_by_sigma"]
    discrete = not continuous and sde != "subvpsde"
    wrong = {
        "scale_by_sigma beside a variance-preserving process": scaled and sde != "vesde",
        # Their code divides by the level whose index is σ, rounded down.
        "scale_by_sigma beside positional features and a continuous process": scaled and not discrete and not fourier,
        # Their code takes the logarithm of the index, which may be 0.
        "fourier features beside discrete noise levels": fourier and discrete,
        "a discrete variance-preserving process on images in [0, 1]": sde == "vpsde" and discrete and not centered,
    }
    if found := [what for what, bad in wrong.items() if bad]:
        raise ValueError(f"{found[0]} is not supported for score_sde.")


def _ve(unet: SongConfig, values: dict[str, Any], data_range: tuple[float, float], continuous: bool) -> PriorConfig:
    low, high = float(values["sigma_min"]), float(values["sigma_max"])
    if not continuous:
        label = "geometric"
    else:
        label = "log_sigma" if unet.embedding == "fourier" else "sigma"
    form = Preconditioning(
        # A network that is divided by σ has the noise as its output, one that is not the score.
        "ve" if values["scale_by_sigma"] else "score",
        label,
        data_range=data_range,
        levels=int(values["num_scales"]),
        sigma_range=(low, high),
    )
    scale = 2.0 if data_range[0] == 0 else 1.0
    ends = (scale * low, scale * high)
    return PriorConfig(unet, "geometric", variance="fixed_small", schedule_range=ends, preconditioning=form)


# --- names ---------------------------------------------------------------------------


def _numbered(config: SongConfig, first: int) -> dict[str, str | tuple[str, str]]:
    """The place of each layer in ``all_modules``, where every layer takes a number, norm and convolution of a head one each."""
    count = {"none": first, "positional": 2, "fourier": 3}[config.embedding]
    places: dict[str, str | tuple[str, str]] = {}
    for layer in song_layout(config):
        if layer.kind in ("head", "out"):
            places[layer.name] = (f"all_modules.{count}", f"all_modules.{count + 1}")
            count += 2
        elif layer.kind not in ("pyramid_down", "pyramid_up"):
            places[layer.name] = f"all_modules.{count}"
            count += 1
    return places


def _automatic(config: SongConfig) -> dict[str, str | tuple[str, str]]:
    """The name that flax gives each layer: its class with a number of its own."""
    plain = config.group_channels == 1
    res = {True: "ResnetBlockDDPM", False: "ResnetBlockDDPMpp"}[plain]
    res = "ResnetBlockBigGANpp" if "res" in config.downsample else res
    counts: Counter[str] = Counter()

    def numbered(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}_{counts[kind] - 1}"

    places: dict[str, str | tuple[str, str]] = {}
    for layer in song_layout(config):
        kind = {
            "conv": "Conv", "res": res, "attention": "AttnBlock" if plain else "AttnBlockpp", "pyramid_skip": "Combine",
            "pyramid_residual": "Downsample", "pyramid_grow": "Upsample", "pyramid_down": "Downsample",
            "pyramid_up": "Upsample", "resample": "Downsample" if layer.way == "down" else "Upsample",
        }.get(layer.kind)  # fmt: skip
        if layer.kind in ("head", "out"):
            places[layer.name] = (numbered("GroupNorm"), numbered("Conv"))
        elif kind is not None:
            place = numbered(kind)
            if layer.kind not in ("pyramid_down", "pyramid_up"):
                places[layer.name] = place
    return places


def _conv_part(config: SongConfig, layer: SongLayer, conv: Layout, weight: str) -> Part:
    if layer.kind in ("conv", "head", "out"):
        return Part("", conv, weight)
    fir = bool(config.resample_filter) and layer.kind in ("resample", "pyramid_residual", "pyramid_grow")
    return Part("Conv2d_0", conv) if fir else Part("Conv_0", conv, weight)


def names(config: SongConfig, *, flax: bool = False, first: int = 0) -> list[Rule]:
    """The name table, of PyTorch's state dict (without "module.") or of flax's parameters (joined by dots).

    ``first`` is the number of the first layer of an unconditional network: 1 where unused Fourier features come before.
    """
    places = _automatic(config) if flax else _numbered(config, first)
    matrix, conv, weight = (SAME, SAME, "kernel") if flax else (LINEAR, CONV, "weight")
    scale = "scale" if flax else "weight"
    # Blocks that can resample have a 1×1 convolution on their shortcut, the others a matrix.
    if "res" in config.downsample or (config.depth == 0 and config.resampled_shortcut):
        shortcut = Part("Conv_2", conv, weight)
    else:
        shortcut = Part("NIN_0", NIN_CONV, "W", "b")
    fourier = config.embedding == "fourier"
    embed = ("Dense_0", "Dense_1") if flax else (f"all_modules.{int(fourier)}", f"all_modules.{1 + fourier}")
    words = Words(
        place=lambda layer: places[layer.name],
        res=(
            Part("GroupNorm_0", SAME, scale), Part("Conv_0", conv, weight), Part("Dense_0", matrix, weight),
            Part("GroupNorm_1", SAME, scale), Part("Conv_1", conv, weight), shortcut,
        ),
        attention=(
            Part("GroupNorm_0", SAME, scale),
            *(Part(f"NIN_{i}", NIN, "W", "b") for i in range(4)),
        ),
        embed=embed,
        frequencies="GaussianFourierProjection_0.W" if flax else "all_modules.0.W",
        conv=lambda layer: _conv_part(config, layer, conv, weight),
        norm=Part("", SAME, scale),
        dense=Part("", matrix, weight),
    )  # fmt: skip
    return song_rules(config, words)


def convert(tensors: Mapping[str, np.ndarray], config: PriorConfig) -> PyTree:
    """Our parameters from score_sde's tensors, with or without "module." before each name; flax's are known by theirs.

    Raises:
        ValueError: if they are not those of the configuration.
    """
    if not isinstance(config.unet, SongConfig):
        raise ValueError("a network of score_sde needs a configuration of the song family.")
    tensors = renamed(tensors, {name: name.removeprefix("module.").replace("/", ".") for name in tensors})
    flax = not any(name.startswith("all_modules.") for name in tensors)
    idle = config.unet.embedding == "none" and "all_modules.0.W" in tensors
    table = names(config.unet, flax=flax, first=int(idle))
    # An unconditional network has these tensors and does not use them.
    unused = [name for name in tensors if ".Dense_0." in name] if config.unet.embedding == "none" else []
    return rules.convert(tensors, table, config.unet, ["sigmas", *unused, *["all_modules.0.W"][:idle]])
