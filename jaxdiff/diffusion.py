"""The variance-preserving diffusion: adding noise, Tweedie's formula, and the posterior between any two times.

With ``x_t = √ᾱ_t x₀ + √(1−ᾱ_t) ε``, everything here is a pure function of levels ``(ᾱ_t, 1−ᾱ_t)`` from
``NoiseSchedule.at``; respacing needs no second schedule, because each function takes *any* two times t > s.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxdiff.numerics import expand
from jaxdiff.schedules import Level, NoiseSchedule
from jaxdiff.typing import Array

__all__ = [
    "SIGMA_DATA",
    "PosteriorCoefficients",
    "beta_between",
    "eps_from_score",
    "eps_from_v",
    "eps_from_x0",
    "fixed_large_log_variance",
    "learned_range_log_variance",
    "posterior_coefficients",
    "posterior_log_variance",
    "q_sample",
    "score_from_eps",
    "tweedie",
    "v_from_x0",
    "v_of",
    "x0_and_eps",
    "x0_from_eps",
    "x0_from_v",
]


def _scales(level: Level, like: Array) -> tuple[Array, Array]:
    signal = expand(jnp.sqrt(level.alpha_bar), like).astype(like.dtype)
    noise = expand(jnp.sqrt(level.one_minus_alpha_bar), like).astype(like.dtype)
    return signal, noise


def q_sample(x0: Array, noise: Array, level: Level) -> Array:
    """Forward process: x_t = √ᾱ_t x₀ + √(1−ᾱ_t) z (Ho et al. 2020, Eq. 4)."""
    signal, sigma = _scales(level, x0)
    return signal * x0 + sigma * noise


def x0_from_eps(x_t: Array, eps: Array, level: Level) -> Array:
    """x̂₀ = (x_t − √(1−ᾱ_t) ε̂) / √ᾱ_t."""
    signal, sigma = _scales(level, x_t)
    return (x_t - sigma * eps) / signal


def eps_from_x0(x_t: Array, x0: Array, level: Level) -> Array:
    """ε̂ = (x_t − √ᾱ_t x̂₀) / √(1−ᾱ_t)."""
    signal, sigma = _scales(level, x_t)
    return (x_t - signal * x0) / sigma


def score_from_eps(eps: Array, level: Level) -> Array:
    """s(x_t) = ∇ log p(x_t) = −ε̂ / √(1−ᾱ_t)."""
    return -eps / _scales(level, eps)[1]


def eps_from_score(score: Array, level: Level) -> Array:
    """ε̂ = −√(1−ᾱ_t) s(x_t)."""
    return -score * _scales(level, score)[1]


def tweedie(x_t: Array, score: Array, level: Level) -> Array:
    """Posterior mean x̂₀ = (x_t + (1−ᾱ_t) s(x_t)) / √ᾱ_t: Tweedie's formula, Eq. 1 of the study."""
    signal, sigma = _scales(level, x_t)
    return (x_t + sigma**2 * score) / signal


SIGMA_DATA = {"v": 1.0, "edm": 8.0}
"""s of the predictions that mix ε and x₀ (``v_of``). An error of the output is at most s times as large in x̂₀. For ε it is 157
times as large at t = 999 of the linear schedule."""


def v_of(x0: Array, eps: Array, level: Level, sigma_data: float = 1.0) -> Array:
    """F = (s √ᾱ_t ε − √(1−ᾱ_t)/s · x₀) / n, n² = s² ᾱ_t + 1 − ᾱ_t: EDM's preconditioned target for σ_data = s.

    s = 1 is v = √ᾱ_t ε − √(1−ᾱ_t) x₀ (Salimans & Ho 2022), s → ∞ is ε. In between F is ε where the noise σ = √(1−ᾱ)/√ᾱ is below
    s, and x₀ (times −σ/s²) above. So a network trained on ε has to change at the highest noise only.

    Reference: Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022, section 5.
    """
    signal, sigma, n = _preconditioning(level, x0, sigma_data)
    return (sigma_data * signal * eps - sigma / sigma_data * x0) / n


def v_from_x0(x_t: Array, x0: Array, level: Level, sigma_data: float = 1.0) -> Array:
    """F (v for s = 1), from x_t and x₀."""
    return v_of(x0, eps_from_x0(x_t, x0, level), level, sigma_data)


def x0_from_v(x_t: Array, v: Array, level: Level, sigma_data: float = 1.0) -> Array:
    """x̂₀ = s² √ᾱ_t/n² · x_t − s √(1−ᾱ_t)/n · F; for s = 1, √ᾱ_t x_t − √(1−ᾱ_t) v."""
    signal, sigma, n = _preconditioning(level, x_t, sigma_data)
    return (sigma_data / n) ** 2 * signal * x_t - sigma_data / n * sigma * v


def eps_from_v(x_t: Array, v: Array, level: Level, sigma_data: float = 1.0) -> Array:
    """ε̂ = √(1−ᾱ_t)/n² · x_t + s √ᾱ_t/n · F; for s = 1, √(1−ᾱ_t) x_t + √ᾱ_t v."""
    signal, sigma, n = _preconditioning(level, x_t, sigma_data)
    return sigma / n**2 * x_t + sigma_data / n * signal * v


def x0_and_eps(prediction: str, x_t: Array, output: Array, level: Level) -> tuple[Array, Array]:
    """x̂₀ and ε̂ from what a network puts out.

    Args:
        prediction: what that means: "eps", "x0", or one of ``SIGMA_DATA``.
        x_t: the noisy image.
        output: the network's output, with the shape of x_t.
        level: the noise level of x_t.

    Raises:
        ValueError: if there is no such prediction.
    """
    if prediction == "eps":
        return x0_from_eps(x_t, output, level), output
    if prediction == "x0":
        return output, eps_from_x0(x_t, output, level)
    if prediction in SIGMA_DATA:
        s = SIGMA_DATA[prediction]
        return x0_from_v(x_t, output, level, s), eps_from_v(x_t, output, level, s)
    raise ValueError(f"unknown prediction {prediction!r}; choose one of eps, x0, {', '.join(SIGMA_DATA)}.")


def _preconditioning(level: Level, like: Array, sigma_data: float) -> tuple[Array, Array, Array]:
    signal, sigma = _scales(level, like)
    return signal, sigma, jnp.sqrt((sigma_data * signal) ** 2 + sigma**2)


def beta_between(level_t: Level, level_s: Level) -> Array:
    """β_{t|s} = 1 − ᾱ_t/ᾱ_s, the variance that the forward process adds between s and t > s.

    It is a difference of ᾱ or of 1−ᾱ, whichever is small, so that float32 keeps its digits at both ends.
    """
    low_noise = level_t.alpha_bar > 0.5
    difference = jnp.where(
        low_noise,
        level_t.one_minus_alpha_bar - level_s.one_minus_alpha_bar,
        level_s.alpha_bar - level_t.alpha_bar,
    )
    return difference / level_s.alpha_bar


class PosteriorCoefficients(NamedTuple):
    """q(x_s | x_t, x₀) = N(x0_weight · x₀ + xt_weight · x_t, variance)."""

    x0_weight: Array
    xt_weight: Array
    variance: Array


def posterior_coefficients(level_t: Level, level_s: Level) -> PosteriorCoefficients:
    """Mean and variance of q(x_s | x_t, x₀) for any t > s (Ho et al. 2020, Eqs. 6–7; Eq. 2 of the study).

    x0_weight = √ᾱ_s β/(1−ᾱ_t),  xt_weight = √(ᾱ_t/ᾱ_s) (1−ᾱ_s)/(1−ᾱ_t),  variance = β (1−ᾱ_s)/(1−ᾱ_t),  β = 1 − ᾱ_t/ᾱ_s.
    """
    beta = beta_between(level_t, level_s)
    ratio = level_s.one_minus_alpha_bar / level_t.one_minus_alpha_bar
    return PosteriorCoefficients(
        x0_weight=jnp.sqrt(level_s.alpha_bar) * beta / level_t.one_minus_alpha_bar,
        xt_weight=jnp.sqrt(level_t.alpha_bar / level_s.alpha_bar) * ratio,
        variance=beta * ratio,
    )


def posterior_log_variance(schedule: NoiseSchedule, t: Array, s: Array) -> Array:
    """log of the posterior variance β̃_{t|s}, finite also for s = −1 where β̃ is 0.

    For s = −1 it takes the variance of the step t+1 → t of the whole schedule. The original code takes that of the step before
    in its own grid, which is the same if no timestep is left out. No sampler adds noise in that step.
    """
    last = jnp.asarray(schedule.num_steps - 1, jnp.asarray(t).dtype)
    stand_in = posterior_coefficients(schedule.at(jnp.minimum(t + 1, last)), schedule.at(t)).variance
    variance = posterior_coefficients(schedule.at(t), schedule.at(s)).variance
    tiny = jnp.finfo(variance.dtype).tiny
    return jnp.log(jnp.maximum(jnp.where(s < 0, stand_in, variance), tiny))


def fixed_large_log_variance(schedule: NoiseSchedule, t: Array, s: Array) -> Array:
    """log β_{t|s}, with the posterior's in the last step: "fixed large" of Ho et al. 2020, section 3.2."""
    log_beta = jnp.log(beta_between(schedule.at(t), schedule.at(s)))
    return jnp.where(s < 0, posterior_log_variance(schedule, t, s), log_beta)


def learned_range_log_variance(values: Array, schedule: NoiseSchedule, t: Array, s: Array) -> Array:
    """log σ² = f log β_{t|s} + (1−f) log β̃_{t|s}, f = (v+1)/2 (Nichol & Dhariwal 2021, Eq. 15), v the network's output."""
    log_beta = jnp.log(beta_between(schedule.at(t), schedule.at(s)))
    log_posterior = posterior_log_variance(schedule, t, s)
    fraction = (values + 1) / 2
    return fraction * expand(log_beta, values) + (1 - fraction) * expand(log_posterior, values)
