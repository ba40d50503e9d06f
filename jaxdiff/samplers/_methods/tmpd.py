"""TMPD, Tweedie moment projected diffusion (Boys et al. 2024): a diagonal takes the place of the covariance of MMPS.

Given the noisy image, TMPD treats the clean image as Gaussian, as MMPS does. It makes a part of the covariance diagonal, so
the linear solve of MMPS becomes a division. A step costs one forward and two backward passes.

V   ← (1−ᾱ_t)/√ᾱ_t · Jᵀ, J = ∂x̂₀/∂x_t                    Cov[x₀ | x_t]
u   ← (y − A(x̂₀)) / (σ² + A V Aᵀ 1), entry by entry
x̂₀  ← x̂₀ + ζ V Aᵀ u
x_s ← the step of the prior, with this x̂₀
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import choice, count, scheduled
from jaxdiff.denoisers import Prediction
from jaxdiff.linalg import cg_steps, times
from jaxdiff.numerics import expand
from jaxdiff.problems import Problem
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import Calls, GuidedSampler, residual_norm
from jaxdiff.samplers.likelihood import Linearization, linearize
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Scalar, static

__all__ = ["TMPD", "tmpd"]

DIAGONALS = ("measurement", "image")


@struct.dataclass
class TMPD(GuidedSampler):
    """x̂₀ ← x̂₀ + ζ V Aᵀ u with V = (1−ᾱ_t)/√ᾱ_t · Jᵀ, J = ∂x̂₀/∂x_t, and a diagonal in place of V inside the solve.

    - ``measurement``: (σ² + A V Aᵀ 1) u = y − A(x̂₀), entry by entry, as in the paper.
    - ``image``: (σ² I + A diag(V 1) Aᵀ) u = y − A(x̂₀), by conjugate gradients.

    Negative variances count as 0. A nonlinear A is linearised at x̂₀.
    """

    title = "TMPD"
    clips = False
    calls = Calls(1, 2)
    search = {"zeta": Log(0.3, 3.0), "diagonal": Choice(DIAGONALS)}

    zeta: Array
    diagonal: str = static(default="measurement")
    iterations: int = static(default=10)

    def check(self, problem: Problem) -> None:
        """Row sums of a complex matrix are no variances."""
        if self.diagonal == "measurement" and jnp.issubdtype(problem.y.dtype, jnp.complexfloating):
            raise ValueError(
                f"TMPD takes row sums over a real measurement, but {type(problem.operator).__name__} measures complex "
                "numbers; use tmpd(diagonal='image')."
            )

    def guide(self, x_t: Array, at: Step) -> tuple[Prediction, Scalar]:
        """One forward and two backward passes."""
        prediction, pull = at.predict_vjp(x_t)
        x0, level = prediction.x0, at.level_t
        local = linearize(at.problem, x0)
        spread = level.one_minus_alpha_bar / jnp.sqrt(level.alpha_bar)

        def covariance(v: Array) -> Array:
            return times(spread, pull(v))

        u = self._solve(local, covariance, at.problem.noise_variance(), x0)
        guided = x0 + times(at.value("zeta", self.zeta), covariance(local.pull(u)))
        return prediction._replace(x0=guided), residual_norm(at.problem, x0)

    def _solve(self, local: Linearization, covariance: Callable[[Array], Array], variance: Scalar, x0: Array) -> Array:
        residual = local.residual
        if self.diagonal == "measurement":
            sums = local.push(covariance(local.pull(jnp.ones_like(residual))))
            return residual / (expand(variance, residual) + jnp.maximum(sums, 0))
        sums = jnp.maximum(covariance(jnp.ones_like(x0)), 0)
        return cg_steps(lambda u: times(variance, u) + local.push(sums * local.pull(u)), residual, self.iterations)


@register(TMPD)
def tmpd(
    *,
    zeta: float | Array = 1.0,
    diagonal: str = "measurement",
    iterations: int = 10,
    transition: Transition | GuidedSampler | None = None,
) -> TMPD:
    """Tweedie moment projected diffusion, for any differentiable operator.

    Each step makes one forward and two backward passes. It is exact if the pixels are independent and A is a mask. x̂₀ is
    never clipped, because V is zero for a clipped pixel.

    Args:
        zeta: ζ, a factor of the correction. [T] values make a schedule over the training timesteps.
        diagonal: "measurement" (as in the paper) or "image" (as in the benchmark of MMPS's authors).
        iterations: the number of conjugate-gradient steps, for "image".
        transition: the step of the prior; DDPM by default.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Boys et al. 2024, "Tweedie Moment Projected Diffusions for Inverse Problems", with its row-sum
        approximation of the diagonal. σ is at least 1e-3.
    """
    return TMPD(
        scheduled("zeta", zeta),
        choice("diagonal", diagonal, DIAGONALS),
        count("iterations", iterations),
        transition=transition_of(transition),
    )
