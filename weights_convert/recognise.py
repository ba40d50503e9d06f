"""Which family a checkpoint is of, from the names and shapes of its tensors; a file's name has no say."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from weights_convert.pickled import MalformedError

__all__ = ["FAMILIES", "Seen", "recognise"]

Shapes = Mapping[str, tuple[int, ...]]

SIGNS: dict[str, tuple[str, ...]] = {
    "guided-diffusion": ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight"),
    "ddpm": ("temb.dense.0.weight", "down.0.block.0.norm1.weight", "conv_out.weight"),
    "diffusers": ("time_embedding.linear_1.weight", "down_blocks.0.resnets.0.norm1.weight", "conv_out.weight"),
    "score-sde": ("all_modules.0.", "all_modules.1."),
    "edm": ("map_layer0.weight", "map_layer1.weight", "enc."),
}
"""Names that tell a family; one that ends in a dot is the beginning of a name."""

FAMILIES = (*SIGNS, "consistency")

ABOUT = {
    "guided-diffusion": "OpenAI's guided-diffusion or improved-diffusion",
    "consistency": "OpenAI's consistency models",
    "ddpm": "the PyTorch port of DDPM",
    "diffusers": "diffusers' UNet2DModel",
    "score-sde": "score_sde",
    "edm": "NVIDIA's EDM",
}

OTHERS = {
    "unet.emb_fourier.freqs": "EDM2",
    "emb_fourier.freqs": "EDM2",
    "init_conv.weight": "denoising-diffusion-pytorch (lucidrains)",
    "begin_conv.weight": "PnP-Flow",
    "out.2.positional_embedding": "a classifier of guided-diffusion",
    "synthesis.b4.const": "StyleGAN",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "x_embedder.proj.weight": "a diffusion transformer",
    "add_embedding.linear_1.weight": "a text-conditional UNet of diffusers",
}
"""A name that tells a family which is not read."""


class Seen(NamedTuple):
    """A family, and the prefix that its names have in this file."""

    family: str
    prefix: str


def recognise(shapes: Shapes, config: Mapping[str, Any], asked: str | None) -> Seen:
    """The family of tensors with these names and shapes.

    Args:
        shapes: shape of each tensor by name.
        config: what the file says about its network.
        asked: the family that the user names; it has to be one of those that fit.

    Raises:
        MalformedError: if no family fits, or several do and ``asked`` does not settle it; it says what was seen.
    """
    if any("first_stage_model." in name for name in shapes):
        raise MalformedError(
            "it is a latent diffusion model, whose network works on codes of an autoencoder; it is not read"
        )
    if any(re.match(r"(Dense|GaussianFourierProjection)_0/", name) for name in shapes):
        fits = [Seen("score-sde", "")]  # the names of flax
    else:
        fits = [Seen(family, prefix) for family, signs in SIGNS.items() for prefix in _prefixes(shapes, signs)]
    fits = [_refined(seen, shapes) for seen in fits]
    averaged = [seen for seen in fits if "ema" in seen.prefix.lower()]
    fits = averaged or fits
    if asked is not None:
        chosen = [seen for seen in fits if seen.family == asked]
        if fits and not chosen:
            raise MalformedError(f"its tensors are those of {ABOUT[fits[0].family]} ({fits[0].family}), not of {asked}")
        fits = chosen
    if not fits:
        raise MalformedError(_unknown(shapes))
    if len({seen.family for seen in fits}) > 1:
        families = sorted({seen.family for seen in fits})
        raise MalformedError(f"its tensors could be of {' or '.join(families)}; say which with --family")
    if len(fits) > 1:
        prefixes = ", ".join(repr(seen.prefix.rstrip(".")) for seen in fits)
        raise MalformedError(f"it holds several networks, under {prefixes}; save the one that you want by itself")
    return fits[0]


def _prefixes(shapes: Shapes, signs: tuple[str, ...]) -> list[str]:
    """Whatever stands before all the signs of a family."""
    heads = {".".join(parts[:i]) + "." for parts in (name.split(".") for name in shapes) for i in range(1, len(parts))}
    there = {*shapes, *heads}
    prefixes = [name.removesuffix(signs[0]) for name in there if f".{name}".endswith(f".{signs[0]}")]
    return [prefix for prefix in sorted(prefixes) if all(prefix + sign in there for sign in signs)]


def _refined(seen: Seen, shapes: Shapes) -> Seen:
    """Consistency models have guided-diffusion's names, but attention by convolutions of one pixel."""
    attention = shapes.get(f"{seen.prefix}middle_block.1.qkv.weight", ())
    return Seen("consistency", seen.prefix) if seen.family == "guided-diffusion" and len(attention) == 4 else seen


def _unknown(shapes: Shapes) -> str:
    for sign, family in OTHERS.items():
        if any(name == sign or name.endswith(f".{sign}") for name in shapes):
            return f"its tensors are those of {family}, which is not read"
    first = ", ".join(sorted(shapes)[:4]) or "none"
    return f"its tensors are of no family that is known ({', '.join(FAMILIES)}); its first names are {first}"
