"""Noise levels that no training timestep has: a discrete network used at any σ, as the EDM papers write it.

The variance-preserving state x_t and the variance-exploding one x̃ = x_t / √ᾱ_t hold the same information;
x̃ = x₀ + σ z with σ = √((1−ᾱ_t)/ᾱ_t). A level between two training timesteps is a fractional t: log σ is interpolated
linearly between neighbours (``NoiseSchedule.at``), and the network is given the fraction itself, which its sinusoidal
embedding takes as it is. Levels beyond the schedule are clamped to its ends.

Reference:
    Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", section 5 and table 1 (VP).
"""

import jax
import jax.numpy as jnp

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.linalg import times
from jaxdiff.numerics import normal, safe_sqrt
from jaxdiff.schedules import NoisyLevel, level_of_sigma, log_sigma_table
from jaxdiff.typing import Array, Key

__all__ = [
    "NoisyLevel",
    "denoise_ve",
    "level_of_sigma",
    "log_sigma_table",
    "ode_ve",
    "polynomial_sigmas",
    "reverse_ve",
]


def denoise_ve(denoiser: DenoiserLike, x: Array, sigma: Array) -> Prediction:
    """D(x̃; σ): the prediction for x̃ = x₀ + σ z, from a network that was trained on √ᾱ x̃ at discrete times.

    Args:
        denoiser: the prior.
        x: [H, W, C], x̃.
        sigma: its noise level, a scalar.
    """
    level = level_of_sigma(denoiser.schedule, sigma)
    return denoiser(times(jnp.sqrt(level.alpha_bar), x), level.t)


def polynomial_sigmas(largest: Array, smallest: Array, count: int, *, rho: float = 7.0) -> Array:
    """σ_i = (σ_max^{1/ρ} + i/(n−1) (σ_min^{1/ρ} − σ_max^{1/ρ}))^ρ, i = 0 … n−1 (Karras et al. 2022, Eq. 5).

    Args:
        largest: σ_max.
        smallest: σ_min.
        count: n; with n = 1 only σ_max is returned.
        rho: 7 in the paper; larger puts more levels at low noise.
    """
    largest, smallest = jnp.asarray(largest), jnp.asarray(smallest)
    fraction = jnp.linspace(0, 1, count, dtype=largest.dtype)
    start, end = largest ** (1 / rho), smallest ** (1 / rho)
    return (start + fraction * (end - start)) ** rho


def _levels_down(denoiser: DenoiserLike, sigma: Array, steps: int, smallest: float) -> Array:
    own = denoiser.schedule.at(jnp.asarray(0)).sigma.astype(sigma.dtype)
    return polynomial_sigmas(sigma, jnp.minimum(jnp.maximum(own, smallest), sigma), steps + 1).at[-1].set(0)


def ode_ve(denoiser: DenoiserLike, x: Array, sigma: Array, steps: int, *, smallest: float = 0.01) -> Array:
    """Follow the probability-flow ODE from x̃ at level σ to a clean image, by ``steps`` of Euler (DAPS's inner solver).

    Levels are polynomial (ρ = 7) from σ to ``smallest`` (or the schedule's own smallest σ, if that is larger: the network
    knows no noise below it), the last of them replaced by 0.
    """
    levels = _levels_down(denoiser, sigma, steps, smallest)

    def body(x: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        now, after = pair
        x0 = denoise_ve(denoiser, x, now).x0
        return x0 + times(after / now, x - x0), None

    return jax.lax.scan(body, x, (levels[:-1], levels[1:]))[0]


def reverse_ve(
    key: Key, denoiser: DenoiserLike, x: Array, sigma: Array, steps: int, *, smallest: float = 0.01
) -> Array:
    """Draw x₀ ~ p(x₀ | x̃ = x₀ + σ z) by ``steps`` ancestral moves on the levels of ``ode_ve``."""
    levels = _levels_down(denoiser, sigma, steps, smallest)

    def body(x: Array, inputs: tuple[Array, Array, Key]) -> tuple[Array, None]:
        now, after, key = inputs
        x0 = denoise_ve(denoiser, x, now).x0
        share = (after / now) ** 2
        noise = normal(key, x.shape, x.dtype)
        spread = after * safe_sqrt(1 - share)
        return x0 + times(share, x - x0) + times(spread, noise), None

    return jax.lax.scan(body, x, (levels[:-1], levels[1:], jax.random.split(key, steps)))[0]
