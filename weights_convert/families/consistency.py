"""OpenAI's consistency_models: guided-diffusion's UNet with attention by 1×1 convolutions, told σ.

``edm_*`` files are EDM teachers; ``cd_*`` and ``ct_*`` are consistency models, whose D(x; σ_min) is x.

Reference: Song et al., "Consistency Models", 2023; openai/consistency_models, ``cm/``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdiff.models import Preconditioning, PriorConfig, UNetConfig
from jaxdiff.typing import PyTree, Shape
from weights_convert.guided_diffusion import convert_tensors
from weights_convert.infer import Hidden
from weights_convert.infer import infer as infer_guided

__all__ = ["KINDS", "config_from", "convert", "infer", "prior"]

KINDS = ("edm", "cd", "ct")
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def prior(unet: UNetConfig, kind: str) -> PriorConfig:
    """The prior of a network: "edm" for a teacher, "cd" or "ct" for a consistency model.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"a file of consistency_models is of the kind {', '.join(KINDS)}; got {kind!r}.")
    form = Preconditioning("edm" if kind == "edm" else "consistency", "consistency", sigma_min=SIGMA_MIN)
    ends = (SIGMA_MIN, SIGMA_MAX)
    return PriorConfig(unet, "karras", variance="fixed_small", schedule_range=ends, preconditioning=form)


def config_from(arguments: Mapping[str, Any], *, kind: str) -> PriorConfig:
    """The prior of the arguments of ``cm.unet.UNetModel``, with ``attention_resolutions`` as downsampling factors."""
    heads = arguments.get("num_head_channels")
    unet = UNetConfig(
        image_size=int(arguments["image_size"]),
        in_channels=int(arguments.get("in_channels", 3)),
        out_channels=int(arguments.get("out_channels", 3)),
        model_channels=int(arguments["model_channels"]),
        num_res_blocks=int(arguments["num_res_blocks"]),
        channel_mult=tuple(arguments.get("channel_mult", (1, 2, 4, 8))),
        attention_factors=tuple(int(factor) for factor in arguments["attention_resolutions"]),
        num_heads=int(arguments.get("num_heads") or 1),
        num_head_channels=None if heads in (None, -1) else int(heads),
        num_heads_upsample=_given(arguments.get("num_heads_upsample")),
        attention_order="new",
        use_scale_shift_norm=bool(arguments.get("use_scale_shift_norm", False)),
        resblock_updown=bool(arguments.get("resblock_updown", False)),
        conv_resample=bool(arguments.get("conv_resample", True)),
        num_classes=arguments.get("num_classes"),
        dropout=float(arguments.get("dropout", 0.0)),
    )
    return prior(unet, kind)


def _given(value: Any) -> int | None:
    return None if value in (None, -1) else int(value)


def infer(shapes: Mapping[str, Shape], hidden: Hidden, *, kind: str) -> PriorConfig:
    """The prior that tensors of these names and shapes belong to; ``hidden`` tells the image's size and the heads.

    Raises:
        ValueError: if they are no whole network.
    """
    narrow = {
        name: shape[:2] + (1,) if _attention(name) and len(shape) == 4 else shape for name, shape in shapes.items()
    }
    return prior(infer_guided(narrow, hidden._replace(attention_order="new")).config.adm, kind)


def convert(tensors: Mapping[str, np.ndarray], config: PriorConfig) -> PyTree:
    """Our parameters from the tensors of a file.

    Raises:
        ValueError: if they are not those of the configuration.
    """
    narrow = {}
    for name, value in tensors.items():
        value = np.asarray(value)
        narrow[name] = value[..., 0] if _attention(name) and value.ndim == 4 and value.shape[3] == 1 else value
    return traverse_util.unflatten_dict(convert_tensors(narrow, config), sep="/")


def _attention(name: str) -> bool:
    return name.endswith((".qkv.weight", ".proj_out.weight"))
