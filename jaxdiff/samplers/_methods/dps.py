"""DPS, diffusion posterior sampling (Chung et al. 2023, Algorithm 1).

x̂₀   ← the network's prediction at x_t
x_s′ ← the unconditional move from x_t, by x̂₀
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

NORMS = ("residual", "gradient", "squared")


@struct.dataclass
class DPS(GuidedSampler):
    """x_s ← x_s − step, with r = y − A(x̂₀(x_t)) of this image:

    - ``residual``: step = ζ ∇_{x_t} ‖r‖₂, the original code (Chung et al. 2023, Algorithm 1: ζ′/‖r‖ · ∇‖r‖², ζ = 2ζ′);
    - ``gradient``: step = ζ ∇‖r‖² / ‖∇‖r‖²‖₂, the study as printed: its length is ζ;
    - ``squared``: step = ζ ∇‖r‖², no normalisation.

    Under a noise model ‖r‖ is the model's norm, for Poisson noise the original's ‖r‖ · mean 1/|y|, and ‖r‖² is
    −2σ² log p(y | A(x̂₀)). Norms are per image: image i gets the same step alone and in any batch. The original's is
    batch-wide.

    Attributes:
        zeta: ζ, one number or [T].
        norm: which of the three.
        observed_only: whether r is 0 where the measurement says nothing, as under a mask.
    """

    title = "DPS"
    takes = NoiseModel
    calls = Calls(1, 1)
    search = {"zeta": Log(0.2, 20.0)}

    zeta: Array
    norm: str = static(default="residual")
    observed_only: bool = static(default=False)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One forward pass and one gradient with respect to x_t, sharing it."""
        x_t, size = state.x, distance if self.norm == "residual" else squared_misfit

        def misfit(x0: Image) -> Scalar:
            return size(at.problem, x0, observed_only=self.observed_only)

        gradient, prediction, _ = at.misfit_gradient(x_t, misfit)
        x_s = self.move(prediction, x_t, at, at.normal(x_t))
        zeta = at.value("zeta", self.zeta).astype(x_t.dtype)
        if self.norm == "gradient":
            zeta = divide_or_zero(zeta, safe_norm(gradient))  # no gradient is left where x̂₀ is clipped all over
        return State(x_s - times(zeta, gradient)), Info(residual_norm(at.problem, prediction.x0))


@register(DPS)
def dps(
    *,
    zeta: float | Array = 1.0,
    norm: str = "residual",
    observed_only: bool = False,
    transition: Transition | GuidedSampler | None = None,
) -> DPS:
    """Diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687).

    Args:
        zeta: step size ζ on the gradient of the *un-squared* norm, as the original code's ``scale`` (0.3–1); ζ = 2ζ′ of
            the paper. A leaf: ``vmap`` over it, differentiate through it. [T] values make a schedule over training timesteps.
        norm: "residual" (the original), "gradient" (as the study prints it) or "squared".
        observed_only: False is the original: y's noise on hidden pixels, which ``observe`` adds as the original does, counts
            in ‖r‖ and shortens the step of the "residual" norm. True takes r where something was measured only.
        transition: the unconditional move; DDPM with the prior's own variance by default.

    Raises:
        ValueError: if ζ is negative or neither a number nor [T], or the norm unknown.
    """
    return DPS(
        scheduled("zeta", zeta),
        choice("norm", norm, NORMS),
        flag("observed_only", observed_only),
        transition=transition_of(transition),
    )
