"""Autoguidance: a prior that is pushed away from a weaker version of itself."""

import math
from typing import Any

import jax.numpy as jnp
from flax import struct

from jaxdiff._summary import Summarised
from jaxdiff.denoisers.network import DenoiserLike, Prediction
from jaxdiff.schedules import NoiseSchedule, level_of_sigma
from jaxdiff.typing import Array, Shape, static

__all__ = ["Autoguided", "autoguided"]

CLAMPED = 1e-3
"""Relative difference from which a σ is beyond the noise levels of the weak prior."""


@struct.dataclass
class Autoguided(Summarised):
    """D + w (D − D_weak) between two noise levels, and D at all others, and where the weak prior knows no such level.

    Attributes:
        strong: the prior, D.
        weak: the weaker prior, D_weak, at the same noise level.
        weight: w.
        sigma_range: the lowest and the highest σ at which the weak prior acts, [2].
        clip: clip x̂₀ to [-1, 1].
    """

    strong: Any
    weak: Any
    weight: Array
    sigma_range: Array
    clip: bool = static(default=True)

    @property
    def schedule(self) -> NoiseSchedule:
        """The prior's."""
        return self.strong.schedule

    @property
    def image_shape(self) -> Shape:
        """(H, W, C)."""
        return self.strong.image_shape

    def __call__(self, x_t: Array, t: Array, s: Array | None = None) -> Prediction:
        """Denoise one image at timestep t: a network call of each prior."""
        found, level = self.strong(x_t, t, s), self.schedule.at(t)
        sigma = jnp.sqrt(level.one_minus_alpha_bar / level.alpha_bar)
        known = level_of_sigma(self.weak.schedule, sigma)
        other = self.weak(x_t, known.t)
        inside = (sigma >= self.sigma_range[0]) & (sigma <= self.sigma_range[1])
        inside &= jnp.abs(known.sigma - sigma) <= CLAMPED * sigma
        weight = jnp.where(inside, self.weight, 0).astype(x_t.dtype)
        eps = found.eps + weight * (found.eps - other.eps)
        x0 = found.x0 + weight * (found.x0 - other.x0)
        return Prediction(jnp.clip(x0, -1, 1) if self.clip else x0, eps, found.log_variance)


def autoguided(
    strong: DenoiserLike,
    weak: DenoiserLike,
    *,
    weight: float | Array = 1.0,
    sigma_range: tuple[float, float] = (0.0, math.inf),
) -> Autoguided:
    """Guide a prior by a weaker version of itself: a smaller network, or one that was trained for a shorter time.

        D_w(x; σ) = D(x; σ) + w (D(x; σ) − D_weak(x; σ))

    Both priors make errors in the same direction, and those of the weak prior are larger. So a step away from the weak prior
    helps. Draws become cleaner and less varied, and no longer follow the prior exactly. A call evaluates both networks.

    Args:
        strong: the prior.
        weak: the weaker prior, for the same images. It may have another schedule.
        weight: w. 0 gives the prior itself, and 1 to 2 are usual.
        sigma_range: the lowest and the highest σ, on [-1, 1], at which the weak prior acts.

    Raises:
        ValueError: if the priors have different image shapes, w is negative, or the range is empty.

    Reference:
        Karras et al., "Guiding a Diffusion Model with a Bad Version of Itself", NeurIPS 2024, Eq. 4. The range is from
        Kynkäänniemi et al., "Applying Guidance in a Limited Interval", NeurIPS 2024.
    """
    if tuple(strong.image_shape) != tuple(weak.image_shape):
        raise ValueError(
            f"the weak prior is of images {tuple(weak.image_shape)}, the strong one of {tuple(strong.image_shape)}; "
            "take two of the same size."
        )
    if isinstance(weight, int | float) and not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight must be a number of at least 0, got {weight}.")
    low, high = sigma_range
    if not 0 <= low < high:
        raise ValueError(f"sigma_range must be two numbers from 0 up, the smaller first, got {sigma_range}.")
    clip = bool(getattr(strong, "clip", False))
    dtype = strong.schedule.alpha_bar.dtype
    # Clipped once, after the guidance: a difference of clipped estimates would say too little.
    return Autoguided(_bare(strong), _bare(weak), jnp.asarray(weight, dtype), jnp.asarray(sigma_range, dtype), clip)


def _bare(prior: Any) -> Any:
    """The prior without clipping."""
    return prior.replace(clip=False) if getattr(prior, "clip", False) else prior
