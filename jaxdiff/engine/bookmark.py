"""The state of a batch on disk, so that a run that was killed goes on where it was."""

import contextlib
import glob
import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.files import atomic, open_regular
from jaxdiff.typing import PyTree

__all__ = ["Bookmark", "fingerprint", "states"]


class Bookmark:
    """The state of a batch between chunks on disk: written at the end, and before that every few seconds."""

    every = 5.0

    def __init__(self, path: Path | None, inputs: PyTree) -> None:
        self.path, self.last = path, time.perf_counter()
        self.fingerprint = "" if path is None else fingerprint(inputs)
        if path is not None:
            _check_path(path)

    def read(self, shape: PyTree, rows: int, lengths: Sequence[int]) -> tuple[int, Any, list[np.ndarray], float]:
        """What is kept of this run, or that nothing is.

        Args:
            shape: the structure, shapes and types of the state.
            rows: runs of the batch.
            lengths: steps of each chunk.

        Returns:
            Chunks done, state (None at the start), residuals and seconds so far.
        """
        nothing: tuple[int, Any, list[np.ndarray], float] = (0, None, [], 0.0)
        if self.path is None or not os.path.exists(self.path):
            return nothing
        leaves, structure = jax.tree.flatten(shape)
        try:
            with open_regular(self.path) as file, np.load(file, allow_pickle=False) as stored:
                content = {name: stored[name] for name in _names(len(leaves))}
                whole = str(stored["checksum"]) == fingerprint(content)
            if not whole or str(content["fingerprint"]) != self.fingerprint:
                return nothing
            done, seconds, residual = int(content["done"]), float(content["seconds"]), content["residual"]
            state = [content[f"leaf{i}"] for i in range(len(leaves))]
            fits = all(k.shape == leaf.shape and k.dtype == leaf.dtype for k, leaf in zip(state, leaves, strict=True))
            fits = fits and 0 < done <= len(lengths) and residual.shape == (rows, sum(lengths[:done]))
            if not (fits and residual.dtype.kind == "f" and 0 <= seconds < float("inf")):
                return nothing
            return done, jax.tree.unflatten(structure, map(jnp.asarray, state)), [residual], seconds
        except Exception:  # a damaged bookmark is no bookmark
            return nothing

    def write(self, done: int, state: Any, residuals: list[np.ndarray], seconds: float, *, last: bool) -> None:
        """Keep the state after ``done`` chunks, if it is the last or time for it."""
        if self.path is None or (not last and time.perf_counter() - self.last < self.every):
            return
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        values = [*leaves, self.fingerprint, done, seconds, np.concatenate(residuals, axis=1)]
        content: dict[str, Any] = dict(zip(_names(len(leaves)), map(np.asarray, values), strict=True))
        content["checksum"] = np.asarray(fingerprint(content))
        with atomic(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **content)
        self.last = time.perf_counter()


def states(path: Path) -> list[Path]:
    """The files that runs with ``resume=path`` have left behind: one for each batch, PATH-NUMBER."""
    return [*path.parent.glob(f"{glob.escape(path.stem)}-[0-9]*{path.suffix}")]


def _names(leaves: int) -> list[str]:
    return [*(f"leaf{i}" for i in range(leaves)), "fingerprint", "done", "seconds", "residual"]


def _check_path(path: Path) -> None:
    """See that the state can be kept before anything is computed.

    Raises:
        ValueError: if something that is no file is there, or no file of that name can be.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            open_regular(path).close()
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"the run cannot be kept in {path} ({why}); choose another file to resume from.") from None


def fingerprint(tree: PyTree) -> str:
    """SHA-256 over structure, shapes and values: the same inputs, the same run."""
    leaves, structure = jax.tree.flatten(tree)
    digest = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
