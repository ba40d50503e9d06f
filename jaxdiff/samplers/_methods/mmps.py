"""MMPS, moment-matching posterior sampling (Rozet et al. 2024): Bayes' rule with the covariance of x₀ given x_t.

Given the noisy image, MMPS treats the clean image as Gaussian. The network gives its mean and its covariance. Bayes' rule
then corrects the mean by a linear solve. Each iteration of the solve is a backward pass. So MMPS is slow, but it comes
closest to the posterior.

V   ← (1−ᾱ_t)/√ᾱ_t · Jᵀ, J = ∂x̂₀/∂x_t                    Cov[x₀ | x_t]
u   ← (σ² I + A V Aᵀ)⁻¹ (y − A(x̂₀)), by a few Krylov steps
x̂₀  ← x̂₀ + ζ V Aᵀ u
x_s ← the step of the prior, with this x̂₀
"""

import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import choice, count, scheduled
from jaxdiff.denoisers import Prediction
from jaxdiff.linalg import SOLVERS, times
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import Calls, GuidedSampler, residual_norm
from jaxdiff.samplers.likelihood import linearize
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Scalar, static

__all__ = ["MMPS", "mmps"]


@struct.dataclass
class MMPS(GuidedSampler):
    """x̂₀ ← x̂₀ + ζ V Aᵀ u, (σ² I + A V Aᵀ) u = y − A(x̂₀), V = (1−ᾱ_t)/√ᾱ_t · Jᵀ, J = ∂x̂₀/∂x_t.

    V is Cov[x₀ | x_t] by Tweedie's formula. Each product with it is one backward pass. A nonlinear A is linearised at x̂₀.
    """

    title = "MMPS"
    clips = False
    search = {"zeta": Log(0.3, 3.0), "iterations": Choice((1, 2, 3, 5))}

    zeta: Array
    iterations: int = static(default=1)
    solver: str = static(default="gmres")

    @property
    def calls(self) -> Calls:  # type: ignore[override]
        """One forward and ``iterations`` + 1 backward passes."""
        return Calls(1, self.iterations + 1)

    def guide(self, x_t: Array, at: Step) -> tuple[Prediction, Scalar]:
        """The posterior mean of x₀ given x_t and y."""
        prediction, pull = at.predict_vjp(x_t)
        x0, level = prediction.x0, at.level_t
        local = linearize(at.problem, x0)
        variance = at.problem.noise_variance()
        spread = level.one_minus_alpha_bar / jnp.sqrt(level.alpha_bar)

        def covariance(u: Array) -> Array:
            return times(spread, pull(local.pull(u)))

        def normal_matrix(u: Array) -> Array:
            return times(variance, u) + local.push(covariance(u))

        u = SOLVERS[self.solver](normal_matrix, local.residual, self.iterations)
        guided = x0 + times(at.value("zeta", self.zeta), covariance(u))
        return prediction._replace(x0=guided), residual_norm(at.problem, x0)


@register(MMPS)
def mmps(
    *,
    iterations: int = 1,
    solver: str = "gmres",
    zeta: float | Array = 1.0,
    transition: Transition | GuidedSampler | None = None,
) -> MMPS:
    """Moment-matching posterior sampling, for any differentiable operator.

    Each step makes one forward and ``iterations`` + 1 backward passes. For a Gaussian prior and a linear operator it becomes
    exact with more steps and iterations. x̂₀ is never clipped, because V is zero for a clipped pixel.

    Args:
        iterations: k, the number of Krylov steps. 1 is enough for 100 steps or more, and 5 for 10 steps.
        solver: "gmres", for a V that is not symmetric, as that of a network, or "cg".
        zeta: ζ, a factor of the correction; 1 is Bayes' rule. [T] values make a schedule over the training timesteps.
        transition: the step of the prior; DDPM by default.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Rozet et al. 2024, "Learning Diffusion Priors from Observations by Expectation Maximization", the
        section on moment matching. GMRES is run as generalised conjugate residuals; σ is at least 1e-3.
    """
    return MMPS(
        scheduled("zeta", zeta),
        count("iterations", iterations),
        choice("solver", solver, tuple(SOLVERS)),
        transition=transition_of(transition),
    )
