"""Batches of one size, each in chunks from the host: progress, resume, and time without compilation."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.engine.bookmark import Bookmark
from jaxdiff.engine.placement import Placement, largest_batch, make_room
from jaxdiff.engine.programs import compiled, initial, memory
from jaxdiff.numerics import stack
from jaxdiff.problems import Problem
from jaxdiff.samplers.arguments import check_run, check_values
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import as_needed, chunks
from jaxdiff.samplers.trajectory import estimate
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array

__all__ = ["ENDLESS", "Engine", "Glimpse", "Outcome", "Problems", "Report", "Watch", "chunk_size"]

ENDLESS = 10**9
"""Runs of an iterator whose length is not known."""

Problems = Problem | Iterable[Problem] | None
"""Problems side by side, or one after the other; None to draw from the prior."""

Report = Callable[[int], None]
"""Called after each chunk with the number of (image × step)s that it advanced."""


class Glimpse(NamedTuple):
    """A batch on its way.

    Attributes:
        x: [B, H, W, C], the iterates.
        x0: [B, H, W, C], what the prior makes of them: x̂₀ = E[x₀ | x_t], as in a ``Trajectory``.
        first: number of the batch's first run.
        done: steps that are done.
        total: steps of a run.
    """

    x: np.ndarray
    x0: np.ndarray
    first: int
    done: int
    total: int


Watch = Callable[[Glimpse], None]
"""Called after each chunk; an exception that it raises stops the run."""


class Outcome(NamedTuple):
    """What a set of runs gave.

    Attributes:
        x: [B, H, W, C], the images after the last step (not clipped; not finite where a run diverged).
        residual: [B, steps], ‖y − A(x̂₀)‖₂ along the run.
        seconds: run time of all, compilation apart.
    """

    x: np.ndarray
    residual: np.ndarray
    seconds: float


class Engine:
    """One sampler on one placement: cuts what there is to do into batches of one size and runs them."""

    def __init__(
        self,
        denoiser: DenoiserLike,
        sampler: Sampler,
        grid: TimeGrid,
        placement: Placement,
        report: Report | None,
        watch: Watch | None,
        resume: str | Path | None,
    ) -> None:
        self.placement, self.grid, self.size = placement, grid, 0
        self.denoiser, self.sampler = placement.whole((denoiser, sampler))
        self.report, self.watch, self.resume = report, watch, None if resume is None else Path(resume)

    def __call__(
        self, keys_of: Callable[[int, int], Array], problems: Problems, count: int | None, batch_size: int | str
    ) -> Outcome:
        """Run them all, batch by batch; ``keys_of(first, n)`` are the keys of n runs.

        Raises:
            ValueError: if there is nothing to run, a problem is not possible, or there are fewer than ``count``.
        """
        if count is not None and count < 1:
            raise ValueError(f"there is nothing to restore: {count} runs.")
        if self.report is not None:
            self.report(0)
        batches = self._batches(problems, count, batch_size)
        outcomes: list[Outcome] = []
        first = 0
        # The next batch is read and put together while this one runs.
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                used, problem = batch
                coming = pool.submit(next, batches, None)
                outcomes += self._rows(keys_of(first, used), problem, used, first)
                first += used
        if not outcomes:
            raise ValueError("there is nothing to restore: the iterator is empty.")
        return Outcome(
            np.concatenate([outcome.x for outcome in outcomes]),
            np.concatenate([outcome.residual for outcome in outcomes]),
            sum(outcome.seconds for outcome in outcomes),
        )

    def _batches(
        self, problems: Problems, count: int | None, batch_size: int | str
    ) -> Iterator[tuple[int, Problem | None]]:
        """(number of runs, their problems side by side), each of at most ``size``, which the first one settles."""
        if problems is None or isinstance(problems, Problem):
            assert count is not None
            self._settle(problems, count, batch_size)
            for first in range(0, count, self.size):
                used = min(self.size, count - first)
                yield used, jax.tree.map(lambda leaf, first=first, used=used: leaf[first : first + used], problems)
            return
        rest = itertools.islice(problems, count)
        ahead = list(itertools.islice(rest, 1))
        if ahead:
            self._settle(stack(ahead), count or ENDLESS, batch_size)
        found = 0
        while ahead := ahead + list(itertools.islice(rest, self.size - len(ahead))):
            side_by_side = stack(ahead)
            check_values(side_by_side)
            found += len(ahead)
            yield len(ahead), side_by_side
            ahead = []
        if count is not None and 0 < found < count:
            raise ValueError(f"{count} runs are not possible: the iterator ended after {found} problems.")

    def _check(self, problems: Problem | None) -> None:
        """See that problems side by side are possible ones; the first of them stands for their shapes."""
        if isinstance(problems, Problem):
            leaves = jax.tree.leaves(problems)
            lengths = {leaf.shape[0] if np.ndim(leaf) else None for leaf in leaves}
            if None in lengths or len(lengths) > 1:
                raise ValueError(
                    "a batch of problems needs a first axis, of one length, in y, sigma and all that the operator holds: give "
                    "a list of single problems, or one made by jd.engine.stack or vmap."
                )
            check_values(problems)
            problems = jax.tree.map(lambda leaf: leaf[0], problems)
        check_run(self.denoiser, problems, self.sampler)

    def _settle(self, example: Problem | None, count: int, batch_size: int | str) -> None:
        """Fix the batch size, by the first problems, if they are possible ones."""
        self._check(example)
        devices = self.placement.width
        if batch_size != "auto":
            if not isinstance(batch_size, int | np.integer) or batch_size < 1:
                raise ValueError(f"batch_size={batch_size!r} is not possible: a positive whole number, or 'auto'.")
            self.size = -(-min(batch_size, count) // devices) * devices
            return
        self.size, fits = largest_batch(count, self.placement, lambda size: self._needs(example, size))
        lean = getattr(self.denoiser, "lean", None)
        if not fits and lean is not None:
            logging.warning("not even one image fits into memory: layers are computed twice to save some.")
            self.denoiser = lean()
            self.size, _ = largest_batch(count, self.placement, lambda size: self._needs(example, size))

    def _needs(self, example: Problem | None, size: int) -> float:
        """Bytes a device for batches of ``size``."""

        def resized(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct((size, *jnp.shape(leaf)[1:]), jnp.result_type(leaf))

        keys = jax.ShapeDtypeStruct((size,), jax.random.key(0).dtype)
        problem = jax.tree.map(resized, example)
        return memory(self._program(keys, self._state(keys, problem), problem, self._pieces(size)[-1]))

    def _pieces(self, size: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        height, width = self.denoiser.image_shape[:2]
        steps = chunk_size(len(self.grid.t), height * width * size)
        if self.watch is not None:  # ten glimpses or more, of chunks that are scans all the same
            steps = min(steps, max(2, len(self.grid.t) // 10))
        return chunks(self.grid, steps)

    def _state(self, keys: Any, problem: Any) -> Any:
        """Shapes of the states of a batch."""
        arguments = (keys, problem, self.denoiser, self.sampler, jnp.asarray(self.grid.t[0]))
        return jax.eval_shape(lambda *a: initial(self.placement, problem is not None, *a), *arguments)

    def _program(self, keys: Any, state: Any, problem: Any, piece: Any) -> Any:
        batch = self.placement.split_shapes((keys, state, problem))
        return compiled(self.placement, problem is not None, *batch, self.denoiser, self.sampler, piece)

    def _rows(self, keys: Array, problem: Problem | None, used: int, first: int) -> list[Outcome]:
        """Run the rows of a batch; in smaller ones where the devices run out of memory."""
        outcomes: list[Outcome] = []
        done = 0
        while done < used:
            index = np.minimum(np.arange(done, done + self.size), used - 1)  # the last row again, to fill the batch
            here = min(self.size, used - done)
            batch = (keys[index], jax.tree.map(lambda leaf, index=index: leaf[index], problem))
            path = None
            if self.resume is not None:
                path = self.resume.with_name(f"{self.resume.stem}-{first + done}{self.resume.suffix}")
            try:
                mark = Bookmark(path, (*batch, self.denoiser, self.sampler, self.grid))
                outcome = self._batch(*batch, mark, range(first + done, first + done + here))
            except Exception as error:
                if not _out_of_memory(error) or self.size <= self.placement.width:
                    raise
                half = max(1, self.size // self.placement.width // 2) * self.placement.width
                logging.warning("out of memory with %d images at a time: going on with %d.", self.size, half)
                self.size = half
                continue
            outcomes.append(Outcome(outcome.x[:here], outcome.residual[:here], outcome.seconds))
            done += here
        return outcomes

    def _batch(self, keys: Array, problem: Problem | None, mark: Bookmark, runs: range) -> Outcome:
        placement, batched = self.placement, problem is not None
        init_keys, run_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        init_keys, run_keys, problem = placement.split((init_keys, run_keys, problem))
        shape = self._state(init_keys, problem)
        pieces = self._pieces(len(keys))
        done, state, residuals, seconds = mark.read(shape, len(keys), [len(piece[0]) for piece in pieces])
        if state is None:
            state = initial(
                placement, batched, init_keys, problem, self.denoiser, self.sampler, jnp.asarray(self.grid.t[0])
            )
        state = placement.split(state)
        for number, piece in enumerate(pieces):
            if number >= done:
                program = self._program(run_keys, state, problem, piece)
                make_room(placement, memory(program))
                begun = time.perf_counter()
                state, residual = jax.block_until_ready(
                    program(run_keys, state, problem, self.denoiser, self.sampler, piece)
                )
                seconds += time.perf_counter() - begun
                residuals.append(np.asarray(residual))
                mark.write(number + 1, state, residuals, seconds, last=number + 1 == len(pieces))
                self._glimpse(state.x, piece, runs)
            if self.report is not None:
                self.report(len(piece[0]) * len(runs))
        return Outcome(np.asarray(state.x), np.concatenate(residuals, axis=1), seconds)

    def _glimpse(self, x: Array, piece: tuple[np.ndarray, np.ndarray, np.ndarray], runs: range) -> None:
        if self.watch is None:
            return
        index, _, s = piece
        x0 = _estimates(as_needed(self.denoiser, self.sampler), self.sampler, jnp.asarray(s[-1]), x)
        count = len(runs)
        self.watch(Glimpse(np.array(x[:count]), np.array(x0[:count]), runs.start, int(index[-1]) + 1, len(self.grid.t)))


_estimates = jax.jit(jax.vmap(estimate, in_axes=(None, None, None, 0)))


def _out_of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def chunk_size(count: int, pixels: int) -> int:
    """Steps a chunk for ``pixels`` = H·W·batch: 10 for sixteen 64×64 images, fewer for more, down to 1.

    A chunk lasts about a second on a CPU, so a progress bar moves and little is lost by a kill. Fewer where that divides
    ``count`` evenly, since an odd first chunk is a second program to compile.
    """
    target = max(1, min(10, count, 10 * 16 * 64 * 64 // max(pixels, 1)))
    return next((size for size in range(target, target // 2, -1) if count % size == 0), target)
