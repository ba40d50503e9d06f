"""Run many restorations as one compiled program, in chunks from the host: progress, resume, and time without compilation."""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.files import atomic
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import chunks, grid_for, run
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array, Key, PyTree

__all__ = ["Outcome", "batch_keys", "restore_many", "stack"]

Report = Callable[[int], None]
"""Called after each chunk with the number of (image × step)s that it advanced."""


class Outcome(NamedTuple):
    """What a set of runs gave.

    Attributes:
        x: [B, H, W, C], the images after the last step.
        residual: [B, steps], ‖y − A(x̂₀)‖₂ along the run.
        seconds: run time of all, compilation apart.
    """

    x: np.ndarray
    residual: np.ndarray
    seconds: float


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Put pytrees of equal structure side by side along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def batch_keys(key: Key, count: int, first: int = 0) -> Array:
    """Keys of runs ``first`` … ``first + count − 1``: ``fold_in(key, i)``, the same in any batch."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(first, first + count))


def restore_many(
    keys: Array,
    denoiser: DenoiserLike,
    problems: Problem | None,
    sampler: Sampler,
    *,
    steps: int | str | TimeGrid | None = None,
    spacing: str = "dps",
    batch_size: int = 16,
    report: Report | None = None,
    resume: Path | None = None,
) -> Outcome:
    """Run one sampler on any number of problems; run i equals ``jd.sample`` on ``keys[i]`` and problem i.

    Args:
        keys: [B] keys, one a run.
        denoiser: the prior, shared.
        problems: a ``Problem`` whose leaves have a first axis B (see ``stack``), or None to draw from the prior.
        sampler: the method, shared.
        steps: as in ``jd.sample``.
        spacing: as in ``jd.sample``.
        batch_size: runs at a time; the last batch is padded, so one program serves all.
        report: called with 0 at the start, and after each chunk.
        resume: a file for the state between chunks: runs that were killed go on from there, finished ones are read.

    Returns:
        Images, residuals and times.
    """
    grid = grid_for(denoiser, sampler, steps, spacing)
    if report is not None:
        report(0)
    count = len(keys)
    size = min(batch_size, count)
    outcomes = []
    for first in range(0, count, size):
        index = np.minimum(np.arange(first, first + size), count - 1)
        used = min(size, count - first)
        batch = (keys[index], jax.tree.map(lambda leaf, index=index: leaf[index], problems))
        path = None if resume is None else resume.with_name(f"{resume.stem}-{first}{resume.suffix}")
        mark = _Bookmark(path, (*batch, denoiser, sampler, grid))
        advanced = None if report is None else lambda n, used=used: report(n * used)
        outcome = _run_batch(*batch, (denoiser, sampler), grid, mark, advanced)
        outcomes.append(Outcome(outcome.x[:used], outcome.residual[:used], outcome.seconds))
    return Outcome(
        np.concatenate([outcome.x for outcome in outcomes]),
        np.concatenate([outcome.residual for outcome in outcomes]),
        sum(outcome.seconds for outcome in outcomes),
    )


@partial(jax.jit, static_argnames=("axis",))
def _first(keys: Array, problem: Any, denoiser: Any, sampler: Any, t: Array, *, axis: int | None) -> Any:
    one = jax.vmap(lambda key, problem: sampler.init(key, problem, denoiser, t), in_axes=(0, axis))
    return one(keys, problem)


@partial(jax.jit, static_argnames=("axis",))
def _advance(
    keys: Array, state: Any, problem: Any, denoiser: Any, sampler: Any, steps: Any, *, axis: int | None
) -> Any:
    one = jax.vmap(lambda k, x, p: run(k, x, denoiser, p, sampler, steps), in_axes=(0, 0, axis))
    state, info = one(keys, state, problem)
    return state, info.residual


_PROGRAMS: dict[Any, Any] = {}


def _compiled(arguments: Any, axis: int | None) -> Any:
    """The chunk's program, compiled ahead of time so that a clock around its call sees the run alone."""
    leaves, structure = jax.tree.flatten(arguments)
    key = (structure, axis, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))
    if key not in _PROGRAMS:
        _PROGRAMS[key] = _advance.lower(*arguments, axis=axis).compile()
    return _PROGRAMS[key]


def _run_batch(
    keys: Array, problem: Any, model: tuple[Any, Any], grid: TimeGrid, mark: "_Bookmark", report: Report | None
) -> Outcome:
    axis = None if problem is None else 0
    init_keys, run_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    first = partial(_first, axis=axis)
    shape = jax.eval_shape(first, init_keys, problem, *model, jnp.asarray(grid.t[0]))
    done, state, residuals, seconds = mark.read(shape)
    if state is None:
        state = first(init_keys, problem, *model, jnp.asarray(grid.t[0]))
    height, width = shape.x.shape[1:3]
    pieces = chunks(grid, chunk_size(len(grid.t), height * width * len(keys)))
    for number, piece in enumerate(pieces):
        if number >= done:
            arguments = (run_keys, state, problem, *model, piece)
            program = _compiled(arguments, axis)
            begun = time.perf_counter()
            state, residual = jax.block_until_ready(program(*arguments))
            seconds += time.perf_counter() - begun
            residuals.append(np.asarray(residual))
            mark.write(number + 1, state, residuals, seconds, last=number + 1 == len(pieces))
        if report is not None:
            report(len(piece[0]))
    return Outcome(np.asarray(state.x), np.concatenate(residuals, axis=1), seconds)


def chunk_size(count: int, pixels: int) -> int:
    """Steps a chunk for ``pixels`` = H·W·batch: 10 for sixteen 64×64 images, fewer for more, down to 1.

    A chunk lasts about a second, so a progress bar moves and little is lost by a kill. Fewer where that divides ``count``
    evenly, since an odd first chunk is a second program to compile.
    """
    target = max(1, min(10, count, 10 * 16 * 64 * 64 // max(pixels, 1)))
    return next((size for size in range(target, target // 2, -1) if count % size == 0), target)


class _Bookmark:
    """The state of a batch between chunks on disk: written at the end, and before that every few seconds."""

    every = 5.0

    def __init__(self, path: Path | None, inputs: PyTree) -> None:
        self.path, self.last = path, time.perf_counter()
        self.fingerprint = "" if path is None else _fingerprint(inputs)

    def read(self, shape: PyTree) -> tuple[int, Any, list[np.ndarray], float]:
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
        if self.path is None or (not last and time.perf_counter() - self.last < self.every):
            return
        content: dict[str, Any] = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        content |= {"fingerprint": self.fingerprint, "done": done, "seconds": seconds}
        content["residual"] = np.concatenate(residuals, axis=1)
        with atomic(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **content)
        self.last = time.perf_counter()


def _fingerprint(tree: PyTree) -> str:
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
