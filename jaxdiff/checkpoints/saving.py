"""From parameters to a prior on disk, written whole or not at all."""

import contextlib
import inspect
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdiff.checkpoints import description
from jaxdiff.checkpoints.description import DESCRIPTION, FORMAT, Description, Named, Path
from jaxdiff.models import PriorConfig, parameter_shapes
from jaxdiff.typing import DTypeLike, PyTree

__all__ = ["check_target", "save_checkpoint"]


def save_checkpoint(
    path: Path,
    params: PyTree,
    config: PriorConfig,
    *,
    metadata: Mapping[str, Any] | None = None,
    dtype: DTypeLike | None = None,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint whole or not at all: an Orbax folder, or a pair of files if ``path`` ends in ``.safetensors``.

    Args:
        path: folder or ``.safetensors`` file to make.
        params: the network's parameters, nested by name.
        config: what they are for.
        metadata: further facts for the JSON: source, licence, training.
        dtype: type on disk, float32 by default; float16 halves the size.
        overwrite: replace the prior that is there; anything else stays (``check_target``).

    Raises:
        ValueError: if the parameters do not fit the architecture, or the place is taken or cannot be written.
    """
    path = pathlib.Path(path).absolute()
    named = {k: np.asarray(v) for k, v in traverse_util.flatten_dict(params, sep="/").items()}
    description.check_parameters("these parameters", named, parameter_shapes(config.unet))
    with np.errstate(over="ignore"):  # what float16 cannot hold is found, and named, below
        named = {k: np.ascontiguousarray(v, np.dtype(dtype or np.float32)) for k, v in sorted(named.items())}
    for name, value in named.items():
        if not np.isfinite(value).all():
            raise ValueError(f"parameter {name} is not finite as {value.dtype}; it is not saved.")
    told = {"format": FORMAT, "version": 1, "prior": config.to_dict(), **(metadata or {})}
    check_target(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(path) as folder:
            if path.suffix == ".safetensors":
                _write_safetensors(path, folder, named, told)
            else:
                _write_orbax(path, folder, named, told)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror or error}); choose another folder.") from error


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Check that a checkpoint can be written to ``path``. It may replace a prior or an empty folder, and nothing else.

    Raises:
        ValueError: if something is there and ``overwrite`` is off, or something that is no part of a prior is there.
    """
    path = pathlib.Path(path)
    pair = path.suffix == ".safetensors"
    weights, told = (path, path.with_suffix(".json")) if pair else (path / "params", path / DESCRIPTION)
    there = [p for p in ((weights, told) if pair else (path,)) if os.path.exists(p)]
    if there and not overwrite:
        raise ValueError(f"{there[0]} exists already; choose another place, or ask to overwrite it (--overwrite).")
    parts = description.parts_of(weights, told)
    inside = there if pair or not os.path.isdir(path) else path.rglob("*")
    if foreign := next((p for p in inside if p not in parts), None):
        raise ValueError(
            f"{foreign} is no part of a prior that jaxdiff wrote, and is not overwritten; choose another place, or move "
            "it away."
        )


@contextlib.contextmanager
def _temporary_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder beside ``path``, so that a rename moves what is in it into place in one step."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name[:32]}.", suffix=".partial", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_safetensors(path: pathlib.Path, folder: pathlib.Path, named: Named, told: Description) -> None:
    import safetensors.numpy

    safetensors.numpy.save_file(named, folder / "weights")  # `save` would hold all of it twice
    description.write(folder / "description", told, folder / "weights")
    (folder / "description").replace(path.with_suffix(".json"))
    (folder / "weights").replace(path)


def _write_orbax(path: pathlib.Path, folder: pathlib.Path, named: Named, told: Description) -> None:
    import orbax.checkpoint as ocp

    whole = folder / "whole"
    whole.mkdir()
    # Weights hardly shrink, and compressing them takes their size in memory once more. Older Orbax always does it.
    known = inspect.signature(ocp.PyTreeCheckpointer).parameters
    with ocp.PyTreeCheckpointer(**({"use_compression": False} if "use_compression" in known else {})) as checkpointer:
        checkpointer.save(whole / "params", traverse_util.unflatten_dict(named, sep="/"))
    description.write(whole / DESCRIPTION, told, whole / "params")
    whole.chmod(0o755)
    if path.is_dir():
        path.rename(folder / "replaced")
    whole.rename(path)
