"""Many draws of one posterior in one program: mean, standard deviation, credible intervals and their calibration."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.numerics import safe_sqrt
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

    def interval(self, level: float | Array = 0.9) -> tuple[Array, Array]:
        """Lower and upper end of the central credible interval of each pixel, [H, W, C]; of several levels [..., H, W, C].

        The ends are the quantiles at place p (n + 1) of the ordered draws, between which a new draw falls with the
        probability ``level``, for any n; a level above (n − 1)/(n + 1) would need more draws, and gets their extremes.
        """
        level, n = _levels(level, self.samples.dtype), self.samples.shape[0]
        tail = jnp.clip(((1 - level) / 2 * (n + 1) - 1) / max(n - 1, 1), 0, 0.5)
        ends = jnp.quantile(self.samples, jnp.stack([tail, 1 - tail]).ravel(), axis=0)
        low, high = ends.reshape(2, *level.shape, *self.samples.shape[1:])
        return low, high


def _levels(level: float | Array, dtype: Any) -> Array:
    level = jnp.asarray(level, dtype)
    if not isinstance(level, jax.core.Tracer) and not bool(jnp.all((level >= 0) & (level <= 1))):
        raise ValueError(f"a credible level lies in [0, 1], got {level}.")
    return level


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
    std = safe_sqrt(jnp.var(samples, axis=0, ddof=1)) if n > 1 else jnp.zeros_like(samples[0])
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


def coverage(samples: Array, truth: Image, level: float | Scalar) -> Scalar:
    """Share of pixels whose true value lies in their central credible interval; its mean is ``level``, if the draws are right.

    If they are, the rank of the truth among n draws is one of n + 1, all equally likely, so intervals of whole ranks have
    few levels only. The rank r = #{draws < truth} is therefore given the whole stretch of width 1 around j = r − n/2, and
    counts by how much of it lies in [−h, h], h = level (n + 1)/2; the mean over all ranks is exactly ``level``, for
    every n, and no quantile is interpolated. Draws that equal the truth (to rounding) may stand on either side of it: its
    stretch is then as much wider, and a pixel that all draws know exactly counts as ``level``, for or against nothing.
    NaN where a draw or the truth is: a run that diverged covers nothing.

    Args:
        samples: [n, H, W, C].
        truth: [H, W, C].
        level: in [0, 1]; ``vmap`` for several.

    Raises:
        ValueError: if the shapes do not fit, or the level lies outside.
    """
    if truth.shape != samples.shape[1:]:
        raise ValueError(
            f"draws of shape {samples.shape} need a truth of shape {samples.shape[1:]}, got {truth.shape}."
        )
    level, n = _levels(level, samples.dtype), samples.shape[0]
    if level.ndim:
        raise ValueError(f"coverage is of one level, got shape {level.shape}; vmap over levels, or take calibration().")
    same = 16 * jnp.finfo(samples.dtype).eps * jnp.maximum(1, jnp.abs(truth))
    low = jnp.sum(samples < truth - same, axis=0).astype(samples.dtype) - (n + 1) / 2
    high = (n + 1) / 2 - jnp.sum(samples > truth + same, axis=0).astype(samples.dtype)
    h = level * (n + 1) / 2
    covered = jnp.mean(jnp.maximum(jnp.minimum(high, h) - jnp.maximum(low, -h), 0) / (high - low))
    unknown = jnp.any(jnp.isnan(samples)) | jnp.any(jnp.isnan(truth))
    return jnp.where(unknown, jnp.full_like(covered, jnp.nan), covered)


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

    Raises:
        ValueError: if the shapes do not fit, or there is not one level.
    """
    count("levels", levels)
    at = jnp.linspace(0, 1, levels + 2, dtype=samples.dtype)[1:-1]
    covered = jax.vmap(lambda level: coverage(samples, truth, level))(at)
    return Calibration(at, covered, jnp.mean(jnp.abs(covered - at)))
