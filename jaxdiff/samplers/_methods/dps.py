"""DPS, diffusion posterior sampling: guidance by the gradient of the data misfit through x̂₀."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import expand, safe_norm
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler
from jaxdiff.samplers.measurement import divide, residual_at
from jaxdiff.samplers.options import move_of, schedule, value_at
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Scalar, static

__all__ = ["DPS", "dps"]

NORMS = ("residual", "gradient", "squared")


@struct.dataclass
class DPS(GuidedSampler):
    """x_s ← x_s − step, with r = y − A(x̂₀(x_t)) of this image:

    - ``residual``: step = ζ ∇_{x_t} ‖r‖₂, the original code (Chung et al. 2023, Algorithm 1: ζ′/‖r‖ · ∇‖r‖², ζ = 2ζ′);
    - ``gradient``: step = ζ ∇‖r‖² / ‖∇‖r‖²‖₂, the study as printed: its length is ζ;
    - ``squared``: step = ζ ∇‖r‖², no normalisation.

    Norms are per image: image i gets the same step alone and in any batch (the original's is batch-wide).

    Attributes:
        zeta: ζ, one number or [T].
        norm: which of the three.
        observed_only: whether r is 0 where the measurement says nothing, as under a mask.
    """

    zeta: Array
    norm: str = static(default="residual")
    observed_only: bool = static(default=False)

    def predict(
        self, x_t: Array, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Prediction, Array, Scalar]:
        """One forward pass and one gradient with respect to x_t, sharing it."""
        if problem is None:
            raise ValueError("DPS restores a measurement; give a problem, or sample with jd.samplers.ddpm().")

        def misfit(x_t: Array) -> tuple[Scalar, tuple[Prediction, Scalar]]:
            prediction = denoiser(x_t, t, s)
            residual = residual_at(problem, prediction.x0, observed_only=self.observed_only)
            norm = safe_norm(residual)
            value = norm if self.norm == "residual" else jnp.sum(jnp.square(jnp.abs(residual)))
            return value, (prediction, norm)

        gradient, (prediction, norm) = jax.grad(misfit, has_aux=True)(x_t)
        return prediction, gradient, norm

    def correct(
        self,
        x_s: Array,
        x_t: Array,
        t: Array,
        s: Array,
        guidance: Array,
        problem: Problem | None,
        denoiser: DenoiserLike,
    ) -> Array:
        """Step against the gradient."""
        scale = value_at("zeta", self.zeta, t, denoiser).astype(x_s.dtype)
        if self.norm == "gradient":
            scale = divide(scale, safe_norm(guidance))  # where x̂₀ is clipped all over, there is no gradient
        return x_s - expand(scale, x_s) * guidance


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
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}.")
    return DPS(schedule("zeta", zeta), norm, bool(observed_only), transition=move_of(transition))
