"""DSG, diffusion with spherical Gaussian constraint: the noise is turned towards the measurement, its length kept."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import expand, normal, safe_norm
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, Info, State
from jaxdiff.samplers.measurement import divide
from jaxdiff.samplers.options import need_problem, noisy_move_of, number
from jaxdiff.samplers.transitions import Transition, ddim
from jaxdiff.typing import Array, Key, Scalar

__all__ = ["DSG", "dsg"]


@struct.dataclass
class DSG(GuidedSampler):
    """x_s = μ + r d/‖d‖, d = (1−g) σ z − g r ∇/‖∇‖, r = √n σ, ∇ = ∇_{x_t} ‖y − A(x̂₀)‖.

    μ and σ are the transition's mean and standard deviation: noise of its usual length, a share g of it pointing
    downhill.

    Attributes:
        rate: g in [0, 1].
    """

    rate: Array

    def predict(
        self, x_t: Array, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Prediction, Array, Scalar]:
        """One forward pass and one gradient with respect to x_t."""
        problem = need_problem(problem, "DSG")

        def misfit(x_t: Array) -> tuple[Scalar, Prediction]:
            prediction = denoiser(x_t, t, s)
            return safe_norm(problem.residual(prediction.x0)), prediction

        (norm, prediction), gradient = jax.value_and_grad(misfit, has_aux=True)(x_t)
        return prediction, gradient, norm

    def step(
        self, key: Key, state: State, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[State, Info]:
        """One step on the sphere; ``key`` may be the step's recorded noise."""
        x = state.x
        prediction, gradient, residual = self.predict(x, t, s, problem, denoiser)
        noise = normal(key, x.shape, x.dtype)

        def move(noise: Array) -> Array:
            return self.transition(prediction, x, t, s, noise, denoiser.schedule)

        mean = move(jnp.zeros_like(x))
        radius = safe_norm(move(jnp.ones_like(x)) - mean)  # √n σ, also where σ differs from pixel to pixel
        downhill = -expand(divide(radius, safe_norm(gradient)), x) * gradient
        rate = expand(self.rate.astype(x.dtype), x)
        direction = (1 - rate) * (move(noise) - mean) + rate * downhill
        x_s = mean + expand(divide(radius, safe_norm(direction)), x) * direction
        return State(x_s), Info(residual)


def dsg(*, rate: float | Array = 0.1, transition: Transition | GuidedSampler | None = None) -> DSG:
    """Diffusion with spherical Gaussian constraint, for any differentiable operator.

    Network calls a step: 1 forward, 1 backward. Large steps without leaving the shell where noisy images live; few
    (20–100) steps suffice.

    Args:
        rate: share g of the noise that is guidance, in [0, 1]; 0.05 to 0.2 in the paper.
        transition: a move *with noise*; DDIM(η = 1) by default.

    Raises:
        ValueError: if the rate is not in [0, 1], or the transition adds no noise.

    Reference:
        Yang et al. 2024, "Guidance with Spherical Gaussian Constraint for Conditional Diffusion".
        Departure: guidance in every step (the authors' code may skip some).
    """
    transition = noisy_move_of(transition, "DSG", ddim(eta=1.0))
    return DSG(number("rate", rate, high=1.0), transition=transition)
