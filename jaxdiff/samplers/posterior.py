"""Many draws of one posterior in one program: mean, standard deviation, credible intervals and their calibration."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import sample
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
    **options: Any,
) -> Posterior:
    """Draw n times from the posterior, in one compiled program.

    A pure function: ``jit`` it, ``vmap`` it over images. Draw i uses ``fold_in(key, i)``, so more draws extend fewer.

    Args:
        key: of the whole set.
        denoiser: the prior.
        problem: what was measured; None for draws of the prior.
        sampler: the method. One whose runs all end alike (RED-diff, η = 0 from one x_init) has no spread to show.
        n: number of draws.
        batch_size: draws that run at once, all by default; a smaller number saves memory.
        **options: of ``jd.sample``: steps, spacing, x_init, checkpoint.

    Raises:
        ValueError: if n is below 1.

    Returns:
        Samples, mean, standard deviation (of n − 1 degrees of freedom; 0 for n = 1) and infos.
    """
    if n < 1:
        raise ValueError(f"a posterior needs at least one draw, got n={n}.")

    def draw(index: Array) -> tuple[Image, Any]:
        return sample(jax.random.fold_in(key, index), denoiser, problem, sampler, **options)

    samples, info = jax.lax.map(draw, jnp.arange(n), batch_size=batch_size or n)
    std = jnp.std(samples, axis=0, ddof=1) if n > 1 else jnp.zeros_like(samples[0])
    return Posterior(samples, jnp.mean(samples, axis=0), std, info)


def coverage(samples: Array, truth: Image, level: float | Array) -> Scalar:
    """Share of pixels whose true value lies in their central credible interval: ``level``, if the draws are right.

    Judged by the rank of the truth among the draws, u = (#{draws < truth} + ½)/(n + 1) within level/2 of ½, which has
    no bias from interpolating quantiles of few draws.

    Args:
        samples: [n, H, W, C].
        truth: [H, W, C].
        level: in [0, 1].
    """
    n = samples.shape[0]
    rank = (jnp.sum(samples < truth[None], axis=0).astype(samples.dtype) + 0.5) / (n + 1)
    return jnp.mean((jnp.abs(rank - 0.5) <= jnp.asarray(level, samples.dtype) / 2).astype(samples.dtype))


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
