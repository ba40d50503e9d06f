"""From a checkpoint as its authors wrote it to a prior of jaxdiff: its configuration, and what converts its tensors."""

import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxdiff.models import PriorConfig
from jaxdiff.typing import PyTree
from weights_convert.architecture import edm_arguments
from weights_convert.published import Known, known_file
from weights_convert.sources import Source

__all__ = ["Options", "Prior", "prior_of"]


class Options(NamedTuple):
    """What the user says about a checkpoint; None = not said.

    Attributes:
        config: a configuration of score_sde, the scalings of a consistency model, or the preconditioner of EDM.
        image_size: side of the training images, pixels.
        num_heads: attention heads.
        num_head_channels: channels of an attention head.
    """

    config: str | None = None
    image_size: int | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None


class Prior(NamedTuple):
    """A prior that can be converted.

    Attributes:
        config: network and process.
        convert: makes parameters of the tensors.
        known: the published file that it is, if it is one.
        assumed: what neither file nor user said.
    """

    config: PriorConfig
    convert: Callable[[Mapping[str, np.ndarray], PriorConfig], PyTree]
    known: Known | None = None
    assumed: tuple[str, ...] = ()


def prior_of(source: Source, options: Options) -> Prior:
    """The configuration of a source, from the file, the published file of its name, and the user, who has the last word.

    Raises:
        ValueError: if something that decides the network or the process is not known, or does not fit.
    """
    known = known_file(source.name or os.path.basename(os.path.abspath(source.path)))
    if known is not None:
        said = {name: value for name, value in options._asdict().items() if value is not None}
        options = options._replace(**{name: known.values.get(name) for name in Options._fields} | said)
    if source.family not in MAKERS:
        raise ValueError(f"{source.path} is of {source.family}, whose networks are not converted yet.")
    prior = MAKERS[source.family](source, options)
    return prior._replace(known=known, assumed=() if known else prior.assumed)


def _hint(path: pathlib.Path, words: Mapping[str, str]) -> str | None:
    """What a word in a file's name says, if just one of them is there."""
    found = {words[word] for word in re.split(r"[^a-z0-9]+", path.name.lower()) if word in words}
    return found.pop() if len(found) == 1 else None


# --- one function a family -------------------------------------------------------------


EDM_FORMS = {"edm": "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond", "iddpm": "iDDPMPrecond"}


def _edm(source: Source, options: Options) -> Prior:
    from weights_convert.families import edm

    if source.config:
        if source.config["init_args"]:
            raise ValueError(f"{source.path}: its network was made with arguments that have no names; it is not read.")
        arguments = source.config["init_kwargs"]
        return Prior(edm.config_from(source.config["class_name"], arguments), edm.convert)
    form = options.config or ""
    if form.lower() not in EDM_FORMS:
        raise ValueError(
            f"{source.path} is a network of EDM without its configuration: say with --config what surrounds it, "
            f"{', '.join(EDM_FORMS)}."
        )
    found = edm_arguments(source.tensors.shapes | source.unused.shapes)
    values = dict(found["init_kwargs"])
    images = values.pop("in_channels")
    del values["out_channels"]
    arguments = values | {"img_channels": images, "model_type": found["class_name"]}
    return Prior(edm.config_from(EDM_FORMS[form.lower()], arguments), edm.convert)


def _ddpm(source: Source, options: Options) -> Prior:
    from weights_convert.families import ddpm

    if options.image_size is None:
        raise ValueError(f"{source.path}: shapes do not tell the size of the images; give it with --image-size.")
    assumed = ("noise prediction", "linear schedule of 1000 steps")
    return Prior(ddpm.infer(source.tensors.shapes, options.image_size), ddpm.convert, assumed=assumed)


def _diffusers(source: Source, options: Options) -> Prior:
    from weights_convert.families import diffusers

    unet, scheduler = source.config["unet"], source.config["scheduler"]
    if options.image_size is not None:
        unet = unet | {"sample_size": options.image_size}
    return Prior(diffusers.config_from(unet, scheduler or None), diffusers.convert)


MAKERS: dict[str, Callable[[Source, Options], Prior]] = {"edm": _edm, "ddpm": _ddpm, "diffusers": _diffusers}
"""Family → what makes its prior."""
