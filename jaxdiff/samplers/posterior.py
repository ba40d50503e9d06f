"""Many draws of one posterior in one program: mean, standard deviation, credible intervals and their calibration."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for, run, start, stretch
from jaxdiff.samplers.options import check_arguments, count
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array, Image, Key, Scalar

__all__ = ["Calibration", "Posterior", "calibration", "coverage", "posterior"]


class Posterior(NamedTuple):
    """What n draws say of one image.

    Attributes:
        samples: [n, H, W, C].
        mean: [H, W, C], the estimate of least squared error.
        std: [H, W, C], how far the draws differ: large where the measurement leaves it open.
        info: the sampler's infos, [n, steps].
    """

    samples: Array
    mean: Image
    std: Image
    info: Any

    def interval(self, level: float | Array = 0.9) -> tuple[Image, Image]:
        """Lower and upper end of the central credible interval of each pixel."""
        if isinstance(level, int | float) and not 0 <= level <= 1:
            raise ValueError(f"a credible level lies in [0, 1], got {level}.")
        tail = (1 - jnp.asarray(level, self.samples.dtype)) / 2
        low, high = jnp.quantile(self.samples, jnp.stack([tail, 1 - tail]), axis=0)
        return low, high


def posterior(
    key: Key,
    denoiser: DenoiserLike,
    problem: Problem | None,
    sampler: Sampler,
    *,
    n: int = 64,
    batch_size: int | None = None,
    steps: int | str | TimeGrid | None = None,
    spacing: str = "dps",
    x_init: Image | None = None,
    checkpoint: str | int | None = None,
) -> Posterior:
    """Draw n times from the posterior, in one compiled program.

    A pure function: ``vmap`` it over images, ``jit`` it with more around it. Called as it is, it compiles once for each
    structure of its arguments: other numbers (ζ, mask, y, weights) run the same program. Draw i is that of ``jd.sample``
    with ``fold_in(key, i)``, so more draws extend fewer.

    Args:
        key: of the whole set.
        denoiser: the prior.
        problem: what was measured; None for draws of the prior.
        sampler: the method. One whose runs all end alike (η = 0 from one x_init) has no spread to show, and RED-diff's is
            that of its noise, not the posterior's.
        n: number of draws.
        batch_size: draws that run at once, all by default; a smaller number saves memory.
        steps: as in ``jd.sample``.
        spacing: likewise.
        x_init: likewise, the same for all draws.
        checkpoint: likewise.

    Raises:
        ValueError: if n is below 1, the steps are impossible or shapes do not fit.

    Returns:
        Samples, mean, standard deviation (of n − 1 degrees of freedom; 0 for n = 1) and infos.
    """
    check_arguments(denoiser, problem, sampler)
    count("n, the number of draws,", n)
    if batch_size is not None:
        count("batch_size", batch_size)
    grid = grid_for(denoiser, sampler, steps, spacing)
    samples, info = _draws(
        key, denoiser, problem, sampler, grid, x_init, n=n, batch_size=batch_size or n, checkpoint=checkpoint
    )
    std = jnp.std(samples, axis=0, ddof=1) if n > 1 else jnp.zeros_like(samples[0])
    return Posterior(samples, jnp.mean(samples, axis=0), std, info)


# At the top of the module, so that jit knows it again: a closure of each call would be compiled each time.
@partial(jax.jit, static_argnames=("n", "batch_size", "checkpoint"))
def _draws(
    key: Key,
    denoiser: DenoiserLike,
    problem: Problem | None,
    sampler: Sampler,
    grid: TimeGrid,
    x_init: Image | None,
    *,
    n: int,
    batch_size: int,
    checkpoint: str | int | None,
) -> tuple[Array, Any]:
    """Images [n, H, W, C] and infos of n runs of ``jd.sample``."""

    def draw(index: Array) -> tuple[Image, Any]:
        init_key, run_key = jax.random.split(jax.random.fold_in(key, index))
        state = start(init_key, denoiser, problem, sampler, grid, x_init)
        state, info = run(run_key, state, denoiser, problem, sampler, stretch(grid), None, checkpoint)
        return state.x, info

    return jax.lax.map(draw, jnp.arange(n), batch_size=batch_size)


def coverage(samples: Array, truth: Image, level: float | Array) -> Scalar:
    """Share of pixels whose true value lies in their central credible interval; its mean is ``level``, if the draws are right.

    If they are, the rank of the truth among n draws is one of n + 1, all equally likely, so intervals of whole ranks have
    few levels only. The rank r = #{draws < truth} is therefore given the whole stretch of width 1 around j = r − n/2, and
    counts by how much of it lies in [−h, h], h = level (n + 1)/2; the mean over all ranks is exactly ``level``, for
    every n, and no quantile is interpolated.

    Args:
        samples: [n, H, W, C].
        truth: [H, W, C].
        level: in [0, 1].
    """
    n = samples.shape[0]
    j = jnp.sum(samples < truth[None], axis=0).astype(samples.dtype) - n / 2
    h = jnp.asarray(level, samples.dtype) * (n + 1) / 2
    return jnp.mean(jnp.clip(jnp.minimum(j + 0.5, h) - jnp.maximum(j - 0.5, -h), 0.0, 1.0))


class Calibration(NamedTuple):
    """Coverage by level, and its mean absolute distance from the diagonal."""

    levels: Array
    coverage: Array
    error: Scalar


def calibration(samples: Array, truth: Image, *, levels: int = 19) -> Calibration:
    """The calibration curve: coverage at ``levels`` evenly spaced levels in ]0, 1[.

    Below the diagonal the draws are over-confident. Pixels of one image are not independent: average over images.

    Args:
        samples: [n, H, W, C].
        truth: [H, W, C].
        levels: number of levels.
    """
    at = jnp.linspace(0, 1, levels + 2, dtype=samples.dtype)[1:-1]
    covered = jax.vmap(lambda level: coverage(samples, truth, level))(at)
    return Calibration(at, covered, jnp.mean(jnp.abs(covered - at)))
