"""Shapes of a UNet's parameters, straight from its layout. Tracing the network would give the same, more slowly."""

from jaxdiff.models.config import Layer, UNetConfig, layout
from jaxdiff.typing import Shape

__all__ = ["parameter_shapes"]

Shapes = dict[str, Shape]


def parameter_shapes(config: UNetConfig) -> Shapes:
    """Shape of each parameter of a configuration, by its full name ("middle_block_0/in_layers_2/kernel").

    >>> parameter_shapes(UNetConfig())["out_2/kernel"]
    (3, 3, 128, 3)
    """
    width, features = config.model_channels, 4 * config.model_channels
    shapes = _linear("time_embed_0", width, features) | _linear("time_embed_2", features, features)
    if config.num_classes is not None:
        shapes["label_emb/embedding"] = (config.num_classes, features)
    channels = config.channels(0)
    for block in layout(config):
        for layer in block:
            shapes |= _layer(layer, config, features)
            channels = layer.channels_out
    return shapes | _norm("out_0", channels) | _conv("out_2", channels, config.out_channels * config.patch_size**2)


def _layer(layer: Layer, config: UNetConfig, features: int) -> Shapes:
    name, before, after = layer.name, layer.channels_in, layer.channels_out
    if layer.kind == "conv":
        return _conv(name, before, after)
    if layer.kind == "attention":
        qkv, out = _linear(f"{name}/qkv", before, 3 * before), _linear(f"{name}/proj_out", before, before)
        return _norm(f"{name}/norm", before) | qkv | out
    if layer.kind in ("down", "up"):
        return (
            _conv(f"{name}/{'op' if layer.kind == 'down' else 'conv'}", before, after) if config.conv_resample else {}
        )
    film = 2 * after if config.use_scale_shift_norm else after
    shapes = _norm(f"{name}/in_layers_0", before) | _conv(f"{name}/in_layers_2", before, after)
    shapes |= _linear(f"{name}/emb_layers_1", features, film)
    shapes |= _norm(f"{name}/out_layers_0", after) | _conv(f"{name}/out_layers_3", after, after)
    return shapes if before == after else shapes | _conv(f"{name}/skip_connection", before, after, size=1)


def _conv(name: str, before: int, after: int, size: int = 3) -> Shapes:
    return {f"{name}/kernel": (size, size, before, after), f"{name}/bias": (after,)}


def _linear(name: str, before: int, after: int) -> Shapes:
    return {f"{name}/kernel": (before, after), f"{name}/bias": (after,)}


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}/scale": (channels,), f"{name}/bias": (channels,)}
