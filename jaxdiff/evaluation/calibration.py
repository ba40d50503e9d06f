"""How well the spread of draws agrees with their errors: coverage of credible intervals, and the calibration curve."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff._checks import count
from jaxdiff.samplers.posterior import credible_levels
from jaxdiff.typing import Array, Image, Scalar

__all__ = ["Calibration", "calibration", "coverage"]


def coverage(samples: Array, truth: Image, level: float | Scalar) -> Scalar:
    """The fraction of pixels whose true value lies in their central credible interval.

    If the draws follow the posterior, its mean is ``level``. Then the rank of the truth among n draws is one of n + 1 numbers,
    which are all equally likely. Intervals of whole ranks would have only a few levels. So the rank r = #{draws < truth}
    stands for an interval of width 1 around j = r − n/2. It counts by the part of this interval that lies in [−h, h], with
    h = level (n + 1)/2. The mean over all ranks is exactly ``level``, for any n, without interpolated quantiles.

    A draw that equals the truth, except for rounding, may be on either side of it. The interval of the rank is then wider by
    1. If all draws equal the truth, the pixel counts as ``level``. If a draw or the truth is NaN, the result is NaN.

    Args:
        samples: [n, H, W, C].
        truth: [H, W, C].
        level: in [0, 1]. Use ``vmap`` for several levels.

    Raises:
        ValueError: if the shapes do not fit, or the level is not in [0, 1].
    """
    if truth.shape != samples.shape[1:]:
        raise ValueError(
            f"draws of shape {samples.shape} need a truth of shape {samples.shape[1:]}, got {truth.shape}."
        )
    level, n = credible_levels(level, samples.dtype), samples.shape[0]
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
    """The coverage at each level, and its mean absolute distance from the diagonal."""

    levels: Array
    coverage: Array
    error: Scalar


def calibration(samples: Array, truth: Image, *, levels: int = 19) -> Calibration:
    """The calibration curve: the coverage at ``levels`` evenly spaced levels in ]0, 1[.

    If the curve is below the diagonal, the draws differ too little. The pixels of one image are not independent, so take
    the average over images.

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
