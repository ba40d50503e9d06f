"""MMPS, moment-matching posterior sampling: Tweedie's covariance inside the likelihood, by a few Krylov steps."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import expand
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, residual_norm
from jaxdiff.samplers.measurement import SOLVERS, linearize, noise_variance, times
from jaxdiff.samplers.options import choice, count, move_of, need_problem, schedule, value_at
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

    zeta: Array
    iterations: int = static(default=1)
    solver: str = static(default="gmres")

    def predict(
        self, x_t: Array, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Prediction, None, Scalar]:
        """One forward and ``iterations`` + 1 backward passes."""
        problem = need_problem(problem, "MMPS")

        def denoise(x_t: Array) -> tuple[Array, Prediction]:
            prediction = denoiser(x_t, t, s)
            return prediction.x0, prediction

        x0, backward, prediction = jax.vjp(denoise, x_t, has_aux=True)
        level = denoiser.schedule.at(t)
        spread = (level.one_minus_alpha_bar / jnp.sqrt(level.alpha_bar)).astype(x0.dtype)
        local = linearize(problem, x0)
        variance = noise_variance(problem)

        def covariance(u: Array) -> Array:
            return expand(spread, x0) * backward(local.pull(u))[0]

        u = SOLVERS[self.solver](
            lambda u: times(variance, u) + local.push(covariance(u)), local.residual, self.iterations
        )
        zeta = value_at("zeta", self.zeta, t, denoiser).astype(x0.dtype)
        guided = x0 + expand(zeta, x0) * covariance(u)
        return prediction._replace(x0=guided), None, residual_norm(problem, x0)


def mmps(
    *,
    iterations: int = 1,
    solver: str = "gmres",
    zeta: float | Array = 1.0,
    transition: Transition | GuidedSampler | None = None,
) -> MMPS:
    """Moment-matching posterior sampling, for any differentiable operator.

    Network calls a step: 1 forward, ``iterations`` + 1 backward. Exact for a Gaussian prior and a linear operator, as
    steps and iterations grow. Use a denoiser that does not clip (``clip=False``): V is zero where x̂₀ is clipped.

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
        schedule("zeta", zeta),
        count("iterations", iterations),
        choice("solver", solver, tuple(SOLVERS)),
        transition=move_of(transition),
    )
