"""The PyTorch port of DDPM (pesser, SDEdit, DDRM, DDNM): a bare state dict, of which shapes tell all but the image's size.

Reference: Ho et al. 2020; ermongroup/SDEdit, ``models/diffusion.py``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff.models import PriorConfig, SongConfig
from jaxdiff.models.song_layout import SongLayer
from jaxdiff.typing import PyTree, Shape
from weights_convert.families import rules
from weights_convert.families.rules import CONV, LINEAR, POINT, SAME, Rule
from weights_convert.families.song_rules import Part, Words, song_rules

__all__ = ["config_from", "convert", "infer", "names", "network"]


def network(
    *,
    image_size: int,
    ch: int = 128,
    out_ch: int = 3,
    ch_mult: Sequence[int] = (1, 1, 2, 2, 4, 4),
    num_res_blocks: int = 2,
    attend: Sequence[int] = (4,),
    in_channels: int = 3,
    resamp_with_conv: bool = True,
    dropout: float = 0.0,
) -> SongConfig:
    """The network in the port's own words, with the levels that ``attend``; defaults are those of CelebA-HQ 256."""
    resample = ("conv" if resamp_with_conv else "plain",) * (len(ch_mult) - 1)
    return SongConfig(
        image_size=image_size,
        in_channels=in_channels,
        out_channels=out_ch,
        stem_channels=ch,
        channels=tuple(ch * m for m in ch_mult),
        num_res_blocks=num_res_blocks,
        attend_down=tuple(attend),
        attend_up=tuple(attend),
        attend_up_last=False,
        noise_channels=ch,
        label_rounding="score_sde",
        embedding_channels=4 * ch,
        group_channels=1,
        residual_scale=1.0,
        middle_scale=1.0,
        downsample=resample,
        upsample=resample,
        downsample_padding=0,
        resample_filter=(),
        resampled_shortcut=False,
        dropout=dropout,
    )


def config_from(arguments: Mapping[str, Any]) -> PriorConfig:
    """The prior of the port's own arguments, with ``attn_resolutions`` in place of levels: ε, linear schedule, 1000 steps."""
    values = {k: v for k, v in arguments.items() if k not in ("attn_resolutions", "resolution")}
    size = int(values.pop("image_size", arguments.get("resolution", 256)))
    levels = range(len(values.get("ch_mult", (1, 1, 2, 2, 4, 4))))
    attend = [i for i in levels if size >> i in arguments.get("attn_resolutions", (16,))]
    return PriorConfig(network(image_size=size, attend=attend, **values), variance="fixed_small")


def infer(shapes: Mapping[str, Shape], image_size: int) -> PriorConfig:
    """The prior that tensors of these names and shapes belong to, at the image size that shapes do not tell.

    Raises:
        ValueError: if they are no whole network of the port.
    """
    try:
        ch, in_channels = shapes["conv_in.weight"][:2]
        levels = 1 + max(int(m[1]) for name in shapes if (m := re.match(r"down\.(\d+)\.block", name)))
        blocks = 1 + max(int(m[1]) for name in shapes if (m := re.match(r"down\.0\.block\.(\d+)\.", name)))
        widths = [shapes[f"down.{level}.block.0.conv2.weight"][0] for level in range(levels)]
        out = shapes["conv_out.weight"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"this is no whole network of DDPM's port: {error} is missing or of another form.") from error
    return PriorConfig(
        network(
            image_size=image_size,
            ch=ch,
            out_ch=out,
            ch_mult=[width // ch for width in widths],
            num_res_blocks=blocks,
            attend=[level for level in range(levels) if f"down.{level}.attn.0.q.weight" in shapes],
            in_channels=in_channels,
            resamp_with_conv=levels == 1 or "down.0.downsample.conv.weight" in shapes,
        ),
        variance="learned_range" if out == 2 * in_channels else "fixed_small",
    )


def names(config: SongConfig) -> list[Rule]:
    """The name table."""

    def place(layer: SongLayer) -> str | tuple[str, str]:
        head, *numbers = layer.name.split("_")
        if layer.name == "stem":
            return "conv_in"
        if head == "out":
            return "norm_out", "conv_out"
        if head == "middle":
            return {"middle_res_0": "mid.block_1", "middle_attention": "mid.attn_1"}.get(layer.name, "mid.block_2")
        what = {"res": "block", "attention": "attn", "resample": f"{head}sample"}[numbers[1]]
        return ".".join([head, numbers[0], what, *numbers[2:]])

    words = Words(
        place=place,
        res=(
            Part("norm1", SAME), Part("conv1", CONV), Part("temb_proj", LINEAR), Part("norm2", SAME),
            Part("conv2", CONV), Part("nin_shortcut", CONV),
        ),
        attention=(Part("norm", SAME), Part("q", POINT), Part("k", POINT), Part("v", POINT), Part("proj_out", POINT)),
        embed=("temb.dense.0", "temb.dense.1"),
        conv=lambda layer: Part("conv" if layer.kind == "resample" else "", CONV),
    )  # fmt: skip
    return song_rules(config, words)


def convert(tensors: Mapping[str, np.ndarray], config: PriorConfig) -> PyTree:
    """Our parameters from the port's tensors.

    Raises:
        ValueError: if they are not those of the configuration.
    """
    if not isinstance(config.unet, SongConfig):
        raise ValueError("a network of DDPM's port needs a configuration of the song family.")
    return rules.convert(tensors, names(config.unet), config.unet)
