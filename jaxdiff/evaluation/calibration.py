"""How well the spread of draws agrees with their errors: coverage of credible intervals, and the calibration curve."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff._checks import count
from jaxdiff.samplers.posterior import credible_levels
from jaxdiff.typing import Array, Image, Scalar

__all__ = ["Calibration", "calibration", "coverage"]


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
