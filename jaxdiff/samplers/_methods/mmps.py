"""MMPS, moment-matching posterior sampling (Rozet et al. 2024): Tweedie's covariance inside the likelihood.

V   ← (1−ᾱ_t)/√ᾱ_t · Jᵀ, J = ∂x̂₀/∂x_t                    Cov[x₀ | x_t]
u   ← (σ² I + A V Aᵀ)⁻¹ (y − A(x̂₀)), by a few Krylov steps
x̂₀  ← x̂₀ + ζ V Aᵀ u
x_s ← the unconditional move from x̂₀
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

    V is Tweedie's Cov[x₀ | x_t]; each product with it is one backward pass. A nonlinear A is linearised at x̂₀.

    Attributes:
        zeta: ζ, 1 for the posterior mean itself.
        iterations: Krylov steps a move.
        solver: "gmres" (V need not be symmetric, as a network's is not) or "cg".
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

    Network calls a step: 1 forward, ``iterations`` + 1 backward. Exact for a Gaussian prior and a linear operator, as
    steps and iterations grow. Its x̂₀ is never clipped: V would be zero there.

    Args:
        iterations: Krylov steps k; 1 is enough at 100 steps and more, 5 at 10 steps.
        solver: "gmres" or "cg".
        zeta: multiple of the correction; [T] values make a schedule over training timesteps.
        transition: the unconditional move; DDPM by default.

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
