"""The architecture of a guided-diffusion checkpoint, from the names and shapes of its tensors.

Everything but the image size, the number of attention heads, the order of attention and the diffusion process can be
seen. What cannot is taken from the options, or from the preset that the visible part equals, or is asked for.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from jaxdiff.models import PRESETS, PriorConfig, UNetConfig
from jaxdiff.models.config import NORM_GROUPS
from jaxdiff.typing import Shape

__all__ = ["Hidden", "Inferred", "flags", "infer", "matching_presets"]

INVISIBLE: dict[str, Any] = {
    "image_size": 64,
    "num_heads": 1,
    "num_head_channels": None,
    "num_heads_upsample": None,
    "attention_order": "legacy",
    "dropout": 0.0,
}
"""What shapes cannot tell, with the value that stands for all of them when visible parts are compared."""


class Hidden(NamedTuple):
    """What the user says about the parts that shapes cannot tell; None = not said."""

    image_size: int | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None
    num_heads_upsample: int | None = None
    attention_order: Literal["legacy", "new"] | None = None
    schedule: str | None = None
    num_steps: int | None = None
    prediction: str | None = None
    variance: str | None = None
    rescale_timesteps: bool | None = None


class Inferred(NamedTuple):
    """The prior's configuration, the preset that helped, and the facts that were assumed."""

    config: PriorConfig
    preset: str | None
    assumed: tuple[str, ...]


def infer(shapes: Mapping[str, Shape], hidden: Hidden, preset: str | None = None) -> Inferred:
    """The configuration that tensors of these names and shapes (as in the original) were made with.

    Args:
        shapes: shape of each tensor by its name in guided-diffusion.
        hidden: what the user says; it wins over any preset.
        preset: name of the preset to take the rest from; by default the one that the visible part equals.

    Raises:
        ValueError: if this is no such network, or something that shapes cannot tell is needed.
    """
    visible = _visible(shapes)
    if visible.in_channels == 6 and visible.out_channels in (3, 6):
        raise ValueError(
            "this network takes six channels, as guided-diffusion's upsamplers do: they need a small image beside the noisy "
            "one, and are not read."
        )
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}.")
    matches = matching_presets(visible)
    if preset is not None and preset not in matches:
        what = _differences(visible, PRESETS[preset].adm)
        raise ValueError(f"this checkpoint is not a {preset} network: {what}; leave out --preset, or give another.")
    preset = preset or (matches[0] if len(matches) == 1 else None)
    known = None if preset is None else PRESETS[preset]
    given = {name: getattr(hidden, name) for name in hidden._fields if getattr(hidden, name) is not None}
    if "num_heads" in given and "num_head_channels" in given:
        raise ValueError("give --num-heads or --num-head-channels, not both: either tells the other.")
    if "num_heads" in given:
        given["num_head_channels"] = None
    architecture = {name: getattr(known.adm, name) for name in INVISIBLE} if known else {}
    architecture |= {name: given[name] for name in INVISIBLE if name in given}
    assumed = () if known else _assume(architecture, preset is None and len(matches) > 1, matches)
    unet = dataclasses.replace(visible, **architecture)
    process = {f: getattr(known, f) for f in _PROCESS} if known else {"variance": _default_variance(visible)}
    process |= {name: given[name] for name in _PROCESS if name in given}
    if known is None:
        assumed += tuple(_describe_process(PriorConfig(unet, **process), given))
    return Inferred(PriorConfig(unet, **process), preset, assumed)


_PROCESS = ("schedule", "num_steps", "prediction", "variance", "rescale_timesteps")


def _default_variance(config: UNetConfig) -> str:
    return "learned_range" if config.learn_sigma else "fixed_large"


def _assume(architecture: dict[str, Any], ambiguous: bool, matches: list[str]) -> tuple[str, ...]:
    """Default the harmless, ask for what would silently give a wrong network."""
    needed = []
    if "image_size" not in architecture:
        needed.append("--image-size")
    if "num_heads" not in architecture and "num_head_channels" not in architecture:
        needed.append("--num-heads or --num-head-channels")
    if needed:
        which = f"it could be any of the presets {', '.join(matches)}" if ambiguous else "it is none of the presets"
        raise ValueError(
            f"shapes cannot tell everything about this checkpoint ({which}): give {' and '.join(needed)} as it was "
            "trained with, or --preset."
        )
    if "attention_order" in architecture:
        return ()
    return ("attention order legacy",)


def _describe_process(config: PriorConfig, given: Mapping[str, Any]) -> list[str]:
    said = {
        "schedule": f"{config.schedule} schedule",
        "num_steps": f"{config.num_steps} steps",
        "prediction": f"{config.prediction} prediction",
        "variance": f"{config.variance} variance",
    }
    return [text for name, text in said.items() if name not in given]


def matching_presets(config: UNetConfig) -> list[str]:
    """Presets whose visible part equals that of ``config``."""
    guided = {name: preset.unet for name, preset in PRESETS.items() if isinstance(preset.unet, UNetConfig)}
    return [name for name, unet in guided.items() if not _differences(config, unet)]


def _differences(config: UNetConfig, other: UNetConfig) -> str:
    mine = {**config.to_dict(), **INVISIBLE}
    yours = {**other.to_dict(), **INVISIBLE}
    names = [name for name in mine if mine[name] != yours[name]]
    return ", ".join(f"{name} is {mine[name]}, not {yours[name]}" for name in names)


# --- what shapes tell ------------------------------------------------------------------


def _visible(shapes: Mapping[str, Shape]) -> UNetConfig:
    needed = ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight", "middle_block.1.qkv.weight")
    if missing := [name for name in needed if name not in shapes]:
        raise ValueError(
            f"this is no guided-diffusion UNet: it has no {', '.join(missing)}; "
            f"its first tensors are {', '.join(sorted(shapes)[:4]) or 'none'}."
        )
    try:
        return _read_off(shapes)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"this is no whole guided-diffusion UNet: {error} is missing or of another form.") from error


def _read_off(shapes: Mapping[str, Shape]) -> UNetConfig:
    model_channels = shapes["time_embed.0.weight"][1]
    inputs, outputs = _block_count(shapes, "input_blocks"), _block_count(shapes, "output_blocks")
    if inputs != outputs:
        raise ValueError(f"this is no whole guided-diffusion UNet: {inputs} input blocks but {outputs} output blocks.")
    resample, first = _resampling(shapes, inputs)
    levels, halvings = len(first), len(first) - 1
    blocks = tuple(end - start - 1 for start, end in zip(first, [*first[1:], inputs + 1], strict=True))
    if min(blocks) < 1:
        raise ValueError(f"this is no whole guided-diffusion UNet: {inputs} blocks do not fill {levels} levels.")
    widths = [shapes[f"input_blocks.{index}.0.out_layers.3.weight"][0] for index in first]
    emb = shapes[f"input_blocks.{first[0]}.0.emb_layers.1.weight"][0]
    labels = shapes.get("label_emb.weight")
    return UNetConfig(
        image_size=2**halvings,  # the smallest that can be; shapes do not tell it
        in_channels=shapes["input_blocks.0.0.weight"][1],
        out_channels=shapes["out.2.weight"][0],
        model_channels=model_channels,
        num_res_blocks=blocks,
        channel_mult=tuple(_multiple(width, model_channels) for width in widths),
        attention_factors=tuple(2**i for i in range(levels) if f"input_blocks.{first[i]}.1.qkv.weight" in shapes),
        use_scale_shift_norm=emb == 2 * widths[0],
        resblock_updown=resample == "resblock",
        conv_resample=resample != "pool",
        num_classes=None if labels is None else labels[0],
    )


def _block_count(shapes: Mapping[str, Shape], prefix: str) -> int:
    return 1 + max((int(match[1]) for name in shapes if (match := re.match(rf"{prefix}\.(\d+)\.", name))), default=-1)


def _resampling(shapes: Mapping[str, Shape], blocks: int) -> tuple[str, list[int]]:
    """How the network resamples, and the input block that each level starts with.

    Only the way up tells a resampling residual block from another. There a level has as many blocks as on the way down,
    where its last block resamples.
    """

    def found(pattern: str) -> list[int]:
        return sorted({int(match[1]) for name in shapes if (match := re.match(pattern, name))})

    if downs := found(r"input_blocks\.(\d+)\.0\.op\.weight$"):
        return "conv", [1, *(index + 1 for index in downs)]
    if ups := found(r"output_blocks\.(\d+)\.[1-9]\.in_layers\.2\.weight$"):
        return "resblock", [1, *(blocks - index for index in reversed(ups))]
    downs = sorted(set(range(blocks)) - set(found(r"input_blocks\.(\d+)\.")))
    return "pool", [1, *(index + 1 for index in downs)]


def _multiple(width: int, model_channels: int) -> float:
    if width % model_channels == 0:
        return width // model_channels
    multiple = width / model_channels
    # The original rounds multiple × channels down; a quotient that rounded down would lose a channel.
    return multiple if int(multiple * model_channels) == width else (width + 0.5) / model_channels


# --- as guided-diffusion says it -------------------------------------------------------------


def check_published(config: PriorConfig) -> None:
    """See that guided-diffusion has such a network.

    Raises:
        ValueError: if it has not: the network works on patches, or has other norm groups.
    """
    if config.adm.patch_size > 1 or config.adm.norm_groups != NORM_GROUPS:
        raise ValueError("guided-diffusion has no network of patches or of other norm groups; write --to safetensors.")


def flags(config: PriorConfig) -> str:
    """The flags of guided-diffusion's scripts that make this network and process."""
    unet = config.adm
    blocks = unet.num_res_blocks if isinstance(unet.num_res_blocks, tuple) else (unet.num_res_blocks,)
    values: dict[str, Any] = {
        "image_size": unet.image_size,
        "num_channels": unet.model_channels,
        "channel_mult": ",".join(f"{m:g}" for m in unet.channel_mult),
        "num_res_blocks": ",".join(map(str, blocks)),
        "attention_resolutions": ",".join(str(unet.image_size // factor) for factor in unet.attention_factors),
        "num_heads": unet.num_heads,
        "num_head_channels": -1 if unet.num_head_channels is None else unet.num_head_channels,
        "num_heads_upsample": -1 if unet.num_heads_upsample is None else unet.num_heads_upsample,
        "use_new_attention_order": unet.attention_order == "new",
        "use_scale_shift_norm": unet.use_scale_shift_norm,
        "resblock_updown": unet.resblock_updown,
        "learn_sigma": unet.learn_sigma,
        "class_cond": unet.num_classes is not None,
        "dropout": unet.dropout,
        "diffusion_steps": config.num_steps,
        "noise_schedule": config.schedule,
        "predict_xstart": config.prediction == "x0",
        "rescale_timesteps": config.rescale_timesteps,
    }
    return " ".join(f"--{name} {value}" for name, value in values.items())
