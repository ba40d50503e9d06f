"""Depth growth: weights of a UNet become those of a deeper one that computes the same function.

A new residual block or attention layer ends in a layer of zeros, so it adds nothing at first. Where a block on the way up
takes a skip connection in, its 1×1 convolution passes on the other half:

    encoder, attention:  h + 0 = h            decoder:  [I 0] [h; skip] + 0 = h

The new blocks of a level come last on the way down, so the skips that they leave equal the last one. On the way up the
first block narrows the channels of the level below; the new ones come after it.

Reference: Chen, Goodfellow & Shlens, "Net2Net", 2016; zero-initialised residual branches: Goyal et al. 2017, section 5.1.
"""

from collections.abc import Hashable

import jax.numpy as jnp

from jaxdiff.models.config import Block, UNetConfig, layout
from jaxdiff.models.networks import NetworkConfig
from jaxdiff.typing import PyTree

__all__ = ["grow", "why_not"]


def why_not(small: NetworkConfig, large: NetworkConfig) -> str:
    """Why a network cannot start from the weights of another; empty if it can.

    The same weights serve any image size, with or without dropout. Only guided-diffusion's UNet can be deeper.
    """
    there, here = small.to_dict(), large.to_dict()
    grows = {"image_size": True, "dropout": True}
    if isinstance(small, UNetConfig) and isinstance(large, UNetConfig) and small.depth == large.depth:
        grows["num_res_blocks"] = all(small.blocks(i) <= large.blocks(i) for i in range(large.depth + 1))
        grows["attention_factors"] = set(small.attention_factors) <= set(large.attention_factors)
    other = [name for name in here if there[name] != here[name] and not grows.get(name)]
    return f"{other[0]} is {there[other[0]]} there, {here[other[0]]} here" if other else ""


def grow(params: PyTree, small: UNetConfig, large: UNetConfig, fresh: PyTree) -> PyTree:
    """Parameters of a deeper network that computes what a given one does, and that learns in all its layers.

    Args:
        params: of the network ``small``, nested by name.
        small: its architecture.
        large: the same with more residual blocks at some levels, or attention at more factors.
        fresh: initial parameters of ``large``. The last layer of a residual branch is zero in them.

    Raises:
        ValueError: if ``large`` is no deeper form of ``small``.
    """
    if reason := why_not(small, large):
        raise ValueError(f"this network cannot be grown into the other: {reason}.")
    before, after = _by_place(small), _by_place(large)
    grown = dict(fresh)
    grown |= {name: value for name, value in params.items() if not name.startswith(("input_blocks", "output_blocks"))}
    for place, block in after.items():
        known = {layer.kind: layer.name for layer in before.get(place, ())}
        for layer in block:
            if layer.kind in known and known[layer.kind] in params:
                grown[layer.name] = params[known[layer.kind]]
            elif "skip_connection" in fresh.get(layer.name, {}):
                grown[layer.name] = fresh[layer.name] | {
                    "skip_connection": _first_half(layer.channels_in, layer.channels_out)
                }
    return grown


def _by_place(config: UNetConfig) -> dict[Hashable, Block]:
    """The blocks outside the middle, by places that a block keeps in a deeper network."""
    levels, blocks = range(config.depth + 1), layout(config)
    down: list[Hashable] = ["stem"]
    up: list[Hashable] = []
    for level in levels:
        down += [("down", level, i) for i in range(config.blocks(level))]
        down += [("halve", level)] if level < config.depth else []
    for level in reversed(levels):
        # Counted from the last, which takes the skip of the level above, but for the first.
        up += [("up", level, "first"), *(("up", level, i) for i in reversed(range(config.blocks(level))))]
    return dict(zip([*down, *up], [*blocks.inputs, *blocks.outputs], strict=True))


def _first_half(channels_in: int, channels_out: int) -> dict[str, jnp.ndarray]:
    """A 1×1 convolution that passes on the first channels."""
    return {"kernel": jnp.eye(channels_in, channels_out)[None, None], "bias": jnp.zeros(channels_out)}
