"""Heun's second-order solver of the probability-flow ODE, as EDM runs it."""

import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.numerics import expand, normal, safe_sqrt
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import FromNoise, Info, State, residual_norm
from jaxdiff.samplers.continuous import denoise_ve, level_of_sigma, sigma_of
from jaxdiff.samplers.options import number
from jaxdiff.schedules import Level
from jaxdiff.typing import Array, Key

__all__ = ["Heun", "heun"]


@struct.dataclass
class Heun(FromNoise):
    """dx̃/dσ = (x̃ − D(x̃; σ))/σ in x̃ = x/√ᾱ by Heun's rule; an Euler step to the clean image.

    Attributes:
        churn: γ of Algorithm 2: noise is first raised to σ̂ = (1+γ) σ; None for the deterministic Algorithm 1.
        churn_noise: S_noise, the standard deviation of the added noise.
    """

    churn: Array | None = None
    churn_noise: Array | None = None

    def step(
        self, key: Key, state: State, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[State, Info]:
        """Two network calls (the second is idle in the last step)."""
        schedule, dtype = denoiser.schedule, state.x.dtype
        level_t, level_s = schedule.at(t), schedule.at(s)
        sigma_t, sigma_s = sigma_of(level_t).astype(dtype), sigma_of(level_s).astype(dtype)
        x = state.x / expand(jnp.sqrt(level_t.alpha_bar).astype(dtype), state.x)
        if self.churn is None:
            x0 = denoiser(state.x, t, s).x0
        else:
            raised = level_of_sigma(schedule, sigma_t * (1 + self.churn.astype(dtype))).sigma
            extra = safe_sqrt(raised**2 - sigma_t**2) * self.churn_noise.astype(dtype)  # type: ignore[union-attr]
            x = x + expand(extra, x) * normal(key, x.shape, dtype)
            sigma_t = raised
            x0 = denoise_ve(denoiser, x, sigma_t).x0
        slope = (x - x0) / expand(sigma_t, x)
        euler = x + expand(sigma_s - sigma_t, x) * slope
        last = s < 0
        later = _second_slope(denoiser, euler, level_s, sigma_s, jnp.maximum(s, 0), last)
        heun = x + expand((sigma_s - sigma_t) / 2, x) * (slope + later)
        moved = jnp.where(last, x0, heun) * expand(jnp.sqrt(level_s.alpha_bar).astype(dtype), x)
        return State(moved), Info(residual_norm(problem, x0))


def _second_slope(denoiser: DenoiserLike, x: Array, level: Level, sigma: Array, s: Array, last: Array) -> Array:
    signal = expand(jnp.sqrt(level.alpha_bar).astype(x.dtype), x)
    x0 = denoiser(signal * x, s).x0
    return (x - x0) / expand(jnp.where(last, jnp.ones_like(sigma), sigma), x)


def heun(*, churn: float | Array | None = None, churn_noise: float | Array | None = None) -> Heun:
    """Heun's solver of the probability-flow ODE: 2 network calls a step, error O(h²).

    Use it with ``steps=karras_grid(denoiser.schedule, n)``.

    Args:
        churn: γ ∈ [0, √2−1], how far the noise is raised before each step (stochastic sampler); None for none.
        churn_noise: S_noise, 1 by default, about 1.003 to 1.007 in the paper.

    Raises:
        ValueError: if one is no number, negative or infinite, or there is ``churn_noise`` without churn.

    Reference:
        Karras et al. 2022, Algorithms 1 and 2. Departure: γ is one number for all levels (the paper switches it off
        outside [S_tmin, S_tmax]), and levels raised beyond the schedule's largest are clamped to it.
    """
    if churn is None and churn_noise is not None:
        raise ValueError("churn_noise scales the noise that churn adds; give churn too, or leave it out.")
    scale = 1.0 if churn_noise is None else churn_noise
    return Heun(None if churn is None else number("churn", churn), number("churn_noise", scale))
