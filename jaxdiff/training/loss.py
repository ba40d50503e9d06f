"""The denoising losses, for one image: pure functions of the network's output."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff import diffusion
from jaxdiff.models.preconditioning import Preconditioning
from jaxdiff.numerics import expand
from jaxdiff.schedules import Level, NoiseSchedule
from jaxdiff.typing import Array, Scalar

__all__ = ["Losses", "denoising_loss", "loss_weight", "preconditioned_loss", "target", "taught", "vlb_term"]


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
    """What the network is to put out: ε, x₀, v = √ᾱ ε − √(1−ᾱ) x₀ (Salimans & Ho 2022), or ``diffusion.v_of`` for "edm"."""
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    return diffusion.v_of(x0, noise, level, diffusion.SIGMA_DATA[prediction])


def taught(
    x0: Array, x_t: Array, x0_teacher: Array, level: Level, share: float, half_snr: float = 0.03
) -> tuple[Array, Array]:
    """The image and noise to aim at, part of which a teacher's estimate stands for; (x₀', ε') explain x_t as (x₀, ε) do.

        x₀' = x₀ + λ (x̂₀ − x₀),   λ = share · SNR / (SNR + h),   ε' = (x_t − √ᾱ x₀') / √(1−ᾱ)

    The best prediction is then (1 − λ) E[x₀ | x_t] + λ x̂₀. A teacher's error counts λ-fold. The part of x₀ that x_t leaves
    open, which makes gradients noisy, is (1 − λ) times as large.

    Args:
        x0: the image [H, W, C] in [-1, 1].
        x_t: its noisy version.
        x0_teacher: x̂₀, the teacher's estimate from x_t.
        level: of the noise in x_t.
        share: λ at low noise, in [0, 1].
        half_snr: h, the ratio SNR = ᾱ/(1−ᾱ) where λ is half of that (0.03: t ≈ 590 of the linear schedule).

    Reference: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015 (mixed targets).
    """
    snr = level.alpha_bar / level.one_minus_alpha_bar
    part = expand(share * snr / (snr + half_snr), x0).astype(x0.dtype)
    aim = x0 + part * (x0_teacher - x0)
    return aim, diffusion.eps_from_x0(x_t, aim, level)


def loss_weight(weighting: str, prediction: str, level: Level, gamma: float, floor: float = 0.0) -> Scalar:
    """Weight of the squared error at a noise level.

    "simple" is 1. "min_snr" is min(SNR + κ, γ) on the error of x₀, SNR = ᾱ/(1−ᾱ). On the error of the network's output
    that is min(SNR + κ, γ)/SNR for ε and min(SNR + κ, γ)/(SNR + 1/s²) for v (s = 1) and edm. κ = ``floor`` is 0 in the
    paper, which leaves the highest noise without any weight. With κ = 1/s² and γ = ∞ it is "simple".

    Reference: Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", 2023, section 3.4.
    """
    if weighting == "simple":
        return jnp.ones_like(level.alpha_bar)
    rest = level.one_minus_alpha_bar
    # min(ᾱ + κ(1−ᾱ), γ(1−ᾱ)) = (1−ᾱ) min(SNR + κ, γ), which never divides by a small number.
    capped = jnp.minimum(level.alpha_bar + floor * rest, gamma * rest)
    if prediction == "eps":
        return capped / level.alpha_bar
    return capped / (rest if prediction == "x0" else level.alpha_bar + rest / diffusion.SIGMA_DATA[prediction] ** 2)


def preconditioned_loss(
    output: Array,
    x0: Array,
    x: Array,
    sigma: Scalar,
    form: Preconditioning,
    *,
    weighting: str = "simple",
    min_snr_gamma: float = 5.0,
    min_snr_floor: float = 0.0,
) -> Losses:
    """Loss of one image of a network that is told σ, from its output F at x = x₀ + σ z.

        w(σ) mean |F − (x₀ − c_skip x)/c_out|²

    "simple" (w = 1) is Karras et al.'s λ(σ) |D(x; σ) − x₀|² with λ = 1/c_out². "min_snr" weights |D − x₀|² by
    min(SNR + κ, γ), SNR = 1/σ².

    Args:
        output: F, [H, W, C].
        x0: the image [H, W, C] in [-1, 1].
        x: its noisy version.
        sigma: σ on [-1, 1].
        form: what surrounds the network.
        weighting: "simple" or "min_snr".
        min_snr_gamma: γ.
        min_snr_floor: κ.

    Reference: Karras et al. 2022, Eq. 8 and Table 1; Hang et al. 2023, section 3.4.
    """
    inside, level = form.inward(x, sigma)
    c = form.scalings(level)
    aim = (form.inward(x0, sigma)[0] - c.skip * inside) / c.out
    mse = jnp.mean(jnp.square(output - aim))
    weight = jnp.ones_like(sigma)
    if weighting == "min_snr":
        scale = form.outward(c.out) - form.outward(jnp.zeros_like(c.out))  # c_out on [-1, 1]
        weight = jnp.minimum(1 / sigma**2 + min_snr_floor, min_snr_gamma) * scale**2
    return Losses(weight.astype(mse.dtype) * mse, mse, jnp.zeros_like(mse))


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

    It is log(Φ(b) − Φ(a)) = log Φ(b) + log(1 − exp(log Φ(a) − log Φ(b))), on the side where Φ is small. So value and
    gradient stay finite, however far away the mean is.
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
    min_snr_floor: float = 0.0,
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
        prediction: "eps", "x0", "v" or "edm".
        variance: "fixed_small", "fixed_large", "learned" or "learned_range".
        weighting: "simple" or "min_snr".
        min_snr_gamma: γ of the latter.
        min_snr_floor: κ of the latter.
        vlb_weight: λ.

    Reference: Ho et al. 2020, Eq. 14; Nichol & Dhariwal 2021, Eqs. 15 and 16.
    """
    channels = x0.shape[-1]
    schedule = _as(schedule, x0)
    level = schedule.at(t)
    mean_output, values = output[..., :channels], output[..., channels:]
    mse = jnp.mean(jnp.square(mean_output - target(prediction, x0, noise, level)))
    total = loss_weight(weighting, prediction, level, min_snr_gamma, min_snr_floor).astype(mse.dtype) * mse
    if not variance.startswith("learned"):
        return Losses(total, mse, jnp.zeros_like(mse))
    x_t = diffusion.q_sample(x0, noise, level)
    x0_hat = jax.lax.stop_gradient(diffusion.x0_and_eps(prediction, x_t, mean_output, level)[0])
    log_variance = values
    if variance == "learned_range":
        log_variance = diffusion.learned_range_log_variance(values, schedule, t, t - 1)
    vlb = vlb_term(schedule, x0, x_t, x0_hat, log_variance, t)
    return Losses(total + vlb_weight * schedule.num_steps * vlb, mse, vlb)
