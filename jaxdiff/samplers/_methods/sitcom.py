"""SITCOM (Alkhouri et al. 2025, Algorithm 1): the network's input is optimised until its output agrees with y.

v   ← x_t
repeat, until ‖A(x̂₀(v)) − y‖² is the noise's:
    v ← v moved against ∇_v (‖A(x̂₀(v)) − y‖² + λ ‖v − x_t‖²) by Adam
x_s ← √ᾱ_s x̂₀(v) + √(1−ᾱ_s) z
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count, number
from jaxdiff.linalg import dot
from jaxdiff.samplers.adam import AdamState, adam_init, adam_step
from jaxdiff.samplers.base import Calls, Info, Sampler, State, residual_norm
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Scalar, static

__all__ = ["SITCOM", "sitcom"]


@struct.dataclass
class SITCOM(Sampler):
    """v = argmin ‖A(x̂₀(v)) − y‖² + λ ‖v − x_t‖² from v = x_t by Adam; x_s = √ᾱ_s x̂₀(v) + √(1−ᾱ_s) z.

    The misfit is not driven below that of the noise: v rests once ‖A(x̂₀(v)) − y‖² ≤ m (σ + 0.001)², m the number of
    observed entries. The ground truth is never looked at.

    Attributes:
        rate: Adam's learning rate.
        lam: λ.
        iterations: most steps of Adam a timestep.
    """

    title = "SITCOM"
    search = {"rate": Log(0.003, 0.3), "iterations": Choice((3, 5, 10, 20, 30))}

    rate: Array
    lam: Array
    iterations: int = static(default=30)

    @property
    def calls(self) -> Calls:  # type: ignore[override]
        """``iterations`` gradients, and one more network call."""
        return Calls(self.iterations + 1, self.iterations)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """``iterations`` forward and backward passes and one more forward."""
        x, problem = state.x, at.problem
        goal = problem.observed_count() * (problem.noise_std + 0.001) ** 2

        def objective(v: Array) -> tuple[Scalar, Scalar]:
            residual = problem.operator.keep_observed(problem.residual(at.predict(v).x0))
            squared = dot(residual, residual)
            return squared + self.lam.astype(x.dtype) * dot(v - x, v - x), squared

        def body(carry: tuple[Array, AdamState, Array], _: None) -> tuple[tuple[Array, AdamState, Array], None]:
            v, adam, done = carry
            (_, squared), gradient = jax.value_and_grad(objective, has_aux=True)(v)
            done = done | (squared <= goal)
            moved, adam = adam_step(v, gradient, adam, self.rate)
            return (jnp.where(done, v, moved), adam, done), None

        (v, _, _), _ = jax.lax.scan(body, (x, adam_init(x), jnp.asarray(False)), length=self.iterations)
        x0 = at.predict(v).x0
        return State(diffusion.q_sample(x0, at.normal(x), at.level_s)), Info(residual_norm(problem, x0))


@register(SITCOM)
def sitcom(*, rate: float | Array = 0.02, iterations: int = 30, lam: float | Array = 0.0) -> SITCOM:
    """Step-wise triple-consistent sampling, for any differentiable operator.

    Network calls a step: ``iterations`` + 1 forward, ``iterations`` backward. Made for 20 steps.

    Args:
        rate: learning rate of Adam on the network's input.
        iterations: most steps of Adam a timestep.
        lam: λ, how much the input is held back.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Alkhouri et al. 2025, "SITCOM: Step-wise Triple-Consistent Diffusion Sampling for Inverse Problems",
        Algorithm 1. Departures: no choice of the best iterate by the ground truth, which the authors' code makes; the
        stopping rule counts observed entries only.
    """
    return SITCOM(number("rate", rate, open_low=True), number("lam", lam), count("iterations", iterations))
