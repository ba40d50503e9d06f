"""What sequential Monte-Carlo samplers share: weighted particles, their effective number, and resampling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, Image, Key, Scalar

__all__ = [
    "ParticleInfo",
    "ParticleState",
    "effective_sample_size",
    "half_squared",
    "pick",
    "resample",
    "systematic_indices",
]


class ParticleState(NamedTuple):
    """N weighted particles.

    Attributes:
        x: [H, W, C], one of them drawn by weight: the sample, after the last step.
        particles: [N, H, W, C].
        log_weights: [N], up to a constant.
        y: the noised measurement that the particles agree with (FPS); None elsewhere.
    """

    x: Image
    particles: Array
    log_weights: Array
    y: Array | None


class ParticleInfo(NamedTuple):
    """``residual``: ‖y − A(x̂₀)‖ of the heaviest particle; ``ess``: effective sample size before resampling, 1 … N."""

    residual: Scalar
    ess: Scalar


def effective_sample_size(log_weights: Array) -> Scalar:
    """(Σ w)² / Σ w² of unnormalised log-weights.

    >>> round(float(effective_sample_size(jnp.zeros(5))), 3)
    5.0
    """
    weights = jax.nn.softmax(log_weights)
    return 1 / jnp.sum(weights**2)


def systematic_indices(key: Key, log_weights: Array) -> Array:
    """[N] indices of survivors: particle i is kept ⌊N w_i⌋ or ⌈N w_i⌉ times (systematic resampling)."""
    count = log_weights.shape[0]
    edges = jnp.cumsum(jax.nn.softmax(log_weights))
    points = (jax.random.uniform(key, (), log_weights.dtype) + jnp.arange(count, dtype=log_weights.dtype)) / count
    return jnp.clip(jnp.searchsorted(edges, points * edges[-1]), 0, count - 1)


def resample(key: Key, log_weights: Array, threshold: Scalar) -> tuple[Array, Array, Scalar]:
    """Resample where the effective sample size is below ``threshold`` · N.

    Returns:
        Indices [N] (the identity where nothing is resampled), log-weights afterwards, the effective sample size before.
    """
    count = log_weights.shape[0]
    log_weights = _usable(log_weights)
    ess = effective_sample_size(log_weights)
    needed = ess < threshold * count
    indices = jnp.where(needed, systematic_indices(key, log_weights), jnp.arange(count))
    centred = log_weights - jax.nn.logsumexp(log_weights)
    return indices, jnp.where(needed, jnp.zeros_like(centred), centred), ess


def pick(key: Key, particles: Array, log_weights: Array) -> Image:
    """One particle, drawn by weight."""
    return particles[jax.random.categorical(key, _usable(log_weights))]


def _usable(log_weights: Array) -> Array:
    """A particle that diverged has no weight; were all lost, they are alike."""
    log_weights = jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights)
    return jnp.where(jnp.all(jnp.isneginf(log_weights)), jnp.zeros_like(log_weights), log_weights)


def half_squared(x: Array) -> Array:
    """‖x_i‖²/2 of each particle, [N]."""
    return jnp.sum(x**2, axis=tuple(range(1, x.ndim))) / 2
