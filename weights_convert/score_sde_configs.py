"""Which configuration of score_sde a file was trained with: it holds none, and shapes leave several."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdiff.models import PriorConfig, SongConfig
from jaxdiff.typing import Shape
from weights_convert.diffusers_folder import read_json
from weights_convert.families import rules, score_sde
from weights_convert.kinds import check_kinds
from weights_convert.published import score_sde_config, score_sde_configs, score_sde_folder
from weights_convert.score_sde_modules import architecture
from weights_convert.sources import Source

__all__ = ["config_from", "settings"]

Values = dict[str, Any]

SEEN = ("name", "nf", "ch_mult", "num_res_blocks", "embedding_type", "progressive", "progressive_input")
"""Fields that shapes tell."""
LEVELS = ("sigma_min", "sigma_max", "num_scales")
"""Fields that the buffer of noise levels tells."""
EXAMPLE: Values = score_sde.MODEL | {
    "image_size": 256, "num_channels": 3, "centered": False, "sde": "vesde", "continuous": True,
}  # fmt: skip
"""Fields that a JSON file may have, each with a value of the right kind."""


def config_from(values: Values) -> PriorConfig:
    """The prior of a configuration's fields, those of model, data and training together.

    Raises:
        ValueError: if a field is unknown or asks for what is not supported.
    """
    apart = ("image_size", "centered", "sde", "continuous", "num_channels")
    model = {name: value for name, value in values.items() if name not in apart}
    process = {name: values[name] for name in apart[:-1]}
    return score_sde.config_from(model, channels=values.get("num_channels", 3), **process)


def settings(source: Source, asked: str | None, image_size: int | None) -> tuple[Values, tuple[str, ...]]:
    """The fields of a configuration that fit a file, and what was assumed.

    Args:
        source: the file.
        asked: a configuration by name, or a JSON file with its fields.
        image_size: side of the training images, where the configuration's is not meant.

    Raises:
        ValueError: if several configurations fit, or none does and more has to be said.
    """
    folder = score_sde_folder(source.path)
    after = (f"configuration {folder}, after the folder's name",)
    if source.config.get("layout") == "flax":
        if (name := asked or folder) is None:
            raise ValueError("a flax checkpoint does not tell its configuration; give --config, such as ve/NAME.")
        return _named(name) | ({} if image_size is None else {"image_size": image_size}), () if asked else after
    shapes = source.tensors.shapes
    levels = {name: source.config[name] for name in LEVELS if name in source.config}
    if asked is not None:
        values = _named(asked) | levels | ({} if image_size is None else {"image_size": image_size})
        # A whole configuration is the user's word. A published one may have been changed a little for another network.
        if asked.endswith(".json") or _is_network(values, shapes):
            return values, ()
    seen = architecture(shapes)
    if asked is not None:
        return _adapted(_named(asked), seen, levels, image_size), ()
    fits = {name: values for name, values in score_sde_configs().items() if _fits(values, seen, levels)}
    processes = {
        tuple(str(values[n]) for n in ("sde", "continuous", "centered", "image_size")) for values in fits.values()
    }
    if len(processes) == 1:
        name, values = next(iter(fits.items()))
        return _adapted(values, seen, levels, image_size), (f"configuration {name}",)
    if folder in fits:
        return _adapted(fits[folder], seen, levels, image_size), after
    if fits:
        raise ValueError(f"it could be of the configurations {', '.join(fits)} of score_sde; say which with --config.")
    if seen["embedding_type"] == "fourier":
        base = "ve/ffhq_256_ncsnpp_continuous"
        return _adapted(_named(base), seen, levels, image_size), (f"the process of {base}",)
    raise ValueError(
        "it is no network of a published configuration of score_sde: give --config with one that it was made from, such as "
        "vp/ddpm/celebahq or vp/cifar10_ddpmpp_continuous, and --image-size."
    )


def _named(asked: str) -> Values:
    if not asked.endswith(".json"):
        return score_sde_config(asked)[1]
    values = read_json(pathlib.Path(asked))
    parts = {"model": None, "data": ("image_size", "centered", "num_channels"), "training": ("sde", "continuous")}
    for part, wanted in parts.items():
        if isinstance(inner := values.pop(part, None), dict):
            values |= {name: value for name, value in inner.items() if wanted is None or name in wanted}
    if missing := [name for name in ("image_size", "centered", "sde", "continuous") if name not in values]:
        raise ValueError(f"{asked} has no {', '.join(missing)}, which a configuration of score_sde needs.")
    check_kinds(values, EXAMPLE, asked)
    return values


def _is_network(values: Values, shapes: Mapping[str, Shape]) -> bool:
    """Whether a configuration's network has exactly the tensors of a file."""
    try:
        config = config_from(values).unet
    except ValueError:  # such as an image that is too small for a published network
        return False
    assert isinstance(config, SongConfig)
    return rules.torch_shapes(score_sde.names(config), config) == dict(shapes)


def _fits(values: Values, seen: Values, levels: Values) -> bool:
    if any(values.get(name, seen[name]) != seen[name] for name in SEEN):
        return False
    if any(abs(values[name] - value) > 1e-3 * abs(value) for name, value in levels.items()):
        return False
    return seen["attn_levels"] == _attends(values, values["image_size"])


def _attends(values: Values, image_size: int) -> list[int]:
    return [i for i in range(len(values["ch_mult"])) if image_size >> i in values["attn_resolutions"]]


def _adapted(values: Values, seen: Values, levels: Values, image_size: int | None) -> Values:
    """A configuration with what the file itself tells in the place of its own fields."""
    size = image_size
    if size is None:
        if not _fits(values, seen, {}):
            raise ValueError(
                "its network is another than the configuration's, so that the size of its images is not known; give it with "
                "--image-size."
            )
        size = values["image_size"]
    told = {name: seen[name] for name in (*SEEN, "conditional", "num_channels")}
    if seen["progressive_input"] == "none" and values.get("progressive_input", "none") != "none":
        told["fir"] = False
    attends = [size >> level for level in seen["attn_levels"]]
    return values | told | levels | {"image_size": size, "attn_resolutions": attends}
