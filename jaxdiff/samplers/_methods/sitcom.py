"""SITCOM (Alkhouri et al. 2025, Algorithm 1): the network's input is optimised until its output agrees with y.

In each step, SITCOM changes the input of the network until the output fits the measurement. Adam finds this input. Then
noise is added. Each step of Adam needs a forward and a backward pass, so SITCOM makes few but expensive steps.

v   ← x_t
repeat until ‖A(x̂₀(v)) − y‖² is that of the noise:
    v ← a step of Adam from v down ‖A(x̂₀(v)) − y‖² + λ ‖v − x_t‖²
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

    Adam stops as soon as the misfit is as small as the noise: ‖A(x̂₀(v)) − y‖² ≤ m (σ + 0.001)², where m is the number of
    measured entries. The truth is never used.
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

    Each step makes ``iterations`` + 1 forward and ``iterations`` backward passes. It is made for 20 steps.

    Args:
        rate: the learning rate of Adam.
        iterations: the largest number of Adam steps in a step.
        lam: λ, which keeps the input close to x_t.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Alkhouri et al. 2025, "SITCOM: Step-wise Triple-Consistent Diffusion Sampling for Inverse Problems",
        Algorithm 1. Differences: the authors' code uses the truth to choose the best image, and this does not. The
        stopping rule counts only measured entries.
    """
    return SITCOM(number("rate", rate, open_low=True), number("lam", lam), count("iterations", iterations))
