"""Heun's solver of the probability-flow ODE (Karras et al. 2022, Algorithms 1 and 2), two network calls a step.

This draws from the prior, without a measurement. It solves the probability-flow equation with a second-order rule, which
needs two network calls for each step.

x̃   ← x_t/√ᾱ_t
d   ← (x̃ − D(x̃; σ_t))/σ_t
x̃′  ← x̃ + (σ_s − σ_t) d
d′  ← (x̃′ − D(x̃′; σ_s))/σ_s
x_s ← √ᾱ_s (x̃ + (σ_s − σ_t)(d + d′)/2)                    x̂₀ in the last step
"""

import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import number
from jaxdiff.linalg import times
from jaxdiff.numerics import expand, safe_sqrt
from jaxdiff.samplers.base import Calls, Info, Sampler, State, residual_norm
from jaxdiff.samplers.continuous import denoise_ve, level_of_sigma
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array

__all__ = ["Heun", "heun"]


@struct.dataclass
class Heun(Sampler):
    """dx̃/dσ = (x̃ − D(x̃; σ))/σ in x̃ = x/√ᾱ by Heun's rule; an Euler step to the clean image."""

    title = "Heun"
    needs = None
    spacing = "karras"
    calls = Calls(2)

    churn: Array | None = None
    churn_noise: Array | None = None

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """Two network calls (the second is idle in the last step)."""
        dtype = state.x.dtype
        level_t, level_s = at.level_t, at.level_s
        sigma_t, sigma_s = level_t.sigma.astype(dtype), level_s.sigma.astype(dtype)
        x = state.x / expand(level_t.signal.astype(dtype), state.x)
        if self.churn is None:
            x0 = at.predict(state.x).x0
        else:
            raised = level_of_sigma(at.denoiser.schedule, sigma_t * (1 + self.churn.astype(dtype))).sigma
            extra = safe_sqrt(raised**2 - sigma_t**2) * self.churn_noise.astype(dtype)  # type: ignore[union-attr]
            x = x + times(extra, at.normal(x))
            sigma_t = raised
            x0 = denoise_ve(at.denoiser, x, sigma_t).x0
        slope = (x - x0) / expand(sigma_t, x)
        euler = x + times(sigma_s - sigma_t, slope)
        heun = x + times((sigma_s - sigma_t) / 2, slope + _slope_at_s(euler, sigma_s, at))
        return State(times(level_s.signal, jnp.where(at.last, x0, heun))), Info(residual_norm(at.problem, x0))


def _slope_at_s(x: Array, sigma: Array, at: Step) -> Array:
    """(x̃ − D(x̃; σ_s))/σ_s."""
    x0 = at.denoiser(times(at.level_s.signal, x), jnp.maximum(at.s, 0)).x0
    return (x - x0) / expand(jnp.where(at.last, jnp.ones_like(sigma), sigma), x)


@register(Heun)
def heun(*, churn: float | Array | None = None, churn_noise: float | Array | None = None) -> Heun:
    """Heun's solver of the probability-flow ODE, with two network calls a step and an error of O(h²).

    Its steps are Karras's levels by default.

    Args:
        churn: γ ∈ [0, √2−1]. Before each step, the noise is raised by this factor. None makes the run deterministic.
        churn_noise: S_noise, 1 by default. The paper uses 1.003 to 1.007.

    Raises:
        ValueError: if one is no number, negative or infinite, or there is ``churn_noise`` without churn.

    Reference:
        Karras et al. 2022, Algorithms 1 and 2. Differences: γ is the same for all levels (the paper uses it
        only in [S_tmin, S_tmax]). Levels beyond the largest of the schedule are set to it.
    """
    if churn is None and churn_noise is not None:
        raise ValueError("churn_noise scales the noise that churn adds; give churn too, or leave it out.")
    scale = 1.0 if churn_noise is None else churn_noise
    return Heun(None if churn is None else number("churn", churn), number("churn_noise", scale))
