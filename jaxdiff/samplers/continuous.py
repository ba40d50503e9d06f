"""Noise levels between training timesteps: a network with discrete timesteps is used at any σ, as in the EDM paper.

The variance-exploding state is x̃ = x_t / √ᾱ_t = x₀ + σ z with σ = √((1−ᾱ_t)/ᾱ_t). A level between two training timesteps is
a fractional t, at which log σ is interpolated linearly (``NoiseSchedule.at``). The network receives the fraction, which its
sinusoidal embedding accepts. Levels outside the schedule are moved to its ends.

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
        count: n. For n = 1, the result is σ_max.
        rho: ρ, 7 in the paper. A larger ρ puts more levels at low noise.
    """
    largest, smallest = jnp.asarray(largest), jnp.asarray(smallest)
    fraction = jnp.linspace(0, 1, count, dtype=largest.dtype)
    start, end = largest ** (1 / rho), smallest ** (1 / rho)
    return (start + fraction * (end - start)) ** rho


def _levels_down(denoiser: DenoiserLike, sigma: Array, steps: int, smallest: float) -> Array:
    own = denoiser.schedule.at(jnp.asarray(0)).sigma.astype(sigma.dtype)
    return polynomial_sigmas(sigma, jnp.minimum(jnp.maximum(own, smallest), sigma), steps + 1).at[-1].set(0)


def ode_ve(denoiser: DenoiserLike, x: Array, sigma: Array, steps: int, *, smallest: float = 0.01) -> Array:
    """Follow the probability-flow ODE from x̃ at level σ to a clean image, by Euler steps. DAPS uses this inside.

    The levels are polynomial (ρ = 7) from σ to ``smallest``, or to the schedule's smallest σ if that is larger. The last level
    is replaced by 0.
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
