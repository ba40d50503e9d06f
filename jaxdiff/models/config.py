"""What a guided-diffusion UNet is made of: its configuration, and the list of layers that follows from it."""

import dataclasses
import json
from typing import Any, Literal, NamedTuple

__all__ = ["Block", "Layer", "Layout", "UNetConfig", "layout"]

NORM_GROUPS = 32
ATTENTION_ORDERS = ("legacy", "new")
MOST = {"image_size": 2**11, "num_res_blocks": 2**6, "patch_size": 2**6}
"""Largest values, well above those of any published network. Beyond them memory runs out, not always with an error."""
OWN = ("patch_size", "norm_groups")
"""Fields that guided-diffusion does not have."""
MOST_COUNT = 2**16
"""Largest value of every other count."""
MOST_MULTIPLE = 2**10
"""Largest of ``channel_mult``."""

Kind = Literal["conv", "res", "res_down", "res_up", "attention", "down", "up"]


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Architecture of a UNet of guided-diffusion's family.

    Level i works at 1/2^i of the image's size with ``channel_mult[i] · model_channels`` channels.

    Attributes:
        image_size: side of the square images that it was trained on, halved at each level but the first; any H×W that can
            be halved as often is accepted.
        in_channels: channels of x.
        out_channels: channels of the output, 2 · in_channels where the variance is learned.
        model_channels: channels of level multiple 1 (guided-diffusion's ``num_channels``).
        num_res_blocks: residual blocks a level on the way down; one more on the way up. A tuple has one number a level,
            as in Stable Diffusion's UNet.
        channel_mult: a multiple for each level, fractions allowed.
        attention_factors: downsampling factors that have self-attention (image_size / ``attention_resolutions``).
        num_heads: attention heads, where ``num_head_channels`` is None.
        num_head_channels: channels a head; decides the number of heads where given.
        num_heads_upsample: heads on the way up, where they differ.
        attention_order: "legacy" splits heads before q, k, v; "new" splits q, k, v first. Shapes cannot tell which.
        use_scale_shift_norm: the timestep scales and shifts the second norm; else it is added before it.
        resblock_updown: residual blocks that resample; else plain layers.
        conv_resample: plain resampling layers have a convolution; else 2×2 mean and nearest neighbour alone.
        num_classes: classes of a class-conditional network.
        dropout: rate in the residual blocks, in training.
        patch_size: pixels of a side of the patches that the network sees as one, with their channels side by side. Its first
            level then has 1/patch_size of the image's size, and factors count from there. 1 in guided-diffusion.
        norm_groups: groups of each group norm, 32 in guided-diffusion. With as many groups as channels, a norm removes the mean
            of every channel.

    Raises:
        ValueError: if the numbers do not fit together.
    """

    image_size: int = 64
    in_channels: int = 3
    out_channels: int = 3
    model_channels: int = 128
    num_res_blocks: int | tuple[int, ...] = 2
    channel_mult: tuple[float, ...] = (1, 2, 3, 4)
    attention_factors: tuple[int, ...] = (4, 8)
    num_heads: int = 1
    num_head_channels: int | None = None
    num_heads_upsample: int | None = None
    attention_order: Literal["legacy", "new"] = "legacy"
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    conv_resample: bool = True
    num_classes: int | None = None
    dropout: float = 0.0
    patch_size: int = 1
    norm_groups: int = NORM_GROUPS

    def __post_init__(self) -> None:
        for name in ("channel_mult", "attention_factors"):
            if not isinstance(getattr(self, name), list | tuple):
                raise ValueError(f"{name} must be a list of numbers, got {getattr(self, name)!r}.")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.num_res_blocks, list | tuple):
            # One number where all levels have it, so that a network has one description.
            each = tuple(self.num_res_blocks)
            same = len(each) == len(self.channel_mult) and all(number == each[0] for number in each)
            object.__setattr__(self, "num_res_blocks", each[0] if same else each)
        _validate(self)

    @property
    def depth(self) -> int:
        """How often the image is halved."""
        return len(self.channel_mult) - 1

    @property
    def multiple(self) -> int:
        """What height and width of an image must be multiples of."""
        return self.patch_size * 2**self.depth

    @property
    def learn_sigma(self) -> bool:
        """Whether the output has variance channels beside the mean's."""
        return self.out_channels == 2 * self.in_channels

    def channels(self, level: int) -> int:
        """Channels of a level (rounded down, as the original does)."""
        return int(self.channel_mult[level] * self.model_channels)

    def blocks(self, level: int) -> int:
        """Residual blocks of a level on the way down; it has one more on the way up."""
        return self.num_res_blocks if isinstance(self.num_res_blocks, int) else self.num_res_blocks[level]

    def heads(self, channels: int, *, up: bool = False) -> int:
        """Attention heads of a layer with so many channels."""
        if self.num_head_channels is not None:
            return channels // self.num_head_channels
        return self.num_heads if not up or self.num_heads_upsample is None else self.num_heads_upsample

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "UNetConfig":
        """The configuration that ``to_dict`` described.

        Raises:
            ValueError: if a name is unknown or a value is of the wrong kind.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict):
            raise ValueError("this is no UNet configuration: it has no named fields.")
        if unknown := sorted(set(values) - known):
            raise ValueError(f"a UNet has no {', '.join(unknown)}; its fields are {', '.join(sorted(known))}.")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"this is no UNet configuration: {error}.") from error

    def to_json(self) -> str:
        """Readable JSON.

        >>> UNetConfig.from_json(UNetConfig(num_classes=10).to_json()) == UNetConfig(num_classes=10)
        True
        """
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "UNetConfig":
        """The configuration that ``to_json`` described."""
        return cls.from_dict(json.loads(text))


def _validate(config: UNetConfig) -> None:
    _validate_kinds(config)
    object.__setattr__(config, "attention_factors", tuple(sorted(set(config.attention_factors))))
    if config.attention_order not in ATTENTION_ORDERS:
        raise ValueError(f"attention_order must be 'legacy' or 'new', got {config.attention_order!r}.")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {config.dropout}.")
    if any(factor & (factor - 1) for factor in config.attention_factors):
        raise ValueError(f"attention factors must be powers of two, got {config.attention_factors}.")
    if config.image_size % config.multiple:
        patches = f" after patches of {config.patch_size}" if config.patch_size > 1 else ""
        raise ValueError(
            f"image_size={config.image_size} cannot be halved {config.depth} times for {config.depth + 1} levels{patches}; "
            f"use a multiple of {config.multiple} or fewer channel_mult."
        )
    for level in range(config.depth + 1):
        channels = config.channels(level)
        if channels % config.norm_groups or channels < config.norm_groups:
            raise ValueError(
                f"level {level} would have {channels} channels, which {config.norm_groups} norm groups do not divide; "
                f"choose model_channels × channel_mult as multiples of {config.norm_groups}, or other norm_groups."
            )
    for block in layout(config):
        for layer in block:
            uneven = config.num_head_channels is not None and layer.channels_out % config.num_head_channels
            if layer.kind == "attention" and (layer.heads < 1 or layer.channels_out % layer.heads or uneven):
                raise ValueError(
                    f"{layer.channels_out} channels cannot be split into heads by num_heads={config.num_heads}, "
                    f"num_head_channels={config.num_head_channels}; choose a number that divides the channels."
                )


def _validate_kinds(config: UNetConfig) -> None:
    counts: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("image_size", "in_channels", "out_channels", "model_channels", "num_heads", *OWN)
    }
    counts |= _counts_of_blocks(config)
    for name in ("num_head_channels", "num_heads_upsample", "num_classes"):
        if getattr(config, name) is not None:
            counts[name] = getattr(config, name)
    for index, factor in enumerate(config.attention_factors):
        counts[f"attention_factors[{index}]"] = factor
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive whole number, got {value!r}.")
        most = MOST.get(name.partition("[")[0], MOST_COUNT)
        if value > most:
            raise ValueError(f"{name} must be at most {most}, got {value}.")
    for name in ("use_scale_shift_norm", "resblock_updown", "conv_resample"):
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name} must be true or false, got {getattr(config, name)!r}.")
    multiples = config.channel_mult
    if not multiples or not all(isinstance(m, int | float) and 0 < m <= MOST_MULTIPLE for m in multiples):
        raise ValueError(
            f"channel_mult needs a positive multiple, at most {MOST_MULTIPLE}, for each level, got {multiples}."
        )


def _counts_of_blocks(config: UNetConfig) -> dict[str, Any]:
    blocks = config.num_res_blocks
    if not isinstance(blocks, tuple):
        return {"num_res_blocks": blocks}
    if len(blocks) != len(config.channel_mult):
        raise ValueError(
            f"num_res_blocks={list(blocks)} has {len(blocks)} numbers for {len(config.channel_mult)} levels; give one a "
            "level, or one for all."
        )
    return {f"num_res_blocks[{level}]": number for level, number in enumerate(blocks)}


class Layer(NamedTuple):
    """One layer: its place in the state dict, what it is, its channels, and its heads if it attends."""

    name: str
    kind: Kind
    channels_in: int
    channels_out: int
    heads: int = 0


Block = tuple[Layer, ...]


class Layout(NamedTuple):
    """The blocks of a UNet in order; ``inputs`` each leave a skip connection that ``outputs`` take last to first."""

    inputs: tuple[Block, ...]
    middle: Block
    outputs: tuple[Block, ...]

    def __iter__(self):  # type: ignore[no-untyped-def]
        """Every block, first to last."""
        yield from self.inputs
        yield self.middle
        yield from self.outputs


def layout(config: UNetConfig) -> Layout:
    """The layers of a configuration, named as in guided-diffusion ("input_blocks.1.0" is here ``input_blocks_1_0``)."""
    seen = config.in_channels * config.patch_size**2
    inputs: list[Block] = [(Layer("input_blocks_0_0", "conv", seen, config.channels(0)),)]
    skips = [config.channels(0)]
    channels = config.channels(0)
    for level in range(config.depth + 1):
        for _ in range(config.blocks(level)):
            block = _named(f"input_blocks_{len(inputs)}", _work(config, channels, level))
            channels = block[-1].channels_out
            inputs.append(block)
            skips.append(channels)
        if level < config.depth:
            kind: Kind = "res_down" if config.resblock_updown else "down"
            inputs.append((Layer(f"input_blocks_{len(inputs)}_0", kind, channels, channels),))
            skips.append(channels)
    attention = Layer("middle_block_1", "attention", channels, channels, config.heads(channels))
    middle = (
        Layer("middle_block_0", "res", channels, channels),
        attention,
        Layer("middle_block_2", "res", channels, channels),
    )
    outputs: list[Block] = []
    for level in reversed(range(config.depth + 1)):
        for i in range(config.blocks(level) + 1):
            layers = _work(config, channels + skips.pop(), level, up=True)
            channels = layers[-1].channels_out
            if level and i == config.blocks(level):
                layers.append(Layer("", "res_up" if config.resblock_updown else "up", channels, channels))
            outputs.append(_named(f"output_blocks_{len(outputs)}", layers))
    return Layout(tuple(inputs), middle, tuple(outputs))


def _work(config: UNetConfig, channels_in: int, level: int, *, up: bool = False) -> list[Layer]:
    """A residual block, with attention after it where the level has it."""
    channels = config.channels(level)
    layers = [Layer("", "res", channels_in, channels)]
    if 2**level in config.attention_factors:
        layers.append(Layer("", "attention", channels, channels, config.heads(channels, up=up)))
    return layers


def _named(prefix: str, layers: list[Layer]) -> Block:
    return tuple(layer._replace(name=f"{prefix}_{i}") for i, layer in enumerate(layers))
