"""DAPS, decoupled annealing posterior sampling (Zhang et al. 2025, Algorithm 1).

At each noise level, DAPS estimates the clean image. Then it draws an image that is close to the estimate and fits the
measurement. Finally it adds the noise of the next level. It needs no gradient of the network. Its draws differ too much.

x̂₀  ← end of the probability flow from x_t, by a few Euler steps
x₀  ~ exp(−‖y − A x‖²/2τ² − ‖x − x̂₀‖²/2σ_t²), by a Langevin chain from x̂₀:
      x ← x + h ∇ log of that density + √(2h) z
x_s ← √ᾱ_s x₀ + √(1−ᾱ_s) z                                new noise, independent of x_t
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import choice, count, number
from jaxdiff.linalg import times
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import expand, normal
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Calls, Info, Sampler, State, residual_norm
from jaxdiff.samplers.continuous import ode_ve
from jaxdiff.samplers.likelihood import towards_data
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Key, Scalar, static

__all__ = ["DAPS", "daps"]

INNER = ("langevin", "hmc")
STABLE = 4
"""Least τ²/h where τ is not given: below ‖A‖²/2 the chain diverges, and ‖A‖ = 2 for the dynamic range."""


@struct.dataclass
class DAPS(Sampler):
    """x̂₀ = flow(x_t); x₀ ~ exp(−‖y − A x‖²/2τ² − ‖x − x̂₀‖²/2σ_t²) by ``mcmc_steps``; x_s = √ᾱ_s x₀ + √(1−ᾱ_s) z.

    The inner chain starts at x = x̂₀ and v ~ N(0, I). Its score is the gradient of that log-density, and its step size is
    h = step_size · (1 − (1 − decay) (1 − t/(T−1))). One inner step is v ← m v + √h score + √(2(1−m)) z, x ← x + √h v.
    With m = 0 this is Langevin's x ← x + h score + √(2h) z.
    With a noise model, the score is that of p(y | A(x)), with added Gaussian noise of variance 4h. If τ is given, it is
    multiplied by σ²/τ².
    """

    title = "DAPS"
    takes = NoiseModel
    spacing = "karras"
    sigma_range = (0.1, 100.0)
    search = {"step_size": Log(1e-5, 3e-3), "ode_steps": Choice((1, 2, 5)), "mcmc_steps": Choice((20, 50, 100))}

    step_size: Array
    decay: Array
    tau: Array | None
    momentum: Array
    ode_steps: int = static(default=5)
    mcmc_steps: int = static(default=100)
    inner: str = static(default="langevin")

    @property
    def calls(self) -> Calls:  # type: ignore[override]
        """``ode_steps``."""
        return Calls(self.ode_steps)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """``ode_steps`` network calls, ``mcmc_steps`` of the chain, fresh noise."""
        chain_key, noise_key = at.keys(2, self.title)
        x_t, level = state.x, at.level_t
        sigma = level.sigma.astype(x_t.dtype)
        centre = ode_ve(at.denoiser, x_t / expand(level.signal.astype(x_t.dtype), x_t), sigma, self.ode_steps)
        progress = 1 - at.t.astype(self.step_size.dtype) / max(at.denoiser.schedule.num_steps - 1, 1)
        h = (self.step_size * (1 - (1 - self.decay) * progress)).astype(x_t.dtype)
        x0 = self._chain(chain_key, at.problem, centre, sigma, h)
        x_s = diffusion.q_sample(x0, normal(noise_key, x0.shape, x0.dtype), at.level_s)
        return State(x_s), Info(residual_norm(at.problem, x0))

    def _chain(self, key: Key, problem: Problem, centre: Array, sigma: Scalar, h: Scalar) -> Array:
        variance = self._variance(problem, h).astype(centre.dtype)
        if self.inner == "hmc":  # from rest, a chain of few steps and much momentum would hardly leave the centre
            key, velocity_key = jax.random.split(key)
            momentum, v = self.momentum.astype(centre.dtype), normal(velocity_key, centre.shape, centre.dtype)
        else:
            momentum, v = jnp.zeros((), centre.dtype), jnp.zeros_like(centre)
        root, kick = jnp.sqrt(h), jnp.sqrt(2 * (1 - momentum))

        def body(carry: tuple[Array, Array], key: Key) -> tuple[tuple[Array, Array], None]:
            x, v = carry
            data = towards_data(problem, x, STABLE * h)
            score = data / expand(variance, x) + (centre - x) / expand(sigma**2, x)
            v = times(momentum, v) + times(root, score) + times(kick, normal(key, x.shape, x.dtype))
            return (x + times(root, v), v), None

        return jax.lax.scan(body, (centre, v), jax.random.split(key, self.mcmc_steps))[0][0]

    def _variance(self, problem: Problem, h: Scalar) -> Scalar:
        """τ², or σ² held where the chain is stable."""
        if self.tau is not None:
            return self.tau**2
        if problem.noise is not None:  # the likelihood itself is softened, entry by entry
            return problem.noise_variance() + STABLE * h
        return jnp.maximum(problem.noise_variance(), STABLE * h)


@register(DAPS)
def daps(
    *,
    step_size: float | Array = 1e-4,
    decay: float | Array = 0.01,
    tau: float | Array | None = None,
    ode_steps: int = 5,
    mcmc_steps: int = 100,
    inner: str = "langevin",
    momentum: float | Array | None = None,
) -> DAPS:
    """Decoupled annealing posterior sampling, for any differentiable operator.

    Each step makes ``ode_steps`` network calls, and needs no gradient of the network. The authors' DAPS-1k has
    ``steps=karras_grid(schedule, 200, sigma_max=100, sigma_min=0.1)``.

    Args:
        step_size: the step size of the inner chain, stable below 2/(‖A‖²/τ² + 1/σ_t²). The authors use 1e-4
            (super-resolution, random inpainting, Gaussian blur), 5e-5 (box, motion blur, phase retrieval), 2e-5 (HDR) and
            1e-5 (nonlinear blur).
        decay: the step size at the clean end, as a fraction of ``step_size``.
        tau: τ. None takes the problem's σ, as the posterior has it. If σ is so small that the chain would diverge, None takes
            2√h. The authors use τ = 0.01 with twice the gradient, which is 0.00707 here.
        ode_steps: the number of Euler steps of the flow.
        mcmc_steps: the number of inner steps.
        inner: "langevin" or "hmc" (with momentum).
        momentum: m in [0, 0.999], for "hmc" only; 0.5 by default.

    Raises:
        ValueError: if an option is out of range, or a momentum given without "hmc".

    Reference:
        Zhang et al. 2025, "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing", Algorithm 1.
        Differences: τ is σ by default. The step size decays with t (the authors': with the index of the level).
    """
    if momentum is not None and inner == "langevin":
        raise ValueError("momentum is for inner='hmc'; name that, or leave momentum out.")
    return DAPS(
        number("step_size", step_size, open_low=True),
        number("decay", decay, high=1.0),
        None if tau is None else number("tau", tau, open_low=True),
        number("momentum", 0.5 if momentum is None else momentum, high=0.999),
        count("ode_steps", ode_steps),
        count("mcmc_steps", mcmc_steps),
        choice("inner", inner, INNER),
    )
