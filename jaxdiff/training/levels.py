"""Which noise level each image of a batch gets: drawn by its number, and evenly spread in every batch."""

import jax
import jax.numpy as jnp

from jaxdiff.schedules import NoiseSchedule, level_of_sigma
from jaxdiff.typing import Array, Key

__all__ = ["log_normal_timesteps", "spread_fractions", "spread_timesteps"]


def spread_fractions(key: Key, index: Array) -> Array:
    """A number in [0, 1[ for each image's number, evenly spread in every batch, [n] float32.

    u_i = frac(u + i/φ) with φ the golden ratio and u drawn from ``key``, in 32-bit arithmetic, which wraps like frac. For
    every n, any n images in a row cover [0, 1[ nearly as n equal strata would, however the batch is split.

    Args:
        key: decides u, the same for the whole run.
        index: number of each image in the run's order, [n] uint32.

    Reference: Kingma et al., "Variational Diffusion Models", 2021, appendix I.1 (low-discrepancy times); the additive
    recurrence is Kronecker's sequence.
    """
    inverse_golden_ratio = jnp.uint32(2654435769)  # 2³² / φ
    wrapped = jax.random.bits(key, (), jnp.uint32) + index.astype(jnp.uint32) * inverse_golden_ratio
    return (wrapped >> 8).astype(jnp.float32) * 2.0**-24


def spread_timesteps(key: Key, index: Array, num_steps: int | Array) -> Array:
    """A timestep for each image's number: uniform over the run, and evenly spread in every batch, [n] int32.

    So the loss of a small batch varies less than with independent draws.

    Args:
        key: as in ``spread_fractions``.
        index: likewise.
        num_steps: T, for all images or for each, [n].
    """
    count = jnp.asarray(num_steps, jnp.int32)
    fraction = spread_fractions(key, index)
    return jnp.minimum((fraction * count.astype(jnp.float32)).astype(jnp.int32), count - 1)


def log_normal_timesteps(key: Key, index: Array, schedule: NoiseSchedule, mean: float, std: float) -> Array:
    """A fractional timestep for each image's number, with ln σ ~ N(mean, std²) evenly spread in every batch, [n] float32.

    σ is kept within the schedule's range.

    Args:
        key: as in ``spread_fractions``.
        index: likewise.
        schedule: of the prior.
        mean: of ln σ, with σ on [-1, 1].
        std: its standard deviation.

    Reference: Karras et al. 2022, Table 1 (mean −1.2, standard deviation 1.2).
    """
    fraction = jnp.maximum(spread_fractions(key, index), 2.0**-25)
    sigma = jnp.exp(mean + std * jax.scipy.special.ndtri(fraction))
    return level_of_sigma(schedule, sigma).t
