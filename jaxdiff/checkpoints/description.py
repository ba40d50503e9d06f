"""The description of a prior, ``prior.json``: what it says, its checksums, and what is checked against it."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.files import one_sentence, open_regular, parse_json
from jaxdiff.models import PriorConfig
from jaxdiff.typing import Shape

__all__ = [
    "DESCRIPTION",
    "FORMAT",
    "Description",
    "Named",
    "Path",
    "check_files",
    "check_parameters",
    "checksum_of",
    "parse",
    "parts_of",
    "read",
    "write",
]

DESCRIPTION = "prior.json"
FORMAT = "jaxdiff prior"
MAX_DESCRIPTION = 2**24
"""Bytes; that of a large network takes some thousands."""

Path = str | os.PathLike[str]
Named = dict[str, np.ndarray]
"""Parameters by name."""
Description = dict[str, Any]


def read(path: pathlib.Path) -> tuple[PriorConfig, dict[str, Any]]:
    """What a description says of the prior, and its further facts.

    Raises:
        ValueError: if it cannot be read, is damaged, or describes something else.
    """
    try:
        description = parse(path)
    except (OSError, ValueError) as error:
        why = one_sentence(getattr(error, "strerror", None) or error)
        raise ValueError(f"{path} cannot be read as JSON ({why}); convert the checkpoint again.") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{path} does not describe a prior of jaxdiff; convert the checkpoint again.")
    if description.get("version") != 1 or not isinstance(description.get("prior"), dict):
        raise ValueError(f"{path} is of a version that this jaxdiff does not know; upgrade jaxdiff.")
    if description.get("checksum", checksum := checksum_of(description)) != checksum:  # older priors have none
        raise ValueError(
            f'{path} is damaged: it does not fit its checksum; make the prior again, or delete the line "checksum" if you '
            "changed it yourself."
        )
    try:
        config = PriorConfig.from_dict(description["prior"])
    except ValueError as error:
        raise ValueError(f"{path}: {one_sentence(error)}") from error
    return config, {k: v for k, v in description.items() if k not in ("format", "version", "prior", "checksum")}


def parse(path: pathlib.Path) -> Any:
    """The JSON of a description, whatever it says.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no JSON, or far too long.
    """
    with open_regular(path) as file:
        text = file.read(MAX_DESCRIPTION + 1)
    if len(text) > MAX_DESCRIPTION:
        raise ValueError("it is far longer than a description")
    return parse_json(text.decode("utf-8"))


def checksum_of(description: Description) -> str:
    """SHA-256 of what a description says, but for its checksum, however it is laid out."""
    said = {name: value for name, value in description.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def parts_of(weights: pathlib.Path, description: pathlib.Path) -> set[pathlib.Path]:
    """The files and folders of a prior, as its description records them; none if it describes no prior."""
    try:
        told = parse(description)
        # A folder's description may have the name that a pair's would have.
        ours = told["format"] == FORMAT and ("" in told["files"]) == (weights.suffix == ".safetensors")
        files = [description, *(weights / name for name in told["files"])] if ours else []
    except (OSError, ValueError, TypeError, KeyError):
        return set()
    return {part for file in files for part in (file, *file.parents)}


def write(path: pathlib.Path, description: Description, weights: pathlib.Path) -> None:
    """Write a description with the checksums of the weights' files and of itself."""
    whole = json.loads(json.dumps({**description, "files": _fingerprints(weights)}))  # as it will be read
    whole["checksum"] = checksum_of(whole)
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fingerprints(weights: pathlib.Path) -> dict[str, str]:
    """SHA-256 of each file of the weights, by its name below them ("" for the only one)."""
    files = sorted(f for f in weights.rglob("*") if f.is_file())
    names = [""] if weights.is_file() else [path.relative_to(weights).as_posix() for path in files]
    return {name: _fingerprint(weights, name) for name in names}


def _fingerprint(weights: pathlib.Path, name: str) -> str:
    with open_regular(weights / name if name else weights) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(weights: pathlib.Path, recorded: Any) -> None:
    """Compare the recorded files, and no others, with their fingerprints: Orbax tells damage late, and with many words.

    Raises:
        ValueError: if one is missing, cannot be read, or differs.
    """
    try:
        whole = isinstance(recorded, dict) and bool(recorded) and all(map(_is_below, recorded))
        whole = whole and all(_fingerprint(weights, name) == digest for name, digest in recorded.items())
    except FileNotFoundError:
        whole = False
    except OSError as error:
        raise ValueError(f"{weights} cannot be read ({error.strerror or error}).") from error
    if not whole:
        raise ValueError(
            f"{weights} is damaged or incomplete: not what its description was written for; make it again."
        )


def _is_below(name: str) -> bool:
    """Whether a recorded name stays in the folder of the weights."""
    path = pathlib.PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def check_parameters(where: str, named: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]) -> None:
    """See that there is every parameter of an architecture, of its shape and of floating point, and no other.

    Raises:
        ValueError: if not; the sentence names the first ones.
    """
    faults = []
    for name in sorted({*named, *shapes}):
        if name not in named:
            faults.append(f"missing {name}")
        elif name not in shapes:
            faults.append(f"unknown {name}")
        elif tuple(named[name].shape) != tuple(shapes[name]):
            faults.append(f"{name} is {list(named[name].shape)}, not {list(shapes[name])}")
    if faults:
        shown = "; ".join(faults[:8]) + (f"; and {len(faults) - 8} more" if len(faults) > 8 else "")
        raise ValueError(f"{where} does not fit the architecture that it is described with: {one_sentence(shown)}.")
    for name, value in named.items():
        if not (np.issubdtype(value.dtype, np.floating) or value.dtype.name == "bfloat16"):
            raise ValueError(f"{where}: parameter {name} is of type {value.dtype}, not floating point.")
