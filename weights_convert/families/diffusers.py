"""diffusers' UNet2DModel: DDPM's UNet, NCSN++ by its Skip blocks, and the ports of consistency models.

Every field of ``config.json`` is read; one that is absent takes the default of the class.

Reference: huggingface/diffusers, ``models/unets/unet_2d.py``, ``unet_2d_blocks.py``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.models import Preconditioning, PriorConfig, SongConfig
from jaxdiff.models.song_layout import SongLayer
from jaxdiff.typing import PyTree
from weights_convert.diffusers_folder import UNET
from weights_convert.families import rules
from weights_convert.families.rules import CONV, LINEAR, SAME, Rule
from weights_convert.families.song_rules import Part, Words, song_rules
from weights_convert.kinds import check_kinds

__all__ = ["config_from", "convert", "names", "network"]

PLAIN, ATTENDS, RESIDUAL = "{}Block2D", "Attn{}Block2D", "Resnet{}Block2D"
SKIP, SKIP_ATTENDS = "Skip{}Block2D", "AttnSkip{}Block2D"
ACTIVATIONS = {"silu": "silu", "swish": "silu", "mish": "mish", "gelu": "gelu", "relu": "relu"}
ROOT = 2**0.5
SEVERAL: dict[str, Any] = {
    "sample_size": frozenset((32, (32,), None)),
    "attention_head_dim": frozenset((8, None)),
    "norm_num_groups": frozenset((32, None)),
    "mid_block_type": frozenset(("UNetMidBlock2D", None)),
    "class_embed_type": frozenset(("timestep", None)),
    "freq_shift": 0.0,
    "mid_block_scale_factor": 1.0,
} | {
    name: frozenset((1, None))
    for name in ("time_embedding_dim", "attn_norm_num_groups", "num_class_embeds", "num_train_timesteps")
}
"""Arguments of UNet2DModel that take values of other kinds than their default."""


def network(given: Mapping[str, Any]) -> SongConfig:
    """The network of a ``config.json``.

    Raises:
        ValueError: if it uses what is not supported; the sentence names it.
    """
    values = UNET | {name: value for name, value in given.items() if not name.startswith("_")}
    if unknown := sorted(set(values) - set(UNET)):
        raise ValueError(f"UNet2DModel has no argument {', '.join(unknown)}; is this the config.json of another model?")
    check_kinds(values, UNET | SEVERAL, "config.json")
    _refuse(values)
    widths = tuple(int(width) for width in values["block_out_channels"])
    depth = len(widths) - 1
    down = [_kind(name, "Down") for name in values["down_block_types"]]
    up = [_kind(name, "Up") for name in values["up_block_types"]][::-1]
    if not len(down) == len(up) == len(widths):
        raise ValueError("down_block_types, up_block_types and block_out_channels must have one entry a level.")
    skip = any(kind in (SKIP, SKIP_ATTENDS) for kind in down + up)
    if skip and not all(kind in (SKIP, SKIP_ATTENDS) for kind in down + up):
        raise ValueError("blocks with and without Skip in one network are not supported.")
    options = _skip_options(values, widths) if skip else _plain_options(values)
    resampling = {
        "downsample": tuple(_resampling(kind, values["downsample_type"]) for kind in down[:depth]),
        "upsample": tuple(_resampling(kind, values["upsample_type"]) for kind in up[1:]),
    }
    attend = {
        "attend_down": tuple(i for i, kind in enumerate(down) if kind in (ATTENDS, SKIP_ATTENDS)),
        "attend_up": tuple(i for i, kind in enumerate(up) if kind in (ATTENDS, SKIP_ATTENDS)),
    }
    config = SongConfig(**_common(values, widths) | _embedding(values, widths) | options | resampling | attend)
    _refuse_heads(config)
    return config


def _refuse(values: dict[str, Any]) -> None:
    unsupported = {
        "mid_block_type": values["mid_block_type"] not in ("UNetMidBlock2D", None),
        "time_embedding_type": values["time_embedding_type"] not in ("positional", "fourier"),
        "resnet_time_scale_shift": values["resnet_time_scale_shift"] not in ("default", "scale_shift"),
        "class_embed_type": values["class_embed_type"] is not None,
        "downsample_padding": values["downsample_padding"] not in (0, 1),
        "downsample_type": values["downsample_type"] not in ("conv", "resnet"),
        "upsample_type": values["upsample_type"] not in ("conv", "resnet"),
        "act_fn": str(values["act_fn"]).lower() not in ACTIVATIONS,
    }
    if wrong := [f"{name}={values[name]!r}" for name, bad in unsupported.items() if bad]:
        raise ValueError(f"{', '.join(wrong)} of UNet2DModel is not supported.")
    side = values["sample_size"]
    if isinstance(side, list | tuple) and len(set(side)) != 1:
        raise ValueError(
            f"sample_size={list(side)} is not square; give --image-size, and any size can be asked for later."
        )


def _refuse_heads(config: SongConfig) -> None:
    """Heads that leave channels over: diffusers then attends on fewer channels than there are."""
    attends = {config.channels[level] for level in (*config.attend_down, *config.attend_up)}
    attends |= {config.channels[-1]} if config.middle == "attention" else set()
    size = config.head_channels
    if size is not None and (wrong := sorted(width for width in attends if width % size)):
        raise ValueError(f"attention_head_dim={size} does not divide the {wrong[0]} channels of a level that attends.")


def _common(values: dict[str, Any], widths: tuple[int, ...]) -> dict[str, Any]:
    size = values["sample_size"]
    side = max(size) if isinstance(size, list | tuple) else size
    groups, film = values["norm_num_groups"], values["resnet_time_scale_shift"] == "scale_shift"
    # With scale and shift the middle's attention has no norm unless its groups are given.
    middle_groups = values["attn_norm_num_groups"] or (0 if film else None)
    middle = "none" if values["mid_block_type"] is None else "attention" if values["add_attention"] else "plain"
    return {
        "image_size": 2 ** (len(widths) + 2) if side is None else int(side),
        "in_channels": int(values["in_channels"]),
        "out_channels": int(values["out_channels"]),
        "stem_channels": widths[0],
        "channels": widths,
        "num_res_blocks": int(values["layers_per_block"]),
        "middle": middle,
        "head_channels": values["attention_head_dim"],
        "norm_groups": 32 if groups is None else int(groups),
        "group_channels": 4 if groups is None else 1,
        "middle_groups": middle_groups,
        "epsilon": float(values["norm_eps"]),
        "activation": ACTIVATIONS[str(values["act_fn"]).lower()],
        "scale_shift": film,
        "middle_scale": float(values["mid_block_scale_factor"]),
        "center_input": bool(values["center_input_sample"]),
        "dropout": float(values["dropout"]),
    }


def _embedding(values: dict[str, Any], widths: tuple[int, ...]) -> dict[str, Any]:
    fourier = values["time_embedding_type"] == "fourier"
    return {
        "embedding": values["time_embedding_type"],
        "noise_channels": widths[0] * (2 if fourier else 1),
        "sin_first": fourier or not values["flip_sin_to_cos"],
        "freq_shift": float(values["freq_shift"]),
        "label_rounding": "diffusers",
        "embedding_channels": int(values["time_embedding_dim"] or 4 * widths[0]),
        "num_classes": values["num_class_embeds"],
        "label_place": "embedding",
        "null_label": False,
    }


def _plain_options(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "attend_up_last": False,
        "residual_scale": 1.0,
        "downsample_padding": int(values["downsample_padding"]),
        "resample_filter": (),
        "resampled_shortcut": False,
    }


def _skip_options(values: dict[str, Any], widths: tuple[int, ...]) -> dict[str, Any]:
    groups = values["norm_num_groups"]
    if groups is not None and any(groups != min(width // 4, 32) for width in (widths[0], widths[-1])):
        raise ValueError(
            f"norm_num_groups={groups} beside Skip blocks, which take a quarter of the channels, is not supported."
        )
    return {
        "norm_groups": 32,
        "group_channels": 4,
        "attend_up_last": True,
        "attention_groups": 32,
        "group_by_sum": True,
        "residual_scale": ROOT,
        "resample_filter": (1.0, 3.0, 3.0, 1.0),
        "input_pyramid": "skip",
        "output_pyramid": "skip",
    }


def _kind(name: str, way: str) -> str:
    kinds = {kind.format(way): kind for kind in (PLAIN, ATTENDS, SKIP, SKIP_ATTENDS)}
    kinds[f"Resnet{way}sampleBlock2D"] = RESIDUAL
    name = str(name).removeprefix("UNetRes")
    if name not in kinds:
        raise ValueError(f"the block {name} of UNet2DModel is not supported; known are {', '.join(kinds)}.")
    return kinds[name]


def _resampling(kind: str, chosen: str) -> str:
    """Only blocks with attention follow ``downsample_type`` and ``upsample_type``."""
    if kind == ATTENDS:
        return "res" if chosen == "resnet" else "conv"
    return "conv" if kind == PLAIN else "res"


# --- processes -----------------------------------------------------------------------

BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "sigmoid": "sigmoid", "squaredcos_cap_v2": "cosine"}
VARIANCE_PRESERVING = (
    "DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse", "PNDM", "LMSDiscrete", "EulerDiscrete",
    "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverMultistep",
    "DPMSolverSinglestep", "DPMSolverSDE", "DEISMultistep", "UniPCMultistep", "SASolver", "RePaint",
)  # fmt: skip
"""Schedulers, without that word, whose chain is that of ``beta_schedule``."""
OTHER_ENDS = ("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE")
"""Those among them whose default β run from 0.00085 to 0.012."""
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
    "sigma_min": 0.01,
    "sigma_max": 1348.0,
    "sigma_data": 0.5,
}
"""Fields of a scheduler that are read, each with a value of the right kind."""
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def config_from(unet: Mapping[str, Any], scheduler: Mapping[str, Any] | None = None) -> PriorConfig:
    """The prior of ``config.json`` and ``scheduler_config.json``; without the latter, DDPM's or score_sde's own.

    Raises:
        ValueError: if either asks for what is not supported.
    """
    config, given = network(unet), {name: value for name, value in (scheduler or {}).items() if value is not None}
    check_kinds(given, SCHEDULER, "scheduler_config.json")
    kind = str(given.get("_class_name", ""))
    if kind == "CMStochasticIterativeScheduler":
        low, high = float(given.get("sigma_min", 0.002)), float(given.get("sigma_max", 80.0))
        data = float(given.get("sigma_data", 0.5))
        form = Preconditioning("consistency", "consistency", sigma_data=data, sigma_min=low)
        return PriorConfig(config, "karras", variance="fixed_small", schedule_range=(low, high), preconditioning=form)
    fourier = config.embedding == "fourier"
    if kind == "ScoreSdeVeScheduler" or (fourier and kind in ("", "KarrasVeScheduler")):
        return _variance_exploding(config, given)
    return _variance_preserving(config, given)


def _variance_exploding(config: SongConfig, given: dict[str, Any]) -> PriorConfig:
    # With Fourier features diffusers divides the output by σ itself, so that F is −noise; else the output is the score.
    # Images are on [0, 1] where the network centres its input.
    low, high = float(given.get("sigma_min", 0.01)), float(given.get("sigma_max", 1348.0))
    unit = config.center_input
    kind, label = ("ve", "log_sigma") if config.embedding == "fourier" else ("score", "sigma")
    form = Preconditioning(kind, label, data_range=(0.0, 1.0) if unit else (-1.0, 1.0))
    scale = 2.0 if unit else 1.0
    return PriorConfig(
        config, "geometric", variance="fixed_small", schedule_range=(scale * low, scale * high), preconditioning=form
    )


def _variance_preserving(config: SongConfig, given: dict[str, Any]) -> PriorConfig:
    kind = str(given.get("_class_name") or "DDPMScheduler").removesuffix("Scheduler")
    refused = {
        f"the scheduler {kind}": kind not in VARIANCE_PRESERVING,
        "a scheduler with continuous timesteps": given.get("timestep_type") == "continuous",
        f"the scheduler {kind} beside Fourier features of σ": config.embedding == "fourier",
    }
    if wrong := [what for what, bad in refused.items() if bad]:
        raise ValueError(f"{wrong[0]} of diffusers is not supported.")
    schedule, prediction = given.get("beta_schedule", "linear"), given.get("prediction_type", "epsilon")
    if schedule not in BETAS or given.get("trained_betas") is not None:
        raise ValueError(f"the noise schedule {schedule!r} of diffusers (or its trained_betas) is not supported.")
    if prediction not in PREDICTIONS:
        raise ValueError(f"the prediction type {prediction!r} of diffusers is not supported.")
    if given.get("rescale_betas_zero_snr"):
        raise ValueError("rescale_betas_zero_snr of diffusers is not supported.")
    steps, learned = int(given.get("num_train_timesteps", 1000)), config.out_channels == 2 * config.in_channels
    ends = None
    if schedule != "squaredcos_cap_v2":
        start, end = (0.00085, 0.012) if kind in OTHER_ENDS else (1e-4, 0.02)
        ends = (float(given.get("beta_start", start)), float(given.get("beta_end", end)))
    fixed = "fixed_large" if str(given.get("variance_type", "")).startswith("fixed_large") else "fixed_small"
    told = "learned" if given.get("variance_type") == "learned" else "learned_range"
    return PriorConfig(
        config,
        BETAS[schedule],
        steps,
        PREDICTIONS[prediction],
        told if learned else fixed,
        schedule_range=ends,
    )


# --- names ---------------------------------------------------------------------------


def names(config: SongConfig) -> list[Rule]:
    """The name table."""
    skip = config.input_pyramid == "skip"

    def place(layer: SongLayer) -> str | tuple[str, str]:
        head, *numbers = layer.name.split("_")
        if layer.name == "stem":
            return "conv_in"
        if head == "out":
            return "conv_norm_out", "conv_out"
        if head == "middle":
            return f"mid_block.{'resnets' if numbers[0] == 'res' else 'attentions'}.{numbers[1] if numbers[1:] else 0}"
        level, what = int(numbers[0]), numbers[1]
        block = f"{head}_blocks.{level if head == 'down' else config.depth - level}"
        if what == "head":
            return (f"{block}.skip_norm", f"{block}.skip_conv") if level else ("conv_norm_out", "conv_out")
        if what == "attention":
            return f"{block}.attentions.{0 if skip and head == 'up' else numbers[2]}"
        if what == "res":
            return f"{block}.resnets.{numbers[2]}"
        if what == "pyramid":
            return f"{block}.skip_conv"
        return f"{block}.resnet_{head}" if skip else f"{block}.{head}samplers.0"

    words = Words(
        place=place,
        res=(
            Part("norm1", SAME), Part("conv1", CONV), Part("time_emb_proj", LINEAR), Part("norm2", SAME),
            Part("conv2", CONV), Part("conv_shortcut", CONV),
        ),
        attention=(
            Part("group_norm", SAME), Part("to_q", LINEAR, once=("query",)), Part("to_k", LINEAR, once=("key",)),
            Part("to_v", LINEAR, once=("value",)), Part("to_out.0", LINEAR, once=("proj_attn",)),
        ),
        embed=("time_embedding.linear_1", "time_embedding.linear_2"),
        frequencies="time_proj.weight",
        label=Part("class_embedding", SAME),
        conv=lambda layer: Part("conv" if layer.kind == "resample" else "", CONV),
    )  # fmt: skip
    return song_rules(config, words)


def convert(tensors: Mapping[str, np.ndarray], config: PriorConfig) -> PyTree:
    """Our parameters from diffusers' tensors.

    Raises:
        ValueError: if they are not those of the configuration.
    """
    if not isinstance(config.unet, SongConfig):
        raise ValueError("a UNet2DModel needs a configuration of the song family.")
    return rules.convert(tensors, names(config.unet), config.unet)
