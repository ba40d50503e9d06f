"""DPS, diffusion posterior sampling (Chung et al. 2023, Algorithm 1).

Each step is a step of the prior, followed by a small step that brings the estimate closer to the measurement. The second
step follows a gradient that goes through the network. DPS works with every differentiable operator, but it needs a tuned
step size and many steps.

x̂₀   ← the network's prediction at x_t
x_s′ ← the step of the prior from x_t, by x̂₀
r    ← y − A(x̂₀)
x_s  ← x_s′ − ζ ∇_{x_t} ‖r‖
"""

from flax import struct

from jaxdiff._checks import choice, flag, scheduled
from jaxdiff.linalg import divide_or_zero, times
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import safe_norm
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import Calls, GuidedSampler, Info, State, residual_norm
from jaxdiff.samplers.likelihood import distance, squared_misfit
from jaxdiff.samplers.ranges import Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Image, Scalar, static

__all__ = ["DPS", "dps"]

MISFITS = {"residual": distance, "gradient": squared_misfit, "squared": squared_misfit}


@struct.dataclass
class DPS(GuidedSampler):
    """x_s ← x_s′ − ζ ∇_{x_t} ‖r‖₂, with r = y − A(x̂₀(x_t)); or a step along ∇‖r‖² (``norm``)."""

    title = "DPS"
    takes = NoiseModel
    calls = Calls(1, 1)
    search = {"zeta": Log(0.2, 20.0)}

    zeta: Array
    norm: str = static(default="residual")
    observed_only: bool = static(default=False)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One forward pass and one gradient with respect to x_t, sharing it."""
        x_t = state.x

        def misfit(x0: Image) -> Scalar:
            return MISFITS[self.norm](at.problem, x0, observed_only=self.observed_only)

        gradient, prediction, residual = at.misfit_gradient(x_t, misfit)
        x_s = self.move(prediction, x_t, at, at.normal(x_t))
        zeta = at.value("zeta", self.zeta).astype(x_t.dtype)
        if self.norm == "gradient":
            zeta = divide_or_zero(zeta, safe_norm(gradient))  # no gradient is left where x̂₀ is clipped all over
        if self.norm != "residual" or at.problem.noise is not None:  # else it is the misfit
            residual = residual_norm(at.problem, prediction.x0, observed_only=self.observed_only)
        return State(x_s - times(zeta, gradient)), Info(residual)


@register(DPS)
def dps(
    *,
    zeta: float | Array = 1.0,
    norm: str = "residual",
    observed_only: bool = False,
    transition: Transition | GuidedSampler | None = None,
) -> DPS:
    """Diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687).

    Norms are taken over one image; the original takes them over the batch. With a noise model, ‖r‖ is the norm of the model,
    and ‖r‖² is −2σ² log p(y | A(x̂₀)). For Poisson noise, this norm is ‖r‖₂ · mean 1/|y|, as in the original code.

    Args:
        zeta: the step size ζ, the ``scale`` of the original code (0.3 to 1), and twice the ζ′ of the paper. [T] values make a
            schedule over the training timesteps.
        norm: the form of the step. "residual" is ζ ∇‖r‖, as in the original code; the paper writes ζ′/‖r‖ · ∇‖r‖².
            "gradient" is ζ ∇‖r‖² / ‖∇‖r‖²‖, as the study of ``jaxdiff reproduce`` prints it. "squared" is ζ ∇‖r‖².
        observed_only: True counts only pixels that were measured in ‖r‖. False also counts the noise of hidden pixels, as
            the original does. This makes the step of "residual" shorter.
        transition: the step of the prior; by default DDPM with the prior's own variance.

    Raises:
        ValueError: if ζ is negative or neither a number nor [T], or the norm unknown.
    """
    return DPS(
        scheduled("zeta", zeta),
        choice("norm", norm, tuple(MISFITS)),
        flag("observed_only", observed_only),
        transition=transition_of(transition),
    )
