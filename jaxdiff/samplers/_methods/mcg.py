"""MCG, manifold constrained gradient (Chung et al. 2022, Algorithm 1).

x̂₀  ← the network's prediction at x_t
x′  ← the unconditional move from x_t
x′  ← x′ − ζ ∇_{x_t} ‖A⁺(y − A x̂₀)‖
x_s ← x′ + A⁺(√ᾱ_s y + √(1−ᾱ_s) A z − A x′)               project on the noised measurement
"""

from flax import struct

from jaxdiff._checks import scheduled
from jaxdiff.linalg import times
from jaxdiff.numerics import normal, safe_norm
from jaxdiff.operators.base import LinearOperator
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import Calls, GuidedSampler, Info, State, residual_norm
from jaxdiff.samplers.likelihood import noised_projection
from jaxdiff.samplers.ranges import Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Image, Scalar

__all__ = ["MCG", "mcg"]


@struct.dataclass
class MCG(GuidedSampler):
    """x′ = x_s − ζ ∇_{x_t} ‖A⁺(y − A x̂₀)‖₂, then x_s = x′ + A⁺(√ᾱ_s y + √(1−ᾱ_s) A z − A x′).

    Attributes:
        zeta: ζ, one number or [T].
    """

    title = "MCG"
    needs = LinearOperator
    wants = "a linear operator with a pseudo-inverse"
    calls = Calls(1, 1)
    search = {"zeta": Log(0.05, 10.0)}

    zeta: Array

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """Transition, gradient step, projection; two independent draws."""
        x, problem, operator = state.x, at.problem, at.operator
        move_key, project_key = at.keys(2, self.title)

        def misfit(x0: Image) -> Scalar:
            return safe_norm(operator.pinv(operator.keep_observed(problem.residual(x0))))

        gradient, prediction, _ = at.misfit_gradient(x, misfit)
        x_s = self.move(prediction, x, at, normal(move_key, x.shape, x.dtype))
        x_s = x_s - times(at.value("zeta", self.zeta), gradient)
        x_s = noised_projection(x_s, problem, at.level_s, normal(project_key, x.shape, x.dtype))
        return State(x_s), Info(residual_norm(problem, prediction.x0))


@register(MCG)
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
    return MCG(scheduled("zeta", zeta), transition=transition_of(transition))
