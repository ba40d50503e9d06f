"""From a checkpoint as its authors wrote it to a prior of jaxdiff: its configuration, and what converts its tensors."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from jaxdiff.files import one_sentence
from jaxdiff.models import PriorConfig
from jaxdiff.typing import PyTree
from weights_convert import score_sde_configs
from weights_convert.architecture import edm_arguments
from weights_convert.families import consistency, ddpm, diffusers, edm, score_sde
from weights_convert.guided_diffusion import convert_tensors
from weights_convert.infer import Hidden, infer
from weights_convert.pickled import MalformedError
from weights_convert.published import Known, known_file
from weights_convert.sources import Source

__all__ = ["Options", "Prior", "idle_options", "prior_of"]


DAMAGE = (TypeError, KeyError, IndexError, AttributeError, OverflowError, ZeroDivisionError)
"""What values of wrong kinds in a configuration can raise."""
USED: dict[str, set[str]] = {
    "guided-diffusion": {"preset", *Hidden._fields},
    "consistency": {"config", "image_size", "num_heads", "num_head_channels", "num_heads_upsample"},
    "ddpm": {"image_size"},
    "diffusers": {"image_size"},
    "score-sde": {"config", "image_size"},
    "edm": {"config"},
}
"""The options that can decide something, by family."""


class Options(NamedTuple):
    """What the user says about a checkpoint; None = not said.

    Attributes:
        config: a configuration of score_sde, the kind of a consistency model, or the preconditioner of EDM.
        preset: a network of guided-diffusion.
        hidden: parts of the network and the process that shapes do not tell.
    """

    config: str | None = None
    preset: str | None = None
    hidden: Hidden = Hidden()


class Prior(NamedTuple):
    """A prior that can be converted.

    Attributes:
        config: network and process.
        convert: makes parameters of the tensors.
        assumed: what neither file nor user said.
        known: the published file that it is, if it is one.
    """

    config: PriorConfig
    convert: Callable[[Mapping[str, np.ndarray], PriorConfig], PyTree]
    assumed: tuple[str, ...] = ()
    known: Known | None = None


def prior_of(source: Source, options: Options) -> Prior:
    """The configuration of a source, from the file, the published file of its name, and the user, who has the last word.

    Raises:
        ValueError: if something that decides the network or the process is not known, or does not fit.
    """
    known = known_file(source.name or os.path.basename(os.path.abspath(source.path)))
    if known is not None:
        told = known.values
        hidden = {name: told.get(name) for name in Hidden._fields} | _said(options.hidden)
        options = Options(options.config or told.get("config"), options.preset or told.get("preset"), Hidden(**hidden))
    try:
        prior = MAKERS[source.family](source, options)
    except DAMAGE as error:
        raise MalformedError(f"its configuration is damaged ({one_sentence(error, 200)})") from error
    return prior._replace(known=known, assumed=() if known else prior.assumed)


def idle_options(source: Source, options: Options) -> list[str]:
    """The options that were given, but have no say about such a source, as the user writes them."""
    said = _said(options.hidden) | {n: v for n in ("config", "preset") if (v := getattr(options, n)) is not None}
    used = set() if source.family == "edm" and source.config else USED[source.family]
    return ["--" + {"num_steps": "steps"}.get(name, name).replace("_", "-") for name in said if name not in used]


def _said(hidden: Hidden) -> dict[str, Any]:
    return {name: value for name, value in hidden._asdict().items() if value is not None}


def _size(options: Options) -> int:
    if options.hidden.image_size is None:
        raise ValueError("shapes do not tell the size of its images; give it with --image-size.")
    return options.hidden.image_size


# --- one function a family -------------------------------------------------------------


EDM_FORMS = {"edm": "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond", "iddpm": "iDDPMPrecond"}


def _edm(source: Source, options: Options) -> Prior:
    if source.config:
        if source.config["init_args"]:
            raise ValueError("its network was made with arguments that have no names, and is not read.")
        return Prior(edm.config_from(source.config["class_name"], source.config["init_kwargs"]), edm.convert)
    form = (options.config or "").lower()
    if form not in EDM_FORMS:
        raise ValueError(
            f"it is a network of EDM without its configuration: say with --config what surrounds it, {', '.join(EDM_FORMS)}."
        )
    found = edm_arguments(source.tensors.shapes | source.unused.shapes)
    values = dict(found["init_kwargs"])
    arguments = {"img_channels": values.pop("in_channels"), "model_type": found["class_name"], **values}
    del arguments["out_channels"]
    return Prior(edm.config_from(EDM_FORMS[form], arguments), edm.convert)


def _ddpm(source: Source, options: Options) -> Prior:
    config = ddpm.infer(source.tensors.shapes, _size(options))
    return Prior(config, ddpm.convert, ("noise prediction", "linear schedule of 1000 steps"))


def _diffusers(source: Source, options: Options) -> Prior:
    unet, scheduler = source.config["unet"], source.config["scheduler"]
    if options.hidden.image_size is not None:
        unet = unet | {"sample_size": options.hidden.image_size}
    return Prior(diffusers.config_from(unet, scheduler or None), diffusers.convert)


def _score_sde(source: Source, options: Options) -> Prior:
    values, assumed = score_sde_configs.settings(source, options.config, options.hidden.image_size)
    return Prior(score_sde_configs.config_from(values), score_sde.convert, assumed)


def _consistency(source: Source, options: Options) -> Prior:
    kind, assumed = options.config, tuple[str, ...]()
    if kind is None and (kind := name_hint(source, consistency.KINDS)) is not None:
        assumed = (f"{kind}, after the file's name",)
    if kind not in consistency.KINDS:
        raise ValueError(
            "shapes do not tell a teacher from a consistency model: give --config edm for the teacher of EDM's form, cd or "
            "ct for a consistency model."
        )
    _size(options)
    if options.hidden.num_head_channels is None and options.hidden.num_heads is None:
        raise ValueError(
            "shapes do not tell its attention heads; give --num-head-channels (64 in the published files) or --num-heads."
        )
    config = consistency.infer(source.tensors.shapes, options.hidden, kind=kind)
    return Prior(config, consistency.convert, assumed)


def _guided_diffusion(source: Source, options: Options) -> Prior:
    found = infer(source.tensors.shapes, options.hidden, options.preset)

    def convert(tensors: Mapping[str, np.ndarray], config: PriorConfig) -> PyTree:
        return traverse_util.unflatten_dict(convert_tensors(tensors, config), sep="/")

    assumed = found.assumed if found.preset is None else (f"preset {found.preset}", *found.assumed)
    return Prior(found.config, convert, assumed)


def name_hint(source: Source, words: tuple[str, ...]) -> str | None:
    """Which of some words is in a file's name, if just one is: asked only where contents leave several."""
    name = (source.name or source.path.name).lower()
    found = set(re.split(r"[^a-z0-9]+", name)) & set(words)
    return found.pop() if len(found) == 1 else None


MAKERS: dict[str, Callable[[Source, Options], Prior]] = {
    "guided-diffusion": _guided_diffusion,
    "consistency": _consistency,
    "ddpm": _ddpm,
    "diffusers": _diffusers,
    "score-sde": _score_sde,
    "edm": _edm,
}
"""Family → what makes its prior."""
