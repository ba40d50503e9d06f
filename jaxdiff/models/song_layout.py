"""The layers of a ``SongConfig`` in order, with their names, channels and norm groups; shapes of parameters follow."""

from typing import Literal, NamedTuple

from jaxdiff.models.song_config import SongConfig
from jaxdiff.typing import Shape

__all__ = ["SongLayer", "parameter_shapes", "song_layout"]

Kind = Literal[
    "conv", "res", "attention", "resample", "pyramid_down", "pyramid_skip", "pyramid_residual", "head", "pyramid_up",
    "pyramid_grow", "out",
]  # fmt: skip


class SongLayer(NamedTuple):
    """One layer.

    Attributes:
        kind: what it does.
        name: of its parameters.
        before: channels that come in, a joined skip included.
        after: channels that go out.
        normed: channels of each of its norms.
        groups: groups of each of them; 0 for no norm.
        heads: of attention.
        scale: divisor of a sum with what came in.
        way: "down" or "up" where it resamples.
        weights: whether a resampling layer has a convolution.
        shortcut: whether a residual block has a 1×1 convolution on its shortcut.
        join: takes the last skip connection in.
        keep: leaves a skip connection.
    """

    kind: Kind
    name: str
    before: int
    after: int
    normed: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    heads: int = 0
    scale: float = 1.0
    way: str | None = None
    weights: bool = False
    shortcut: bool = False
    join: bool = False
    keep: bool = False


def song_layout(config: SongConfig) -> tuple[SongLayer, ...]:
    """Every layer, first to last."""
    down, skips = _down(config)
    channels = skips[-1]
    layers = down + _middle(config, channels)
    for level in reversed(range(config.depth + 1)):
        part, channels = _up_level(config, level, channels, skips)
        layers += part
    return tuple(layers + _end(config, channels))


def _down(config: SongConfig) -> tuple[list[SongLayer], list[int]]:
    layers = [SongLayer("conv", "stem", config.in_channels, config.stem_channels, keep=True)]
    skips, channels, pyramid = [config.stem_channels], config.stem_channels, config.in_channels
    for level in range(config.depth + 1):
        for block in range(config.num_res_blocks):
            attends = level in config.attend_down and config.heads(config.channels[level]) > 0
            res = _res(config, f"down_{level}_res_{block}", channels, config.channels[level])
            channels = config.channels[level]
            layers.append(res._replace(keep=not attends))
            if attends:
                layers.append(_attention(config, f"down_{level}_attention_{block}", channels)._replace(keep=True))
            skips.append(channels)
        if level < config.depth:
            part, channels, pyramid = _halve(config, level, channels, pyramid)
            layers += part
            skips.append(channels)
    return layers, skips


def _halve(config: SongConfig, level: int, channels: int, pyramid: int) -> tuple[list[SongLayer], int, int]:
    layers = [_resample(config, f"down_{level}_resample", channels, "down", config.downsample[level])]
    name = f"down_{level}_pyramid"
    if config.input_pyramid == "skip":
        layers.append(SongLayer("pyramid_down", name, pyramid, pyramid))
        layers.append(SongLayer("pyramid_skip", name, pyramid, channels))
        channels *= 2 if config.combine == "cat" else 1
    elif config.input_pyramid == "residual":
        layers.append(SongLayer("pyramid_residual", name, pyramid, channels, scale=config.residual_scale))
        pyramid = channels
    layers[-1] = layers[-1]._replace(keep=True)
    return layers, channels, pyramid


def _middle(config: SongConfig, channels: int) -> list[SongLayer]:
    if config.middle == "none":
        return []
    first, last = (
        _res(config, f"middle_res_{i}", channels, channels)._replace(scale=config.middle_scale) for i in (0, 1)
    )
    if config.middle == "plain" or not config.heads(channels):
        return [first, last]
    attention = _attention(config, "middle_attention", channels)
    groups = config.groups(channels) if config.middle_groups is None else config.middle_groups
    return [first, attention._replace(groups=(groups,), scale=config.middle_scale), last]


def _up_level(config: SongConfig, level: int, channels: int, skips: list[int]) -> tuple[list[SongLayer], int]:
    layers: list[SongLayer] = []
    after, last = config.channels[level], config.num_res_blocks
    attends = level in config.attend_up and config.heads(after) > 0
    for block in range(last + 1):
        skip = skips.pop()
        res = _res(config, f"up_{level}_res_{block}", channels + skip, after)._replace(join=True)
        if config.group_by_sum and level in config.attend_up:
            res = res._replace(groups=(min(channels + skip // 4, 32), res.groups[1]))
        layers.append(res)
        channels = after
        if attends and (block == last or not config.attend_up_last):
            layers.append(_attention(config, f"up_{level}_attention_{block}", channels))
    layers += _pyramid(config, level, channels)
    if level:
        layers.append(_resample(config, f"up_{level}_resample", channels, "up", config.upsample[level - 1]))
    return layers, channels


def _pyramid(config: SongConfig, level: int, channels: int) -> list[SongLayer]:
    bottom = level == config.depth
    groups = {"normed": (channels,), "groups": (config.groups(channels),)}
    if config.output_pyramid == "skip":
        up = (
            [] if bottom else [SongLayer("pyramid_up", f"up_{level}_pyramid", config.out_channels, config.out_channels)]
        )
        return [*up, SongLayer("head", f"up_{level}_head", channels, config.out_channels, **groups)]  # type: ignore[arg-type]
    if config.output_pyramid == "residual":
        if bottom:
            return [SongLayer("head", f"up_{level}_head", channels, channels, **groups)]  # type: ignore[arg-type]
        before = config.channels[level + 1]
        return [SongLayer("pyramid_grow", f"up_{level}_pyramid", before, channels, scale=config.residual_scale)]
    return []


def _end(config: SongConfig, channels: int) -> list[SongLayer]:
    if config.output_pyramid == "skip":
        return []
    return [SongLayer("out", "out", channels, config.out_channels, (channels,), (config.groups(channels),))]


def _res(config: SongConfig, name: str, before: int, after: int) -> SongLayer:
    groups = (config.groups(before), config.groups(after))
    return SongLayer(
        "res", name, before, after, (before, after), groups, 0, config.residual_scale, shortcut=before != after
    )


def _attention(config: SongConfig, name: str, channels: int) -> SongLayer:
    groups = config.groups(channels) if config.attention_groups is None else config.attention_groups
    heads = config.heads(channels)
    return SongLayer("attention", name, channels, channels, (channels,), (groups,), heads, config.residual_scale)


def _resample(config: SongConfig, name: str, channels: int, way: str, kind: str) -> SongLayer:
    if kind == "res":
        return _res(config, name, channels, channels)._replace(way=way, shortcut=config.resampled_shortcut)
    return SongLayer("resample", name, channels, channels, way=way, weights=kind == "conv")


# --- shapes --------------------------------------------------------------------------------

Shapes = dict[str, Shape]


def parameter_shapes(config: SongConfig) -> Shapes:
    """Shape of each parameter of a configuration, by its full name ("stem/kernel").

    >>> parameter_shapes(SongConfig())["stem/kernel"]
    (3, 3, 3, 128)
    """
    shapes = _embedding(config)
    for layer in song_layout(config):
        shapes |= _layer(layer, config)
    return shapes


def _embedding(config: SongConfig) -> Shapes:
    features, channels = config.noise_channels, config.embedding_channels
    if config.embedding == "none":
        return {}
    shapes = _dense("embed_0", features, channels) | _dense("embed_1", channels, channels)
    if config.embedding == "fourier":
        shapes["noise_features/frequencies"] = (features // 2,)
    if config.num_classes is not None and config.label_place == "noise":
        shapes |= _dense("label", config.num_classes, features)
    elif config.num_classes is not None:
        shapes["label/kernel"] = (config.num_classes, channels)
    return shapes


def _layer(layer: SongLayer, config: SongConfig) -> Shapes:
    name, before, after = layer.name, layer.before, layer.after
    if layer.kind == "res":
        shapes = _norm(f"{name}/norm_0", before) | _conv(f"{name}/conv_0", before, after)
        if config.embedding != "none":
            shapes |= _dense(f"{name}/dense", config.embedding_channels, after * (2 if config.scale_shift else 1))
        shapes |= _norm(f"{name}/norm_1", after) | _conv(f"{name}/conv_1", after, after)
        return shapes | (_conv(f"{name}/shortcut", before, after, size=1) if layer.shortcut else {})
    if layer.kind == "attention":
        shapes = _norm(f"{name}/norm", before) if layer.groups[0] else {}
        return shapes | _dense(f"{name}/qkv", before, 3 * before) | _dense(f"{name}/out", before, before)
    if layer.kind in ("head", "out"):
        return _norm(f"{name}/norm", before) | _conv(f"{name}/conv", before, after)
    if layer.kind == "pyramid_skip":
        return _conv(name, before, after, size=1)
    if layer.kind in ("conv", "pyramid_residual", "pyramid_grow") or (layer.kind == "resample" and layer.weights):
        return _conv(name, before, after)
    return {}


def _conv(name: str, before: int, after: int, size: int = 3) -> Shapes:
    return {f"{name}/kernel": (size, size, before, after), f"{name}/bias": (after,)}


def _dense(name: str, before: int, after: int) -> Shapes:
    return {f"{name}/kernel": (before, after), f"{name}/bias": (after,)}


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}/scale": (channels,), f"{name}/bias": (channels,)}
