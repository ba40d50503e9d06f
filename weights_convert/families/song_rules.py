"""The name table of a ``SongConfig`` network from a family's own words for its layers."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxdiff.models import SongConfig
from jaxdiff.models.song_layout import SongLayer, song_layout
from weights_convert.families.rules import CONV, LINEAR, SAME, Layout, Rule

__all__ = ["Part", "Words", "song_rules"]


class Part(NamedTuple):
    """A family's word for a part of a layer, and for its two tensors.

    Attributes:
        name: of the part.
        layout: of its weight.
        weight: name of the weight.
        bias: name of the bias.
        once: names that the part had in older files.
    """

    name: str
    layout: Layout
    weight: str = "weight"
    bias: str = "bias"
    once: tuple[str, ...] = ()


class Words(NamedTuple):
    """A family's words.

    Attributes:
        place: the name of a layer, of which heads have two: for norm and convolution.
        res: norm_0, conv_0, dense, norm_1, conv_1, shortcut of a residual block.
        attention: norm, then q, k, v (or one qkv), then out.
        embed: the two layers of the embedding.
        frequencies: the Fourier features, if any.
        label: the embedding of classes, if any.
        qkv: layouts of weight and bias of a joined qkv, for so many heads; None where q, k and v are apart.
        conv: the part of a layer that is one convolution; a nameless part where the layer is the convolution.
        norm: a norm by itself.
        dense: a layer of the embedding by itself.
    """

    place: Callable[[SongLayer], str | tuple[str, str]]
    res: tuple[Part, ...]
    attention: tuple[Part, ...]
    embed: tuple[str, str]
    frequencies: str = ""
    label: Part = Part("", LINEAR)
    qkv: Callable[[int], tuple[Layout, Layout]] | None = None
    conv: Callable[[SongLayer], Part] = lambda layer: Part("", CONV)
    norm: Part = Part("", SAME)
    dense: Part = Part("", LINEAR)


RES = ("norm_0", "conv_0", "dense", "norm_1", "conv_1", "shortcut")


def song_rules(config: SongConfig, words: Words) -> list[Rule]:
    """Every tensor of the network, once."""
    rules = list(_embedding(config, words))
    for layer in song_layout(config):
        rules += _layer(layer, config, words)
    return rules


def _embedding(config: SongConfig, words: Words) -> Iterator[Rule]:
    if config.embedding == "none":
        return
    for i, name in enumerate(words.embed):
        yield from _pair(f"embed_{i}", name, words.dense)
    if config.embedding == "fourier":
        yield Rule(words.frequencies, "noise_features/frequencies", SAME)
    if config.num_classes is not None:
        weight, *bias = _pair("label", "", words.label)
        yield weight
        if config.label_place == "noise":
            yield from bias


def _layer(layer: SongLayer, config: SongConfig, words: Words) -> Iterator[Rule]:
    if layer.kind == "res":
        for ours, part in zip(RES, words.res, strict=True):
            if (ours != "dense" or config.embedding != "none") and (ours != "shortcut" or layer.shortcut):
                yield from _pair(f"{layer.name}/{ours}", str(words.place(layer)), part)
    elif layer.kind == "attention":
        yield from _attention(layer, words)
    elif layer.kind in ("head", "out"):
        norm, conv = words.place(layer)  # type: ignore[str-unpack]
        yield from _pair(f"{layer.name}/norm", norm, words.norm)
        yield from _pair(f"{layer.name}/conv", conv, words.conv(layer))
    elif layer.weights or layer.kind in ("conv", "pyramid_skip", "pyramid_residual", "pyramid_grow"):
        yield from _pair(layer.name, str(words.place(layer)), words.conv(layer))


def _attention(layer: SongLayer, words: Words) -> Iterator[Rule]:
    place = str(words.place(layer))
    norm, *inner, out = words.attention
    if layer.groups[0]:
        yield from _pair(f"{layer.name}/norm", place, norm)
    for i, part in enumerate(inner):
        weight, bias = _pair(f"{layer.name}/qkv", place, part)
        if words.qkv is None:
            yield weight._replace(part=i)
            yield bias._replace(part=i)
        else:
            layouts = words.qkv(layer.heads)
            yield weight._replace(layout=layouts[0])
            yield bias._replace(layout=layouts[1])
    yield from _pair(f"{layer.name}/out", place, out)


def _pair(ours: str, place: str, part: Part) -> Iterator[Rule]:
    leaf = "scale" if ours.rpartition("/")[2].startswith("norm") else "kernel"

    def named(part_name: str, tensor: str) -> str:
        return ".".join(word for word in (place, part_name, tensor) if word)

    for name, tensor, layout in ((leaf, part.weight, part.layout), ("bias", part.bias, SAME)):
        yield Rule(named(part.name, tensor), f"{ours}/{name}", layout, None, tuple(named(o, tensor) for o in part.once))
