"""The denoising losses, for one image: pure functions of what the network put out."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff import diffusion
from jaxdiff.numerics import expand
from jaxdiff.schedules import Level, NoiseSchedule
from jaxdiff.typing import Array, Scalar

__all__ = ["Losses", "denoising_loss", "loss_weight", "target", "vlb_term"]


class Losses(NamedTuple):
    """What one image adds to the loss.

    Attributes:
        total: what is minimised.
        mse: unweighted mean squared error of the predicted quantity.
        vlb: the term of the variational bound in bits per dimension, 0 where the variance is fixed.
    """

    total: Scalar
    mse: Scalar
    vlb: Scalar


def target(prediction: str, x0: Array, noise: Array, level: Level) -> Array:
    """What the network is to put out: ε, x₀, or v = √ᾱ ε − √(1−ᾱ) x₀ (Salimans & Ho 2022)."""
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    signal = expand(jnp.sqrt(level.alpha_bar), x0).astype(x0.dtype)
    sigma = expand(jnp.sqrt(level.one_minus_alpha_bar), x0).astype(x0.dtype)
    return signal * noise - sigma * x0


def loss_weight(weighting: str, prediction: str, level: Level, gamma: float) -> Scalar:
    """Weight of the squared error at a noise level.

    "simple" is 1. "min_snr" is min(SNR, γ) on the error of x₀, SNR = ᾱ/(1−ᾱ); written for what the network predicts,
    that is min(SNR, γ)/SNR for ε and min(SNR, γ)/(SNR + 1) for v.

    Reference: Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", 2023, section 3.4.
    """
    if weighting == "simple":
        return jnp.ones_like(level.alpha_bar)
    rest = level.one_minus_alpha_bar
    # min(ᾱ, γ(1−ᾱ)) = (1−ᾱ) min(SNR, γ), which never divides by a small number.
    capped = jnp.minimum(level.alpha_bar, gamma * rest)
    if prediction == "eps":
        return capped / level.alpha_bar
    return capped / rest if prediction == "x0" else capped


def vlb_term(schedule: NoiseSchedule, x0: Array, x_t: Array, x0_hat: Array, log_variance: Array, t: Array) -> Scalar:
    """One term of the variational bound, in bits per dimension.

    KL(q(x_{t−1} | x_t, x₀) ‖ p(x_{t−1} | x_t)) for t > 0, and −log p(x₀ | x₁) of 8-bit values for t = 0.

    Args:
        schedule: ᾱ.
        x0: the image [H, W, C] in [-1, 1].
        x_t: its noisy version.
        x0_hat: the network's estimate of it, which sets the mean of p.
        log_variance: log of the variance of p, [H, W, C].
        t: timestep.

    Reference: Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, section 2.
    """
    schedule = _as(schedule, x0)
    q = diffusion.posterior_coefficients(schedule.at(t), schedule.at(t - 1))
    true_log_variance = expand(diffusion.posterior_log_variance(schedule, t, t - 1), x0)
    mean_p = expand(q.x0_weight, x0) * x0_hat + expand(q.xt_weight, x0) * x_t
    mean_q = expand(q.x0_weight, x0) * x0 + expand(q.xt_weight, x0) * x_t
    kl = 0.5 * (
        log_variance
        - true_log_variance
        + jnp.exp(true_log_variance - log_variance)
        + jnp.square(mean_q - mean_p) * jnp.exp(-log_variance)
        - 1.0
    )
    decoder = -_log_likelihood_8bit(x0, mean_p, 0.5 * log_variance)
    return jnp.where(t == 0, jnp.mean(decoder), jnp.mean(kl)) / math.log(2.0)


def _as(schedule: NoiseSchedule, like: Array) -> NoiseSchedule:
    return jax.tree.map(lambda leaf: leaf.astype(like.dtype), schedule)


def _log_likelihood_8bit(x: Array, mean: Array, log_std: Array) -> Array:
    """Log-probability that N(mean, std²) falls into the bin of width 2/255 around x; the end bins are open.

    Written as log(Φ(b) − Φ(a)) = log Φ(b) + log(1 − exp(log Φ(a) − log Φ(b))) on the side where Φ is small, so that it
    stays finite, with a finite gradient, however far away the mean is.
    """
    inverse = jnp.exp(-log_std)
    upper = (x + 1 / 255 - mean) * inverse
    lower = (x - 1 / 255 - mean) * inverse
    # Mirror where the bin lies above the mean, so that both ends are in the accurate tail.
    above = lower > 0
    a, b = jnp.where(above, -upper, lower), jnp.where(above, -lower, upper)
    log_b, gap = jax.scipy.stats.norm.logcdf(b), jnp.maximum(b - a, 1e-6)
    log_a = jax.scipy.stats.norm.logcdf(b - gap)
    inner = log_b + jnp.log(-jnp.expm1(jnp.minimum(log_a - log_b, -1e-7)))
    first, last = x < -0.999, x > 0.999
    tails = jnp.where(first, jax.scipy.stats.norm.logcdf(upper), jax.scipy.stats.norm.logcdf(-lower))
    return jnp.where(first | last, tails, inner)


def denoising_loss(
    output: Array,
    x0: Array,
    noise: Array,
    t: Array,
    schedule: NoiseSchedule,
    *,
    prediction: str = "eps",
    variance: str = "fixed_small",
    weighting: str = "simple",
    min_snr_gamma: float = 5.0,
    vlb_weight: float = 0.001,
) -> Losses:
    """Loss of one image at one timestep, from the network's output at x_t = √ᾱ x₀ + √(1−ᾱ) ε.

    w(t) mean |output − target|², plus λ T · vlb_t where the variance is learned: the hybrid loss of improved diffusion,
    λ L_vlb with L_vlb = T E_t vlb_t. The bound's gradient reaches only the variance, not the mean.

    Args:
        output: [H, W, C], or [H, W, 2C] with a learned variance.
        x0: the image [H, W, C] in [-1, 1].
        noise: ε, the same shape.
        t: timestep in 0 … T−1.
        schedule: ᾱ.
        prediction: "eps", "x0" or "v".
        variance: "fixed_small", "fixed_large", "learned" or "learned_range".
        weighting: "simple" or "min_snr".
        min_snr_gamma: γ of the latter.
        vlb_weight: λ.

    Reference: Ho et al. 2020, Eq. 14; Nichol & Dhariwal 2021, Eqs. 15 and 16.
    """
    channels = x0.shape[-1]
    schedule = _as(schedule, x0)
    level = schedule.at(t)
    mean_output, values = output[..., :channels], output[..., channels:]
    mse = jnp.mean(jnp.square(mean_output - target(prediction, x0, noise, level)))
    total = loss_weight(weighting, prediction, level, min_snr_gamma).astype(mse.dtype) * mse
    if not variance.startswith("learned"):
        return Losses(total, mse, jnp.zeros_like(mse))
    x_t = diffusion.q_sample(x0, noise, level)
    to_x0 = {"eps": diffusion.x0_from_eps, "v": diffusion.x0_from_v, "x0": lambda _, out, __: out}[prediction]
    x0_hat = jax.lax.stop_gradient(to_x0(x_t, mean_output, level))
    log_variance = values
    if variance == "learned_range":
        log_variance = diffusion.learned_range_log_variance(values, schedule, t, t - 1)
    vlb = vlb_term(schedule, x0, x_t, x0_hat, log_variance, t)
    return Losses(total + vlb_weight * schedule.num_steps * vlb, mse, vlb)
