"""TMPD, Tweedie moment projected diffusion: Tweedie's covariance reduced to a diagonal by its row sums."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import expand
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, residual_norm
from jaxdiff.samplers.measurement import Linearization, cg_steps, linearize, noise_variance, times
from jaxdiff.samplers.options import choice, count, move_of, need_problem, schedule, value_at
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Scalar, static

__all__ = ["TMPD", "tmpd"]

DIAGONALS = ("measurement", "image")


@struct.dataclass
class TMPD(GuidedSampler):
    """x̂₀ ← x̂₀ + ζ V Aᵀ u with V = (1−ᾱ_t)/√ᾱ_t · Jᵀ, J = ∂x̂₀/∂x_t, and a diagonal in place of V inside the solve.

    - ``measurement``: (σ² + A V Aᵀ 1) u = y − A(x̂₀), entry by entry (the paper);
    - ``image``: (σ² I + A diag(V 1) Aᵀ) u = y − A(x̂₀), by conjugate gradients.

    Negative variances count as 0. A nonlinear A is linearised at x̂₀.

    Attributes:
        zeta: ζ.
        diagonal: where the covariance is made diagonal.
        iterations: of conjugate gradients, for "image".
    """

    zeta: Array
    diagonal: str = static(default="measurement")
    iterations: int = static(default=10)

    def predict(
        self, x_t: Array, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Prediction, None, Scalar]:
        """One forward and two backward passes."""
        problem = need_problem(problem, "TMPD")
        if self.diagonal == "measurement" and jnp.issubdtype(problem.y.dtype, jnp.complexfloating):
            raise ValueError(
                f"TMPD takes row sums over a real measurement, but {type(problem.operator).__name__} measures complex "
                "numbers; use tmpd(diagonal='image')."
            )

        def denoise(x_t: Array) -> tuple[Array, Prediction]:
            prediction = denoiser(x_t, t, s)
            return prediction.x0, prediction

        x0, backward, prediction = jax.vjp(denoise, x_t, has_aux=True)
        level = denoiser.schedule.at(t)
        spread = expand((level.one_minus_alpha_bar / jnp.sqrt(level.alpha_bar)).astype(x0.dtype), x0)

        def covariance(v: Array) -> Array:
            return spread * backward(v)[0]

        local = linearize(problem, x0)
        u = self._solve(local, covariance, noise_variance(problem), x0)
        zeta = value_at("zeta", self.zeta, t, denoiser).astype(x0.dtype)
        guided = x0 + expand(zeta, x0) * covariance(local.pull(u))
        return prediction._replace(x0=guided), None, residual_norm(problem, x0)

    def _solve(self, local: Linearization, covariance: Callable[[Array], Array], variance: Scalar, x0: Array) -> Array:
        residual = local.residual
        if self.diagonal == "measurement":
            sums = local.push(covariance(local.pull(jnp.ones_like(residual))))
            return residual / (expand(variance, residual) + jnp.maximum(sums, 0))
        sums = jnp.maximum(covariance(jnp.ones_like(x0)), 0)
        return cg_steps(lambda u: times(variance, u) + local.push(sums * local.pull(u)), residual, self.iterations)


def tmpd(
    *,
    zeta: float | Array = 1.0,
    diagonal: str = "measurement",
    iterations: int = 10,
    transition: Transition | GuidedSampler | None = None,
) -> TMPD:
    """Tweedie moment projected diffusion, for any differentiable operator.

    Network calls a step: 1 forward, 2 backward. Exact where Cov[x₀ | x_t] is diagonal (independent pixels) and A is a
    mask. Use a denoiser that does not clip.

    Args:
        zeta: multiple of the correction; [T] values make a schedule over training timesteps.
        diagonal: "measurement" (the paper) or "image" (the mmps benchmark's reading).
        iterations: of conjugate gradients for "image".
        transition: the unconditional move; DDPM by default.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Boys et al. 2024, "Tweedie Moment Projected Diffusions for Inverse Problems", with its row-sum
        approximation of the diagonal. σ is at least 1e-3.
    """
    return TMPD(
        schedule("zeta", zeta),
        choice("diagonal", diagonal, DIAGONALS),
        count("iterations", iterations),
        transition=move_of(transition),
    )
