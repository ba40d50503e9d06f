"""DPM-Solver++(2M): the second-order multistep solver in x̂₀, one network call a step."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.numerics import expand
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Info, pure_noise, residual_norm
from jaxdiff.samplers.continuous import sigma_of
from jaxdiff.typing import Array, Key, static

__all__ = ["DPMSolver", "DPMSolverState", "dpm_solver"]


class DPMSolverState(NamedTuple):
    """The iterate, the previous step's x̂₀ and its h = log σ_t/σ_s (0 before the first step)."""

    x: Array
    x0: Array
    h: Array


@struct.dataclass
class DPMSolver:
    """x_s = (σ_s α_s / σ_t α_t) x_t + α_s (1 − σ_s/σ_t) D, D = x̂₀(x_t) + (h/2h₋)(x̂₀(x_t) − x̂₀ of the step before).

    α = √ᾱ, σ = √((1−ᾱ)/ᾱ), h = log σ_t/σ_s, h₋ the step before's. First order in the first and the last step.

    Attributes:
        start: forward steps at which the run begins; None for pure noise.
    """

    start: int | None = static(default=None)

    def init(self, key: Key, problem: Problem | None, denoiser: DenoiserLike, t: Array) -> DPMSolverState:
        """Pure noise, x_T ~ N(0, I), and no history."""
        del t
        x = pure_noise(key, problem, denoiser)
        return DPMSolverState(x, jnp.zeros_like(x), jnp.zeros((), x.dtype))

    def step(
        self, key: Key, state: DPMSolverState, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[DPMSolverState, Info]:
        """One network call; deterministic, so ``key`` is not used."""
        del key
        x, dtype = state.x, state.x.dtype
        level_t, level_s = denoiser.schedule.at(t), denoiser.schedule.at(s)
        x0 = denoiser(x, t, s).x0
        ratio = (sigma_of(level_s) / sigma_of(level_t)).astype(dtype)
        last = s < 0
        h = -jnp.log(jnp.where(last, jnp.ones_like(ratio), ratio))
        plain = last | (state.h == 0)
        half_slope = jnp.where(plain, jnp.zeros_like(h), h / (2 * jnp.where(plain, jnp.ones_like(h), state.h)))
        target = x0 + expand(half_slope, x) * (x0 - state.x0)
        alpha_t, alpha_s = jnp.sqrt(level_t.alpha_bar).astype(dtype), jnp.sqrt(level_s.alpha_bar).astype(dtype)
        moved = expand(ratio * alpha_s / alpha_t, x) * x + expand(alpha_s * (1 - ratio), x) * target
        return DPMSolverState(moved, x0, h), Info(residual_norm(problem, x0))


def dpm_solver() -> DPMSolver:
    """DPM-Solver++(2M), deterministic: 1 network call a step, error O(h²).

    Use it with ``steps=log_snr_grid(denoiser.schedule, n)`` or ``karras_grid``; 15 to 25 steps are enough for most.

    Reference:
        Lu et al. 2022, "DPM-Solver++", Algorithm 2, with the lower-order last step of its code.
    """
    return DPMSolver()
