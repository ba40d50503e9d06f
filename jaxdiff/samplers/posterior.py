"""Many draws of one posterior in one program: mean, standard deviation, credible intervals and their calibration."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import check_key, concrete, count
from jaxdiff._summary import summary
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.numerics import safe_sqrt
from jaxdiff.problems import Problem
from jaxdiff.samplers.arguments import check_run
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for, run, start, whole
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array, DTypeLike, Image, Key

__all__ = ["Posterior", "credible_levels", "posterior"]


class Posterior(NamedTuple):
    """n draws for one measurement.

    Attributes:
        samples: the draws, [n, H, W, C].
        mean: their mean, [H, W, C].
        std: their standard deviation, [H, W, C]. It is large where the measurement does not determine the image.
        info: the infos of the sampler, [n, steps].
    """

    samples: Array
    mean: Image
    std: Image
    info: Any

    def __repr__(self) -> str:
        return summary(self)

    def interval(self, level: float | Array = 0.9) -> tuple[Array, Array]:
        """The ends of the central credible interval of each pixel, [H, W, C]. For several levels, [..., H, W, C].

        The ends are the quantiles at place p (n + 1) of the ordered draws. For any n, a new draw falls between them with the
        probability ``level``. A level above (n − 1)/(n + 1) needs more draws. It gets the smallest and the largest draw.
        """
        level, n = credible_levels(level, self.samples.dtype), self.samples.shape[0]
        tail = jnp.clip(((1 - level) / 2 * (n + 1) - 1) / max(n - 1, 1), 0, 0.5)
        ends = jnp.quantile(self.samples, jnp.stack([tail, 1 - tail]).ravel(), axis=0)
        low, high = ends.reshape(2, *level.shape, *self.samples.shape[1:])
        return low, high


def credible_levels(level: float | Array, dtype: DTypeLike) -> Array:
    """Levels of credible intervals. They are checked unless they are traced.

    Raises:
        ValueError: if a level is not in [0, 1].
    """
    level = jnp.asarray(level, dtype)
    known = np.asarray(level) if concrete(level) else np.zeros(0)
    if not np.all((known >= 0) & (known <= 1)):
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
    spacing: str | None = None,
    x_init: Image | None = None,
    checkpoint: str | int | None = None,
) -> Posterior:
    """Draw n times from the posterior, in one compiled program.

    This is a pure function. It does not compile again for another ζ, mask, y or other weights. Draw i is that of
    ``jd.sample`` with ``fold_in(key, i)``. So if you ask for more draws, the first ones stay the same.

    Args:
        key: a random key.
        denoiser: the prior.
        problem: the measurement; None to draw from the prior.
        sampler: the method. Some methods have no useful spread: deterministic ones with a fixed x_init, and RED-diff, which
            finds one likely image.
        n: the number of draws.
        batch_size: how many draws run at once, by default all. A smaller number saves memory.
        steps: as in ``jd.sample``.
        spacing: as in ``jd.sample``.
        x_init: as in ``jd.sample``, the same for all draws.
        checkpoint: as in ``jd.sample``.

    Raises:
        ValueError: if n is below 1, the steps are impossible or shapes do not fit.

    Returns:
        Samples, mean, standard deviation (with n − 1 degrees of freedom; 0 for n = 1) and infos.
    """
    check_key(key)
    check_run(denoiser, problem, sampler)
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
        state, info = run(run_key, state, denoiser, problem, sampler, whole(grid), None, checkpoint)
        return state.x, info

    return jax.lax.map(draw, jnp.arange(n), batch_size=batch_size)
