"""The configuration of a network of EDM from the names and shapes of their tensors, in the words of its code."""

import re
from collections.abc import Mapping
from typing import Any

from weights_convert.pickled import MalformedError

__all__ = ["edm_arguments"]

Shapes = Mapping[str, tuple[int, ...]]
Values = dict[str, Any]


def edm_arguments(shapes: Shapes) -> Values:
    """The arguments of EDM's SongUNet or DhariwalUNet, for a state dict that does not hold them.

    Raises:
        MalformedError: if a tensor is missing.
    """
    try:
        return _song(shapes) if "model.map_layer0.weight" in shapes else {}
    except (KeyError, IndexError, ZeroDivisionError, StopIteration) as error:
        raise MalformedError(f"it is no whole network of EDM: {error} is missing") from error


def _song(shapes: Shapes) -> Values:
    blocks = [re.match(r"model\.enc\.(\d+)x\1_(\w+?)\.", name) for name in shapes]
    sizes = sorted({int(match[1]) for match in blocks if match}, reverse=True)
    song = "model.out_conv.weight" not in shapes
    top = next(name for name in shapes if re.fullmatch(rf"model\.enc\.{sizes[0]}x{sizes[0]}_conv\.weight", name))
    channels = shapes[top][0] if song else shapes["model.map_layer0.weight"][1]
    last = f"model.dec.{sizes[0]}x{sizes[0]}_aux_conv.weight" if song else "model.out_conv.weight"
    count = _count(shapes, rf"model\.enc\.{sizes[0]}x{sizes[0]}_block(\d+)\.")
    widths = [shapes[f"model.enc.{size}x{size}_block0.conv0.weight"][0] for size in sizes]
    label = shapes.get("model.map_label.weight")
    values: Values = {
        "img_resolution": sizes[0],
        "in_channels": shapes[top][1],
        "out_channels": shapes[last][0],
        "label_dim": 0 if label is None else label[1],
        "model_channels": channels,
        "channel_mult": [_multiple(width, channels) for width in widths],
        "channel_mult_emb": _multiple(shapes["model.map_layer1.weight"][0], channels),
        "num_blocks": count,
        "attn_resolutions": [size for size in sizes if f"model.enc.{size}x{size}_block0.qkv.weight" in shapes],
    }
    if song:
        values |= _song_only(shapes, sizes, channels)
    return {"class_name": "SongUNet" if song else "DhariwalUNet", "init_args": [], "init_kwargs": values}


def _song_only(shapes: Shapes, sizes: list[int], channels: int) -> Values:
    noise = shapes["model.map_layer0.weight"][1]
    encoder = "standard"
    if any("_aux_residual." in name for name in shapes):
        encoder = "residual"
    elif any("_aux_skip." in name for name in shapes):
        encoder = "skip"
    taps = max((shape[-1] for name, shape in shapes.items() if name.endswith(".resample_filter")), default=2)
    skips = sum("_aux_conv.weight" in name for name in shapes)
    return {
        "channel_mult_noise": _multiple(noise, channels),
        "embedding_type": "fourier" if "model.map_noise.freqs" in shapes else "positional",
        "encoder_type": encoder,
        "decoder_type": "skip" if skips > 1 else "standard",
        "resample_filter": {2: [1, 1], 4: [1, 3, 3, 1]}[taps],
    }


def _count(shapes: Shapes, pattern: str) -> int:
    return 1 + max(int(match[1]) for name in shapes if (match := re.match(pattern, name)))


def _multiple(width: int, channels: int) -> int:
    if width % channels:
        raise MalformedError(f"its widths {width} and {channels} are no multiples of each other")
    return width // channels
