"""Run many restorations as one compiled program: any number of problems, with a key, a progress bar and a file to resume."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxdiff._checks import check_key
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.engine.batches import ENDLESS, Engine, Outcome, Problems, Report, Watch
from jaxdiff.engine.placement import choose_devices
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array, Key

__all__ = ["batch_keys", "restore", "restore_many"]


def batch_keys(key: Key, count: int, first: int = 0) -> Array:
    """Keys of runs ``first`` … ``first + count − 1``: ``fold_in(key, i)``, the same in any batch."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(first, first + count))


def restore(
    key: Key,
    denoiser: DenoiserLike,
    problems: Problems,
    sampler: Sampler,
    *,
    count: int | None = None,
    steps: int | str | TimeGrid | None = None,
    spacing: str | None = None,
    batch_size: int | str = "auto",
    devices: int | Sequence[jax.Device] | None = None,
    progress: bool = False,
    report: Report | None = None,
    watch: Watch | None = None,
    resume: str | Path | None = None,
) -> Outcome:
    """Restore many images, or draw many from the prior, batch by batch on all devices of this process.

    Run i is ``jd.sample(fold_in(key, i), denoiser, problem i, sampler)``. The batch size and the number of devices change it
    only by rounding. (This holds for JAX's default keys. With ``rbg`` keys, ``vmap`` draws other numbers.) All batches have
    the same size, so there is one program. Each batch is split over the devices. On several hosts, every process restores
    its own problems: see ``jaxdiff.hosts.share``.

    Args:
        key: a random key. Run i uses ``fold_in(key, i)``.
        denoiser: the prior.
        problems: a list or an iterator of problems, or one ``Problem`` whose arrays have a first axis B; None to draw from
            the prior. An iterator is read one batch ahead, so a data set need not fit into memory.
        sampler: the method.
        count: the number of runs. Give it for draws from the prior, or to restore only the first ``count`` problems.
        steps: as in ``jd.sample``.
        spacing: as in ``jd.sample``.
        batch_size: how many runs are made at once. "auto" takes as many as fit into the memory, and at most 16 on a CPU. If
            a device runs out of memory, batches are halved.
        devices: None for all devices of this process, a number n for the first n, or a list.
        progress: whether to show a progress bar. Outside a terminal or a notebook, it is a line every half minute.
        report: a function that is called with 0 at the start, and then with the number of steps of all runs done so far.
        watch: a function that is called with a ``Glimpse`` of the batch every few steps. Each makes one more network call.
        resume: a file that keeps the state, from which the same call goes on. In another process, the run starts again if
            the operator, the prior or the sampler has a Python function, because it could be a different one.

    Returns:
        Images, residuals and times, as NumPy arrays.

    Raises:
        ValueError: if the number of runs is not known, there are fewer problems, or options are impossible.

    >>> import jax, jaxdiff as jd
    >>> prior = jd.GaussianPrior(jnp.zeros((2, 2, 1)), jnp.eye(4), jnp.ones(4), jd.schedules.linear(100))
    >>> restore(jax.random.key(0), prior, None, jd.samplers.ddpm(), count=5, steps=10, batch_size=2).x.shape
    (5, 2, 2, 1)
    """
    check_key(key)
    known = _length(problems)
    if count is None:
        count = known
    elif known is not None and known < count:
        raise ValueError(f"count={count} is not possible: there are {known} problems.")
    if problems is None and count is None:
        raise ValueError("say how many images to draw: count=N.")
    grid, placement = grid_for(denoiser, sampler, steps, spacing), choose_devices(devices, count or ENDLESS)
    with _bar(sampler, count, len(grid.t), progress) as shown:
        engine = Engine(denoiser, sampler, grid, placement, _both(report, shown), watch, resume)
        return engine(lambda first, n: batch_keys(key, n, first), problems, count, batch_size)


def restore_many(
    keys: Array,
    denoiser: DenoiserLike,
    problems: Problems,
    sampler: Sampler,
    *,
    steps: int | str | TimeGrid | None = None,
    spacing: str | None = None,
    batch_size: int | str = "auto",
    devices: int | Sequence[jax.Device] | None = None,
    report: Report | None = None,
    watch: Watch | None = None,
    resume: str | Path | None = None,
) -> Outcome:
    """``restore`` with the key of each run given: ``keys`` [B]; run i equals ``jd.sample`` on ``keys[i]`` and problem i.

    Raises:
        ValueError: if there are not as many problems as keys, or options are impossible.
    """
    if _length(problems) not in (None, len(keys)):
        raise ValueError(f"each run needs its key: there are {_length(problems)} problems and {len(keys)} keys.")
    grid, placement = grid_for(denoiser, sampler, steps, spacing), choose_devices(devices, len(keys))
    engine = Engine(denoiser, sampler, grid, placement, report, watch, resume)
    return engine(lambda first, n: keys[first : first + n], problems, len(keys), batch_size)


@contextlib.contextmanager
def _bar(sampler: Sampler, count: int | None, steps: int, wanted: bool) -> Iterator[Report | None]:
    """A stage of a progress bar for ``count`` runs, or None where it is not wanted."""
    if not wanted:
        yield None
        return
    if count is None:
        raise ValueError("a progress bar needs the number of runs, which an iterator does not tell: give count=N.")
    from jaxdiff.progress import progress

    with progress() as bar:
        yield bar(f"{sampler.title}, {count} runs" if count > 1 else sampler.title, count * steps, steps)


def _both(*reports: Report | None) -> Report | None:
    """One report that calls each of those that there are."""
    wanted = [report for report in reports if report is not None]

    def report(advanced: int) -> None:
        for one in wanted:
            one(advanced)

    return report if wanted else None


def _length(problems: Problems) -> int | None:
    if isinstance(problems, Problem):
        return len(problems.y)
    if problems is not None and not isinstance(problems, Iterable):
        raise ValueError(f"{problems!r} is neither a problem nor a list of problems; make them with jd.observe(...).")
    return len(problems) if isinstance(problems, Sized) else None
