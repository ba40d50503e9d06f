"""DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2): the second-order multistep solver in x̂₀, one network call a step.

This draws from the prior, without a measurement. It solves the probability-flow equation, and uses the estimate of the
previous step again. So 15 to 25 steps are usually enough.

x̂₀  ← the network's prediction at x_t
h   ← log σ_t/σ_s, σ = √((1−ᾱ)/ᾱ)
D   ← x̂₀ + (h/2h₋)(x̂₀ − x̂₀ of the step before)
x_s ← √(ᾱ_s/ᾱ_t) σ_s/σ_t x_t + √ᾱ_s (1 − σ_s/σ_t) D
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import struct

from jaxdiff.linalg import times
from jaxdiff.samplers.base import Info, Sampler, pure_noise, residual_norm
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array

__all__ = ["DPMSolver", "DPMSolverState", "dpm_solver"]


class DPMSolverState(NamedTuple):
    """The image, and x̂₀ and h = log σ_t/σ_s of the previous step (0 before the first step)."""

    x: Array
    x0: Array
    h: Array


@struct.dataclass
class DPMSolver(Sampler):
    """x_s = (σ_s α_s / σ_t α_t) x_t + α_s (1 − σ_s/σ_t) D, D = x̂₀(x_t) + (h/2h₋)(x̂₀(x_t) − x̂₀ of the step before).

    α = √ᾱ, σ = √((1−ᾱ)/ᾱ), h = log σ_t/σ_s; h₋ is that of the previous step. The first and the last step are of first order.
    """

    title = "DPM-Solver"
    needs = None
    spacing = "log_snr"

    def begin(self, at: Step) -> DPMSolverState:
        """Pure noise, x_T ~ N(0, I), and no history."""
        x = pure_noise(at)
        return DPMSolverState(x, jnp.zeros_like(x), jnp.zeros((), x.dtype))

    def advance(self, state: DPMSolverState, at: Step) -> tuple[DPMSolverState, Info]:
        """One network call; deterministic."""
        x, dtype = state.x, state.x.dtype
        level_t, level_s = at.level_t, at.level_s
        x0 = at.predict(x).x0
        ratio = (level_s.sigma / level_t.sigma).astype(dtype)
        h = -jnp.log(jnp.where(at.last, jnp.ones_like(ratio), ratio))
        plain = at.last | (state.h == 0)
        half_slope = jnp.where(plain, jnp.zeros_like(h), h / (2 * jnp.where(plain, jnp.ones_like(h), state.h)))
        target = x0 + times(half_slope, x0 - state.x0)
        alpha_t, alpha_s = level_t.signal.astype(dtype), level_s.signal.astype(dtype)
        moved = times(ratio * alpha_s / alpha_t, x) + times(alpha_s * (1 - ratio), target)
        return DPMSolverState(moved, x0, h), Info(residual_norm(at.problem, x0))


@register(DPMSolver)
def dpm_solver() -> DPMSolver:
    """DPM-Solver++(2M): deterministic, with one network call a step and an error of O(h²).

    Its steps are even in log σ by default; 15 to 25 are usually enough.

    Reference:
        Lu et al. 2022, "DPM-Solver++", Algorithm 2, with the lower-order last step of its code.
    """
    return DPMSolver()
