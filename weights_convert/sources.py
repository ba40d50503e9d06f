"""Any public checkpoint as one record: its family, named tensors, configuration, and what is knowingly left out."""

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from jaxdiff.files import one_sentence, open_regular, quiet
from weights_convert import diffusers_folder, flax_msgpack, score_sde
from weights_convert.arrays import Tensors
from weights_convert.containers import Saved, load_saved
from weights_convert.foreign import FOREIGN, plain_pickle
from weights_convert.modules import is_module, read_module
from weights_convert.pickled import MalformedError, Record, Tensor
from weights_convert.recognise import FAMILIES, Seen, recognise
from weights_convert.state_dict import check_names, find_state

__all__ = ["Source", "named", "read_source"]

Path = str | os.PathLike[str]

UNUSED = re.compile(r"(.*\.)?(resample_filter|map_augment\.weight|sigmas|num_batches_tracked|u)")
"""Tensors that a network does not need: constants that its configuration tells, and the label of augmentation.

So is a single number, such as a count of steps that was saved beside the weights: no network has a parameter of that shape.
"""


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint as its authors wrote it.

    Attributes:
        path: the file or folder.
        family: whose layout it has, one of ``recognise.FAMILIES``.
        tensors: arrays by torch's names, read when they are asked for.
        config: what the file says about the network and its process; empty where it says nothing.
        dropped: names of tensors and entries that are knowingly unused.
        key: where in the file the tensors were.
        name: the name that it was published under, where the file's is another.
        unused: the tensors among ``dropped`` that are constants of the network, such as resampling filters.
    """

    path: pathlib.Path
    family: str
    tensors: Tensors
    config: dict[str, Any]
    dropped: tuple[str, ...] = ()
    key: str = ""
    name: str = ""
    unused: Tensors = dataclasses.field(default_factory=lambda: Tensors({}))


def read_source(path: Path, *, key: str | None = None, family: str | None = None) -> Source:
    """Read a checkpoint of any known family; nothing in it is executed, and no number is read yet.

    Args:
        path: a file, or a folder of diffusers.
        key: where the state dict is nested; by default a usual place, averaged weights before others.
        family: the family, where the contents leave several.

    Raises:
        ValueError: if it cannot be read, is damaged, asks for code, or is of no known or of an ambiguous family.
    """
    path = pathlib.Path(path)
    with named(path):
        if family is not None and family not in FAMILIES:
            raise MalformedError(f"there is no family {family!r}; choose one of {', '.join(FAMILIES)}")
        source = _read_folder(path, key, family) if path.is_dir() else _read_file(path, key, family)
        check_names(source.tensors)
    return _without_unused(source)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file is said in one sentence that names it; so for numbers, which are read later.

    Raises:
        ValueError: in place of any error about the file.
    """
    try:
        with quiet():
            yield
    except MalformedError as error:
        raise ValueError(f"{path} cannot be read: {one_sentence(error)}.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror or error}.") from error


def _without_unused(source: Source) -> Source:
    unused = [name for name, shape in source.tensors.shapes.items() if UNUSED.fullmatch(name) or shape == ()]
    kept = source.tensors.renamed({name: name for name in source.tensors if name not in set(unused)})
    left = source.tensors.renamed({name: name for name in unused})
    return dataclasses.replace(source, tensors=kept, dropped=(*unused, *source.dropped), unused=left)


# --- folders -----------------------------------------------------


def _read_folder(path: pathlib.Path, key: str | None, family: str | None) -> Source:
    if key is not None:
        raise MalformedError("it is a folder, which has no keys; leave out --key")
    place = diffusers_folder.unet_folder(path)
    config = {
        "unet": diffusers_folder.with_defaults(diffusers_folder.read_json(place / "config.json")),
        "scheduler": _scheduler(path),
    }
    tensors, files = diffusers_folder.read_unet(place)
    tensors, others = _under(tensors, recognise(tensors.shapes, config, family or "diffusers"))
    return Source(path, "diffusers", tensors, config, others, key=", ".join(files))


def _scheduler(folder: pathlib.Path) -> dict[str, Any]:
    for place in (folder / "scheduler", folder, folder.parent / "scheduler", folder.parent):
        if (place / "scheduler_config.json").is_file():
            return diffusers_folder.read_json(place / "scheduler_config.json")
    return {}


# --- files -------------------------------------------------------


def _read_file(path: pathlib.Path, key: str | None, family: str | None) -> Source:
    with open_regular(path) as file:
        head = file.read(16)
        file.seek(0)
        if flax_msgpack.looks_like_msgpack(head):
            return _read_flax(path, file, family)
        saved = load_saved(file, FOREIGN, plain_pickle)
    found = _find(saved, key)
    tensors = saved.tensors(found.tensors)
    seen = recognise(tensors.shapes, found.config, family)
    tensors, others = _under(tensors, seen)
    config = dict(found.config)
    if seen.family == "diffusers":
        config = _beside(path)
        tensors = diffusers_folder.fix_names(tensors)
    return Source(path, seen.family, tensors, config, (*others, *found.others), found.key)


def _read_flax(path: pathlib.Path, file: IO[bytes], family: str | None) -> Source:
    tensors, key, others = flax_msgpack.read_params(file, os.stat(path).st_size)
    seen = recognise(tensors.shapes, {}, family)
    return Source(path, seen.family, tensors, {"layout": "flax"}, tuple(others), key)


def _beside(path: pathlib.Path) -> dict[str, Any]:
    """The configuration that lies beside a weight file of diffusers."""
    if not (path.parent / "config.json").is_file():
        raise MalformedError("it is a weight file of diffusers without config.json beside it; give the whole folder")
    unet = diffusers_folder.with_defaults(diffusers_folder.read_json(path.parent / "config.json"))
    return {"unet": unet, "scheduler": _scheduler(path.parent)}


class _Found(NamedTuple):
    tensors: dict[str, Tensor]
    key: str
    config: dict[str, Any]
    others: tuple[str, ...]


def _find(saved: Saved, key: str | None) -> _Found:
    """The network in what a file holds: a module, averaged weights without names, or a state dict."""
    value = saved.value
    if key is None and score_sde.names_averages(value):
        tensors = score_sde.averaged(value)
        config = score_sde.levels_of(saved, tensors["sigmas"]) if "sigmas" in tensors else {}
        return _Found(tensors, "ema", config, _others(value, ("ema", "model")))
    place, where = _module(value, key)
    if place is not None:
        module = read_module(place)
        return _Found(module.tensors, where, module.config, _others(value, (where,)))
    described, where = find_state(value, key)
    described = score_sde.unprefixed(described)
    config = score_sde.levels_of(saved, described["sigmas"]) if "sigmas" in described else {}
    return _Found(described, where, config, _others(value, (where.partition(".")[0],)) if where else ())


def _module(value: Any, key: str | None) -> tuple[Record | None, str]:
    """A pickled module: the value itself, or one of its usual entries, averaged weights first."""
    if is_module(value):
        return value, ""
    items = value.items if isinstance(value, Record) else value
    if not isinstance(items, dict):
        return None, ""
    for name in ("ema", "net", "model", "G_ema") if key is None else (key,):
        if is_module(items.get(name)):
            return items[name], name
    return None, ""


def _others(value: Any, used: tuple[str, ...]) -> tuple[str, ...]:
    items = value.items if isinstance(value, Record) else value
    names = items if isinstance(items, dict) else ()
    return tuple(one_sentence(name, 40) for name in names if isinstance(name, str) and name not in used)


def _under(tensors: Tensors, seen: Seen) -> tuple[Tensors, tuple[str, ...]]:
    """The tensors of the network, without the prefix that they have in the file; and the names of the others.

    A network of EDM is named with the preconditioner around it, in the file or not.
    """
    inside = "model." if seen.family == "edm" else ""
    if seen.prefix == inside:
        return tensors, ()
    names = {name: inside + name.removeprefix(seen.prefix) for name in tensors if name.startswith(seen.prefix)}
    return tensors.renamed(names), tuple(name for name in tensors if name not in names)
