"""DSG, diffusion with spherical Gaussian constraint (Yang et al. 2024).

DPS adds a gradient step to the noise of the prior's step. DSG turns this noise towards the gradient instead, and keeps its
length. So the image keeps a typical amount of noise, even if the guidance is strong. 20 to 100 steps are enough.

μ, σ ← mean and standard deviation of the prior's step, r = √n σ
∇    ← ∇_{x_t} ‖y − A(x̂₀)‖
d    ← (1−g) σ z − g r ∇/‖∇‖                              noise, a share g of it downhill
x_s  ← μ + r d/‖d‖                                        d with its usual length
"""

import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import number
from jaxdiff.linalg import divide_or_zero, times
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import safe_norm
from jaxdiff.samplers.arguments import noisy_transition_of
from jaxdiff.samplers.base import Calls, GuidedSampler, Info, State, residual_norm
from jaxdiff.samplers.likelihood import distance, squared_misfit
from jaxdiff.samplers.ranges import Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition, ddim
from jaxdiff.typing import Array

__all__ = ["DSG", "dsg"]


@struct.dataclass
class DSG(GuidedSampler):
    """x_s = μ + r d/‖d‖, d = (1−g) σ z − g r ∇/‖∇‖, r = √n σ, ∇ = ∇_{x_t} ‖y − A(x̂₀)‖.

    μ and σ are the mean and the standard deviation of the prior's step. The noise keeps its usual length, and a share g of it
    points downhill. With a noise model, ∇ is −∇_{x_t} log p(y | A(x̂₀)).
    """

    title = "DSG"
    takes = NoiseModel
    calls = Calls(1, 1)
    search = {"rate": Log(0.01, 0.5)}

    rate: Array

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One step on the sphere; one forward pass and one gradient with respect to x_t."""
        x = state.x
        misfit = distance if at.problem.noise is None else squared_misfit  # only its direction counts
        gradient, prediction, _ = at.misfit_gradient(x, lambda x0: misfit(at.problem, x0))

        def move(noise: Array) -> Array:
            return self.move(prediction, x, at, noise)

        mean = move(jnp.zeros_like(x))
        radius = safe_norm(move(jnp.ones_like(x)) - mean)  # √n σ, also where σ differs from pixel to pixel
        downhill = -times(divide_or_zero(radius, safe_norm(gradient)), gradient)
        rate = self.rate.astype(x.dtype)
        direction = times(1 - rate, move(at.normal(x)) - mean) + times(rate, downhill)
        x_s = mean + times(divide_or_zero(radius, safe_norm(direction)), direction)
        return State(x_s), Info(residual_norm(at.problem, prediction.x0))


@register(DSG)
def dsg(*, rate: float | Array = 0.1, transition: Transition | GuidedSampler | None = None) -> DSG:
    """Diffusion with spherical Gaussian constraint, for any differentiable operator.

    Each step makes one forward and one backward pass. 20 to 100 steps are enough.

    Args:
        rate: g, the share of the noise that is guidance, in [0, 1]. The paper uses 0.05 to 0.2.
        transition: the step of the prior, which must add noise; DDIM(η = 1) by default.

    Raises:
        ValueError: if the rate is not in [0, 1], or the transition adds no noise.

    Reference:
        Yang et al. 2024, "Guidance with Spherical Gaussian Constraint for Conditional Diffusion".
        Difference: every step is guided (the authors' code can skip some).
    """
    transition = noisy_transition_of(transition, "DSG", ddim(eta=1.0))
    return DSG(number("rate", rate, high=1.0), transition=transition)
