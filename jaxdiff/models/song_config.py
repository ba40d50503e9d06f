"""What a UNet of the DDPM and NCSN++ family is made of."""

import dataclasses
import math
from typing import Any, Literal

from jaxdiff.models.config import MOST, MOST_COUNT

__all__ = ["SongConfig"]

ACTIVATIONS = ("silu", "relu", "elu", "lrelu", "gelu", "mish")
CHOICES: dict[str, tuple[Any, ...]] = {
    "embedding": ("positional", "fourier", "none"),
    "label_rounding": ("edm", "score_sde", "diffusers"),
    "label_place": ("embedding", "noise"),
    "middle": ("attention", "plain", "none"),
    "activation": ACTIVATIONS,
    "outer_activation": ACTIVATIONS,
    "downsample_padding": (0, 1),
    "input_pyramid": ("none", "skip", "residual"),
    "combine": ("sum", "cat"),
    "output_pyramid": ("none", "skip", "residual"),
}
COUNTS = ("image_size", "in_channels", "out_channels", "stem_channels", "noise_channels", "embedding_channels")
OPTIONAL_COUNTS = ("num_classes", "num_heads", "head_channels")
FLAGS = (
    "attend_up_last", "sin_first", "null_label", "group_by_sum", "scale_shift", "resampled_shortcut", "center_input",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SongConfig:
    """Architecture of DDPM's UNet (Ho et al. 2020) and its descendants: DDPM++, NCSN++, EDM's networks, diffusers'.

    Level i works at 1/2^i of the image's size. Defaults are EDM's DDPM++ for FFHQ-64.

    Attributes:
        image_size: side of the training images; any H×W that can be halved as often is accepted.
        in_channels: channels of x.
        out_channels: channels of the output.
        stem_channels: channels of the first convolution.
        channels: channels of each level.
        num_res_blocks: residual blocks a level on the way down; one more on the way up.
        attend_down: levels that attend after every block on the way down.
        attend_up: levels that attend on the way up.
        attend_up_last: they do so after their last block only.
        middle: two blocks with attention between them, two plain ones, or none.
        num_heads: attention heads, where ``head_channels`` is None.
        head_channels: channels a head. Heads are rounded down, and a layer without heads does not attend.
        embedding: features of the noise label: "positional" sinusoids, "fourier" features of given frequencies, or "none".
        noise_channels: number of these features.
        sin_first: [sin, cos], not [cos, sin].
        freq_shift: 1 where the last sinusoid has frequency 1/10000, else 0.
        label_rounding: whose float32 steps these features take: those of "edm", "score_sde" or "diffusers".
        embedding_channels: channels of the embedding after its two layers.
        num_classes: classes of a class-conditional network.
        label_place: where the class enters: with the "noise" features, or with the "embedding" of two layers.
        null_label: an image may have no class.
        norm_groups: groups of the norms, at most.
        group_channels: channels of a group, at least.
        attention_groups: groups of the norm of attention, where they differ.
        middle_groups: the same of the middle; 0 for no norm.
        group_by_sum: diffusers' AttnSkipUpBlock2D takes its groups from C + S/4 for C channels and S of the skip.
        epsilon: of the norms.
        activation: in the blocks: "silu", "relu", "elu", "lrelu" (slope 0.2), "gelu" or "mish".
        outer_activation: in embedding and heads.
        scale_shift: the embedding scales and shifts the second norm; else it is added before it.
        residual_scale: divides the sum of each block and its shortcut.
        middle_scale: the same in the middle.
        downsample: how each level but the last is halved: "res" (in a residual block), "conv", or "plain".
        upsample: how each level but the first is doubled, listed from the second.
        downsample_padding: 1 for a zero around a strided convolution, 0 for zeros after the last row and column.
        resample_filter: taps of the filter, an even number; none for 2×2 means, nearest neighbours and strided convolutions.
        resampled_shortcut: blocks that resample have a 1×1 convolution on the shortcut even where channels stay.
        input_pyramid: smaller images that enter each level: a "skip" by a 1×1 convolution, or a "residual" of features.
        combine: how a skip joins: "sum" or "cat".
        output_pyramid: outputs of each level that are added up: "skip" of images, "residual" of features.
        center_input: the network computes 2x − 1 first.
        dropout: rate in the residual blocks, in training.

    Raises:
        ValueError: if the values do not fit together.
    """

    image_size: int = 64
    in_channels: int = 3
    out_channels: int = 3
    stem_channels: int = 128
    channels: tuple[int, ...] = (128, 256, 256, 256)
    num_res_blocks: int = 4
    attend_down: tuple[int, ...] = (2,)
    attend_up: tuple[int, ...] = (2,)
    attend_up_last: bool = True
    middle: Literal["attention", "plain", "none"] = "attention"
    num_heads: int | None = 1
    head_channels: int | None = None
    embedding: Literal["positional", "fourier", "none"] = "positional"
    noise_channels: int = 128
    sin_first: bool = True
    freq_shift: float = 1.0
    label_rounding: Literal["edm", "score_sde", "diffusers"] = "edm"
    embedding_channels: int = 512
    num_classes: int | None = None
    label_place: Literal["embedding", "noise"] = "noise"
    null_label: bool = True
    norm_groups: int = 32
    group_channels: int = 4
    attention_groups: int | None = None
    middle_groups: int | None = None
    group_by_sum: bool = False
    epsilon: float = 1e-6
    activation: str = "silu"
    outer_activation: str = "silu"
    scale_shift: bool = False
    residual_scale: float = math.sqrt(2)
    middle_scale: float = math.sqrt(2)
    downsample: tuple[str, ...] = ("res", "res", "res")
    upsample: tuple[str, ...] = ("res", "res", "res")
    downsample_padding: int = 1
    resample_filter: tuple[float, ...] = (1.0, 1.0)
    resampled_shortcut: bool = True
    input_pyramid: Literal["none", "skip", "residual"] = "none"
    combine: Literal["sum", "cat"] = "sum"
    output_pyramid: Literal["none", "skip", "residual"] = "none"
    center_input: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("channels", "attend_down", "attend_up", "downsample", "upsample", "resample_filter"):
            if not isinstance(getattr(self, name), list | tuple):
                raise ValueError(f"{name} must be a list, got {getattr(self, name)!r}.")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _validate_kinds(self)
        _validate(self)

    @property
    def depth(self) -> int:
        """How often the image is halved."""
        return len(self.channels) - 1

    @property
    def multiple(self) -> int:
        """What height and width of an image must be multiples of."""
        return 2**self.depth

    def heads(self, channels: int) -> int:
        """Attention heads of a layer with so many channels; 0 for no attention."""
        return (self.num_heads or 1) if self.head_channels is None else channels // self.head_channels

    def groups(self, channels: int) -> int:
        """Groups of a norm over so many channels."""
        return max(1, min(self.norm_groups, channels // self.group_channels))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SongConfig":
        """The configuration that ``to_dict`` described.

        Raises:
            ValueError: if a name is unknown or a value is of the wrong kind.

        >>> SongConfig.from_dict(SongConfig().to_dict()) == SongConfig()
        True
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict):
            raise ValueError("this is no network configuration: it has no named fields.")
        if unknown := sorted(set(values) - known):
            raise ValueError(f"this network has no {', '.join(unknown)}; its fields are {', '.join(sorted(known))}.")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"this is no network configuration: {error}.") from error


def _validate_kinds(config: SongConfig) -> None:
    counts: dict[str, Any] = {name: getattr(config, name) for name in (*COUNTS, "norm_groups", "group_channels")}
    counts["num_res_blocks"] = config.num_res_blocks
    counts |= {f"channels[{i}]": value for i, value in enumerate(config.channels)}
    counts |= {name: getattr(config, name) for name in OPTIONAL_COUNTS if getattr(config, name) is not None}
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST.get(name, MOST_COUNT):
            raise ValueError(
                f"{name} must be a positive whole number, at most {MOST.get(name, MOST_COUNT)}, got {value!r}."
            )
    for name in ("attention_groups", "middle_groups"):
        value = getattr(config, name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ValueError(f"{name} must be a whole number or null, got {value!r}.")
    for name in FLAGS:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name} must be true or false, got {getattr(config, name)!r}.")
    numbers = {name: getattr(config, name) for name in ("epsilon", "residual_scale", "middle_scale")}
    numbers |= {f"resample_filter[{i}]": value for i, value in enumerate(config.resample_filter)}
    for name, value in numbers.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e6:
            raise ValueError(f"{name} must be a positive number, got {value!r}.")
    for name, allowed in CHOICES.items():
        if getattr(config, name) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {getattr(config, name)!r}.")
    for name in ("dropout", "freq_shift"):
        value = getattr(config, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise ValueError(f"{name} must be a number in [0, 1], got {value!r}.")


def _validate(config: SongConfig) -> None:
    levels = range(len(config.channels))
    if not levels or len(levels) > 16:
        raise ValueError(f"channels needs one number for each of 1 to 16 levels, got {config.channels}.")
    for name in ("attend_down", "attend_up"):
        if any(level not in levels or isinstance(level, bool) for level in getattr(config, name)):
            raise ValueError(f"{name} must list levels 0 … {config.depth}, got {list(getattr(config, name))}.")
        object.__setattr__(config, name, tuple(sorted(set(getattr(config, name)))))
    for name in ("downsample", "upsample"):
        kinds = getattr(config, name)
        if len(kinds) != config.depth or any(kind not in ("res", "conv", "plain") for kind in kinds):
            raise ValueError(f"{name} must say res, conv or plain {config.depth} times, got {list(kinds)}.")
    if config.image_size % 2**config.depth:
        raise ValueError(
            f"image_size={config.image_size} cannot be halved {config.depth} times for {config.depth + 1} levels; "
            f"use a multiple of {2**config.depth} or fewer channels."
        )
    _validate_embedding(config)
    _validate_layers(config)


def _validate_embedding(config: SongConfig) -> None:
    if config.dropout == 1:
        raise ValueError("dropout must be in [0, 1), got 1.")
    taps = config.resample_filter
    if len(taps) % 2 or taps != taps[::-1]:
        raise ValueError(f"resample_filter must be symmetric with an even number of taps, got {list(taps)}.")
    if config.embedding == "fourier" and config.noise_channels % 2:
        raise ValueError(f"fourier features come in pairs; noise_channels={config.noise_channels} is odd.")
    if config.embedding == "positional" and config.noise_channels // 2 <= config.freq_shift:
        raise ValueError(f"noise_channels={config.noise_channels} is too small for sinusoids; use 4 at least.")
    if config.scale_shift and config.embedding == "none":
        raise ValueError("scale_shift needs an embedding to scale and shift by.")


def _validate_layers(config: SongConfig) -> None:
    from jaxdiff.models.song_layout import song_layout  # needs this module

    for layer in song_layout(config):
        for channels, groups in zip(layer.normed, layer.groups, strict=True):
            if groups and channels % groups:
                raise ValueError(
                    f"{groups} norm groups do not divide the {channels} channels of {layer.name}; choose other channels, "
                    "norm_groups or group_channels."
                )
        if layer.kind == "attention" and layer.after % layer.heads:
            raise ValueError(
                f"{layer.after} channels cannot be split into {layer.heads} heads; choose num_heads or head_channels."
            )
