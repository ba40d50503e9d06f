"""MCG, manifold constrained gradient: a gradient step in image space, then projection onto the measurement."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import expand, normal, safe_norm
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, Info, State, residual_norm
from jaxdiff.samplers.measurement import noised_projection
from jaxdiff.samplers.options import move_of, need_key, need_linear, need_problem, schedule, value_at
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Key, Scalar

__all__ = ["MCG", "mcg"]


@struct.dataclass
class MCG(GuidedSampler):
    """x′ = x_s − ζ ∇_{x_t} ‖A⁺(y − A x̂₀)‖₂, then x_s = x′ + A⁺(√ᾱ_s y + √(1−ᾱ_s) A z − A x′).

    Attributes:
        zeta: ζ, one number or [T].
    """

    zeta: Array

    def predict(
        self, x_t: Array, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Prediction, Array, Scalar]:
        """One forward pass and one gradient with respect to x_t."""
        problem = need_problem(problem, "MCG")
        operator = need_linear(problem, "MCG", "a pseudo-inverse")

        def misfit(x_t: Array) -> tuple[Scalar, Prediction]:
            prediction = denoiser(x_t, t, s)
            residual = operator.keep_observed(problem.residual(prediction.x0))
            return safe_norm(operator.pinv(residual)), prediction

        gradient, prediction = jax.grad(misfit, has_aux=True)(x_t)
        return prediction, gradient, residual_norm(problem, prediction.x0)

    def step(
        self, key: Key, state: State, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[State, Info]:
        """Transition, gradient step, projection; two independent draws."""
        problem = need_problem(problem, "MCG")
        operator = need_linear(problem, "MCG", "a pseudo-inverse")
        move_key, project_key = jax.random.split(need_key(key, "MCG"))
        prediction, gradient, residual = self.predict(state.x, t, s, problem, denoiser)
        x = state.x
        x_s = self.transition(prediction, x, t, s, normal(move_key, x.shape, x.dtype), denoiser.schedule)
        zeta = value_at("zeta", self.zeta, t, denoiser).astype(x.dtype)
        x_s = x_s - expand(zeta, x) * gradient
        noise = normal(project_key, x.shape, x.dtype)
        x_s = noised_projection(x_s, operator, problem.y, denoiser.schedule.at(s), noise)
        return State(x_s), Info(jnp.asarray(residual))


def mcg(*, zeta: float | Array = 1.0, transition: Transition | GuidedSampler | None = None) -> MCG:
    """Manifold constrained gradient, for linear operators with a pseudo-inverse.

    Network calls a step: 1 forward, 1 backward. The projection trusts y as if it had no noise: with σ > 0 the result
    keeps the measurement's noise.

    Args:
        zeta: step size on the gradient of the un-squared norm; [T] values make a schedule over training timesteps.
        transition: the unconditional move; DDPM by default.

    Raises:
        ValueError: if ζ is negative.

    Reference:
        Chung et al. 2022, "Improving Diffusion Models for Inverse Problems using Manifold Constraints",
        Algorithm 1, with W = A⁺. Departure: the gradient is that of the norm itself, of each image,
        as in DPS's code.
    """
    return MCG(schedule("zeta", zeta), transition=move_of(transition))
