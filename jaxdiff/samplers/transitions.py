"""Transitions x_t → x_s of an unconditional reverse process, for any two times and with the noise as an argument."""

from typing import Protocol

import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import choice, number
from jaxdiff.denoisers import Prediction
from jaxdiff.linalg import times
from jaxdiff.numerics import expand, safe_sqrt
from jaxdiff.schedules import NoiseSchedule
from jaxdiff.typing import Array, static

__all__ = ["DDIM", "DDPM", "Transition", "ddim", "ddpm"]


class Transition(Protocol):
    """One move of the reverse process, given what the denoiser predicts."""

    def __call__(
        self, prediction: Prediction, x_t: Array, t: Array, s: Array, noise: Array, schedule: NoiseSchedule
    ) -> Array:
        """x_s from x_t; ``noise`` ~ N(0, I) of x_t's shape, ignored where the move is deterministic."""
        ...


@struct.dataclass
class DDPM:
    """Ancestral step: x_s = posterior mean of q(x_s | x_t, x̂₀) + σ z.

    Attributes:
        variance: σ² is "auto" (the prediction's own, learned or fixed; the posterior's where it has none),
            "fixed_small" (β̃_{t|s}) or "fixed_large" (β_{t|s}).
        noise: "ancestral", or "none" for the deterministic mean, as the study prints its Eq. 2.
    """

    variance: str = static(default="auto")
    noise: str = static(default="ancestral")

    def __call__(
        self, prediction: Prediction, x_t: Array, t: Array, s: Array, noise: Array, schedule: NoiseSchedule
    ) -> Array:
        """x_s; no noise is added in the step to the clean image (s = −1)."""
        weights = diffusion.posterior_coefficients(schedule.at(t), schedule.at(s))
        mean = times(weights.x0_weight, prediction.x0) + times(weights.xt_weight, x_t)
        if self.noise == "none":
            return mean
        std = jnp.exp(self._log_variance(prediction, t, s, schedule, x_t) / 2)
        return mean + jnp.where(s < 0, jnp.zeros_like(std), std) * noise

    def _log_variance(self, prediction: Prediction, t: Array, s: Array, schedule: NoiseSchedule, x_t: Array) -> Array:
        if self.variance == "auto" and prediction.log_variance is not None:
            return prediction.log_variance
        if self.variance == "fixed_large":
            return expand(diffusion.fixed_large_log_variance(schedule, t, s), x_t)
        return expand(diffusion.posterior_log_variance(schedule, t, s), x_t)


@struct.dataclass
class DDIM:
    """x_s = √ᾱ_s x̂₀ + √(1−ᾱ_s−σ²) ε̂ + σ z, σ = η √((1−ᾱ_s)/(1−ᾱ_t)) √(1−ᾱ_t/ᾱ_s) (Song et al. 2021, Eqs. 12, 16).

    ε̂ is taken from the x̂₀ at hand (clipped or guided), so that the two always belong to the same x_t.

    Attributes:
        eta: η; 0 is deterministic, 1 has the variance of DDPM.
    """

    eta: Array

    def __call__(
        self, prediction: Prediction, x_t: Array, t: Array, s: Array, noise: Array, schedule: NoiseSchedule
    ) -> Array:
        """x_s from x_t."""
        level_t, level_s = schedule.at(t), schedule.at(s)
        eps = diffusion.eps_from_x0(x_t, prediction.x0, level_t)
        # σ²/(1−ᾱ_s): as a fraction it cannot exceed 1 by rounding where ᾱ_s → 1.
        beta = diffusion.beta_between(level_t, level_s)
        fraction = self.eta.astype(beta.dtype) ** 2 * beta / level_t.one_minus_alpha_bar
        fraction = jnp.clip(fraction, 0, 1)
        sigma_s = jnp.sqrt(level_s.one_minus_alpha_bar)
        return (
            times(jnp.sqrt(level_s.alpha_bar), prediction.x0)
            + times(sigma_s * safe_sqrt(1 - fraction), eps)
            + times(sigma_s * safe_sqrt(fraction), noise)
        )


def ddpm(*, variance: str = "auto", noise: str = "ancestral") -> DDPM:
    """The ancestral transition of DDPM.

    Raises:
        ValueError: if an option is not one of those that ``DDPM`` names.
    """
    return DDPM(
        variance=choice("variance", variance, ("auto", "fixed_small", "fixed_large")),
        noise=choice("noise", noise, ("ancestral", "none")),
    )


def ddim(*, eta: float | Array = 0.0) -> DDIM:
    """The DDIM(η) transition.

    Raises:
        ValueError: if η is no number, negative or infinite.
    """
    return DDIM(eta=number("eta", eta))
