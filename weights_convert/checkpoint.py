"""``jaxdiff convert SRC OUT``: any public checkpoint becomes a prior of jaxdiff. The family is told from the contents."""

import argparse
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxdiff import hub
from jaxdiff.checkpoints import check_target, denoiser_of, save_checkpoint
from jaxdiff.files import one_sentence
from jaxdiff.models import PriorConfig
from jaxdiff.models.summary import summary
from jaxdiff.typing import PyTree
from weights_convert import denoise_check, guided_diffusion
from weights_convert.back import FORMS, write_back
from weights_convert.infer import Hidden
from weights_convert.pickled import MalformedError
from weights_convert.priors import Options, Prior, idle_options, prior_of
from weights_convert.reader import sha256
from weights_convert.recognise import ABOUT, FAMILIES
from weights_convert.sources import Source, named, read_source

__all__ = ["add_arguments", "convert_file", "convert_source", "family_named", "run"]

LICENCE_NOTE = guided_diffusion.LICENCE_NOTE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the subcommand."""
    parser.add_argument("file", metavar="SRC", help="checkpoint file, folder of diffusers, or hf:owner/repo")
    parser.add_argument("out", metavar="OUT", help="folder (or .safetensors file) to make")
    parser.add_argument("--format", choices=("orbax", "safetensors"), help="default: orbax, or as OUT's ending says")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="type on disk")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier conversion wrote to OUT")
    parser.add_argument("--licence", help="note on the weights' terms, for the JSON")
    parser.add_argument("--label", type=int, help="class that the check uses, of a class-conditional prior (default 0)")
    parser.add_argument("--no-check", action="store_true", help="do not look at what the prior makes of a picture")
    parser.add_argument("--to", choices=FORMS, help="the other way: SRC is a prior, and OUT is for another code")
    found = parser.add_argument_group("where contents leave a choice")
    found.add_argument("--family", help=f"one of {', '.join(FAMILIES)}")
    found.add_argument("--config", help="of score_sde (a name, or JSON); edm, cd or ct; or edm, vp, ve or iddpm")
    found.add_argument("--key", help="where the state dict is nested in SRC, such as model or ema.state_dict")
    guided_diffusion.add_choices(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, check and write; print what was found. Returns the exit code.

    Raises:
        ValueError: if anything about the source, the options or the place to write to is wrong.
    """
    if args.to is not None:
        family, out = family_named(args.family), pathlib.Path(args.out)
        print(write_back(args.file, out, args.to, family, overwrite=args.overwrite))
        return 0
    out = guided_diffusion.target(args.out, args.format)
    path, name, origin = _located(args.file)
    place, inside = (pathlib.Path(os.path.realpath(p)) for p in (out, path))
    if place in (inside, *inside.parents):
        raise ValueError(f"{args.file} is {out} or lies in it, and would be lost; choose another OUT.")
    check_target(out, overwrite=args.overwrite)
    source = dataclasses.replace(read_source(path, key=args.key, family=family_named(args.family)), name=name)
    prior, params = convert_source(source, _options(args))
    print(_about(source, prior, params))
    if idle := idle_options(source, _options(args)):
        print(f"without effect: {', '.join(idle)}; the file tells this itself, or its family has no such choice")
    if not args.no_check:
        _look(params, prior.config, args.label)
    metadata = _metadata(source, prior, params, args.licence, origin)
    save_checkpoint(out, params, prior.config, metadata=metadata, dtype=args.dtype, overwrite=args.overwrite)
    print(guided_diffusion.written(out))
    return 0


def _options(args: argparse.Namespace) -> Options:
    return Options(args.config, args.preset, Hidden(**{name: getattr(args, name) for name in Hidden._fields}))


def convert_file(path: pathlib.Path, out: pathlib.Path, *, name: str, origin: Mapping[str, str]) -> None:
    """Convert a file or folder whose contents say all that is needed.

    Args:
        path: the file or folder.
        out: folder of the prior.
        name: the name that it was published under.
        origin: where it comes from, for the JSON.

    Raises:
        ValueError: if it cannot be read, or leaves a choice that ``jaxdiff convert`` has an option for.
    """
    source = dataclasses.replace(read_source(path), name=name)
    prior, params = convert_source(source, Options())
    save_checkpoint(out, params, prior.config, metadata=_metadata(source, prior, params, None, origin))


def _located(text: str) -> tuple[pathlib.Path, str, dict[str, str]]:
    """Where a source is, its published name, and what is to be said about its origin."""
    if not hub.is_address(text):
        return pathlib.Path(text), "", {}
    address = hub.parse_address(text)
    found = hub.fetch(address)
    name = (address.file or address.repo).rpartition("/")[2]
    return found.path, name, {"hub": text, "commit": found.commit}


def family_named(name: str | None) -> str | None:
    """A family in any of the spellings of its name; None for None."""
    known = {"score_sde": "score-sde", "pesser": "ddpm", "consistency-models": "consistency", "adm": "guided-diffusion"}
    return None if name is None else known.get(name.replace("_", "-"), known.get(name, name.replace("_", "-")))


def convert_source(source: Source, options: Options) -> tuple[Prior, PyTree]:
    """The prior of a source and its parameters, nested by name, float32.

    Raises:
        ValueError: if the source does not say enough, or is not the network that it says.
    """
    with named(source.path):
        try:
            prior = prior_of(source, options)
            return prior, prior.convert(source.tensors, prior.config)
        except MalformedError:
            raise
        except ValueError as error:
            raise ValueError(f"{source.path}: {one_sentence(error, 1500)}") from error


def _about(source: Source, prior: Prior, params: PyTree) -> str:
    count = _count(params)
    where = f" under {source.key!r}" if source.key else ""
    lines = [f"{source.path}: {ABOUT[source.family]}; {len(source.tensors)} tensors, {count:,} parameters{where}"]
    if prior.known is not None:
        lines.append(f"published by {prior.known.group}: {prior.known.source}; {prior.known.licence}")
    if prior.assumed:
        lines.append(f"assumed: {', '.join(prior.assumed)}")
    if source.dropped:
        shown = ", ".join(source.dropped[:6]) + (", …" if len(source.dropped) > 6 else "")
        lines.append(f"not used: {shown}")
    lines += [f"{name}: {text}" for name, text in summary(prior.config).items()]
    return "\n".join(lines)


def _look(params: PyTree, config: PriorConfig, label: int | None) -> None:
    if config.unet.num_classes is not None and label is None:
        label = 0
    denoiser = denoiser_of(params, config, label=label)
    picture = denoise_check.test_picture(config.unet.image_size, config.unet.in_channels)
    found = denoise_check.gains(denoiser, picture)
    print(denoise_check.report(found))
    if (sentence := denoise_check.warning(found)) is not None:
        print(sentence)


def _metadata(
    source: Source, prior: Prior, params: PyTree, licence: str | None, origin: Mapping[str, str]
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "file": source.name or source.path.name,
        "family": source.family,
        "key": source.key,
        **origin,
    }
    if source.path.is_file():
        about |= {"bytes": os.path.getsize(source.path), "sha256": sha256(source.path)}
    if prior.known is not None:
        about["published"] = prior.known.source
    note = licence or (prior.known.licence if prior.known else LICENCE_NOTE)
    return {"parameters": _count(params), "source": about, "licence": note}


def _count(params: PyTree) -> int:
    return sum(math.prod(value.shape) for value in jax.tree.leaves(params))
