"""The state of a batch on disk, so that a run that was killed goes on where it was."""

import hashlib
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.files import atomic
from jaxdiff.typing import PyTree

__all__ = ["Bookmark"]


class Bookmark:
    """The state of a batch between chunks on disk: written at the end, and before that every few seconds."""

    every = 5.0

    def __init__(self, path: Path | None, inputs: PyTree) -> None:
        self.path, self.last = path, time.perf_counter()
        self.fingerprint = "" if path is None else fingerprint(inputs)

    def read(self, shape: PyTree) -> tuple[int, Any, list[np.ndarray], float]:
        """Chunks done, state (None at the start), residuals and seconds so far; ``shape`` tells the state's structure."""
        if self.path is None or not self.path.exists():
            return 0, None, [], 0.0
        leaves, structure = jax.tree.flatten(shape)
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored["fingerprint"]) != self.fingerprint:
                    return 0, None, [], 0.0
                state = [jnp.asarray(stored[f"leaf{i}"]) for i in range(len(leaves))]
                residual, seconds = stored["residual"], float(stored["seconds"])
                return int(stored["done"]), jax.tree.unflatten(structure, state), [residual], seconds
        except Exception:  # a damaged bookmark is no bookmark
            return 0, None, [], 0.0

    def write(self, done: int, state: Any, residuals: list[np.ndarray], seconds: float, *, last: bool) -> None:
        """Keep the state after ``done`` chunks, if it is the last or time for it."""
        if self.path is None or (not last and time.perf_counter() - self.last < self.every):
            return
        content: dict[str, Any] = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        content |= {"fingerprint": self.fingerprint, "done": done, "seconds": seconds}
        content["residual"] = np.concatenate(residuals, axis=1)
        with atomic(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **content)
        self.last = time.perf_counter()


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
