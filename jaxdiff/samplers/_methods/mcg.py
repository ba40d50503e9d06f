"""MCG, manifold constrained gradient (Chung et al. 2022, Algorithm 1).

MCG takes a gradient step as DPS does. Then it replaces the measured part of the image by the measurement with noise. It
treats the measurement as exact, so the result keeps its noise. Use it only if there is little noise.

x̂₀  ← the network's prediction at x_t
x′  ← the step of the prior from x_t
x′  ← x′ − ζ ∇_{x_t} ‖A⁺(y − A x̂₀)‖
x_s ← x′ + A⁺(√ᾱ_s y + √(1−ᾱ_s) A z − A x′)               take the measured part from y with noise
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
    """x′ = x_s − ζ ∇_{x_t} ‖A⁺(y − A x̂₀)‖₂, then x_s = x′ + A⁺(√ᾱ_s y + √(1−ᾱ_s) A z − A x′)."""

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

    Each step makes one forward and one backward pass. The projection treats y as exact. So with σ > 0, the result keeps the
    noise of y.

    Args:
        zeta: the step size ζ. [T] values make a schedule over the training timesteps.
        transition: the step of the prior; DDPM by default.

    Raises:
        ValueError: if ζ is negative.

    Reference:
        Chung et al. 2022, "Improving Diffusion Models for Inverse Problems using Manifold Constraints",
        Algorithm 1, with W = A⁺. Difference: the gradient is that of the norm of each image, as
        in DPS's code.
    """
    return MCG(scheduled("zeta", zeta), transition=transition_of(transition))
