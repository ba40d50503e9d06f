"""Noise schedules ᾱ of the variance-preserving forward process, from step variances β or noise levels σ."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import count
from jaxdiff._summary import Summarised
from jaxdiff.typing import Array, DTypeLike

__all__ = [
    "Level",
    "NoiseSchedule",
    "NoisyLevel",
    "cosine",
    "cosine_betas",
    "from_betas",
    "from_sigmas",
    "geometric",
    "karras",
    "level_of_sigma",
    "linear",
    "linear_betas",
    "log_sigma_table",
    "named",
    "scaled_linear",
    "sigmoid",
    "vp",
]


class Level(NamedTuple):
    """The noise level at one time: ᾱ_t and 1 − ᾱ_t, so that x_t = signal · x₀ + noise · ε."""

    alpha_bar: Array
    one_minus_alpha_bar: Array

    @property
    def signal(self) -> Array:
        """√ᾱ_t."""
        return jnp.sqrt(self.alpha_bar)

    @property
    def noise(self) -> Array:
        """√(1−ᾱ_t)."""
        return jnp.sqrt(self.one_minus_alpha_bar)

    @property
    def sigma(self) -> Array:
        """σ_t = √((1−ᾱ_t)/ᾱ_t), the noise level of x_t/√ᾱ_t. It is 0 for the clean image."""
        return jnp.sqrt(self.one_minus_alpha_bar / self.alpha_bar)


@struct.dataclass
class NoiseSchedule(Summarised):
    """A discrete variance-preserving schedule with T levels. T is the length of its arrays.

    Attributes:
        alpha_bar: [T], ᾱ_t, decreasing in (0, 1).
        one_minus_alpha_bar: [T], 1 − ᾱ_t. It is stored, because float32 cannot compute it from ᾱ_t near 1.
    """

    alpha_bar: Array
    one_minus_alpha_bar: Array

    @property
    def num_steps(self) -> int:
        """T, the number of steps that the network was trained with."""
        return int(self.alpha_bar.shape[-1])

    def at(self, t: Array) -> Level:
        """The level at timestep ``t``. t = −1 is the clean image. For a fractional t, the log-SNR is interpolated."""
        t = jnp.asarray(t)
        if jnp.issubdtype(t.dtype, jnp.floating):
            return self._between(t)
        index = jnp.maximum(t, 0)
        clean = t < 0
        alpha_bar, rest = self.alpha_bar[index], self.one_minus_alpha_bar[index]
        return Level(
            jnp.where(clean, jnp.ones_like(alpha_bar), alpha_bar), jnp.where(clean, jnp.zeros_like(rest), rest)
        )

    def _between(self, t: Array) -> Level:
        # log-SNR is smooth in t, so linear interpolation of it between neighbours is accurate; t in [0, T−1].
        log_snr = jnp.log(self.alpha_bar) - jnp.log(self.one_minus_alpha_bar)
        t = t.astype(log_snr.dtype)
        value = jnp.interp(t, jnp.arange(self.num_steps, dtype=log_snr.dtype), log_snr)
        alpha_bar, rest = 1 / (1 + jnp.exp(-value)), 1 / (1 + jnp.exp(value))
        clean = t < 0
        return Level(
            jnp.where(clean, jnp.ones_like(alpha_bar), alpha_bar), jnp.where(clean, jnp.zeros_like(rest), rest)
        )


class NoisyLevel(NamedTuple):
    """A noise level σ with the fractional timestep that has it."""

    t: Array
    sigma: Array
    alpha_bar: Array


def log_sigma_table(schedule: NoiseSchedule) -> Array:
    """The logarithm of σ_t for every timestep, [T], increasing."""
    return (jnp.log(schedule.one_minus_alpha_bar) - jnp.log(schedule.alpha_bar)) / 2


def level_of_sigma(schedule: NoiseSchedule, sigma: Array) -> NoisyLevel:
    """The fractional timestep whose level is σ, clamped to the schedule's range."""
    table = log_sigma_table(schedule)
    log_sigma = jnp.clip(jnp.log(sigma).astype(table.dtype), table[0], table[-1])
    t = jnp.interp(log_sigma, table, jnp.arange(schedule.num_steps, dtype=table.dtype))
    clamped = jnp.exp(log_sigma)
    return NoisyLevel(t, clamped, 1 / (1 + clamped**2))


def from_betas(betas: Array | np.ndarray, *, dtype: DTypeLike = jnp.float32) -> NoiseSchedule:
    """The schedule ᾱ_t = ∏ (1−β_i) with the step variances β.

    Args:
        betas: [T], each in (0, 1]. Products are computed in float64.
        dtype: dtype of the arrays, to which they are rounded once. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if there are no betas, or one is not in (0, 1].

    >>> print(np.asarray(from_betas(np.array([0.1, 0.2])).alpha_bar).round(2))
    [0.9  0.72]
    """
    betas = np.asarray(betas, dtype=np.float64)
    if betas.ndim != 1 or betas.size == 0:
        raise ValueError(f"betas must be a non-empty list of numbers; it has shape {betas.shape}.")
    if not np.all((betas > 0) & (betas <= 1)):
        raise ValueError(
            f"every beta must lie in (0, 1], but they go from {betas.min():.3g} to {betas.max():.3g}; check the end points "
            "(times 1000/T, those of linear() need 20 steps at least, those of scaled_linear() 12)."
        )
    log_alpha_bar = np.cumsum(np.log1p(-np.minimum(betas, 1 - 1e-12)))
    return _rounded(np.exp(log_alpha_bar), -np.expm1(log_alpha_bar), dtype)


def _rounded(alpha_bar: np.ndarray, one_minus_alpha_bar: np.ndarray, dtype: DTypeLike) -> NoiseSchedule:
    """The schedule in a type that can hold it.

    Raises:
        ValueError: if ᾱ or 1 − ᾱ is rounded to 0 there, or the type has fewer digits than float32.
    """
    if jnp.finfo(dtype).bits < 32:
        raise ValueError(f"a schedule needs float32 or float64, got dtype={jnp.dtype(dtype).name}.")
    least = float(jnp.finfo(dtype).tiny)
    for name, values in (("ᾱ", alpha_bar), ("1 − ᾱ", one_minus_alpha_bar)):
        if values.min() < least:
            raise ValueError(
                f"{name} goes down to {values.min():.3g}, which is 0 in {jnp.dtype(dtype).name}; choose less extreme noise "
                "levels."
            )
    return NoiseSchedule(jnp.asarray(alpha_bar, dtype), jnp.asarray(one_minus_alpha_bar, dtype))


def from_sigmas(sigmas: Array | np.ndarray, *, dtype: DTypeLike = jnp.float32) -> NoiseSchedule:
    """The schedule of a network that was trained on noise levels σ. ᾱ_t = 1/(1 + σ_t²), so that x_t = √ᾱ_t (x₀ + σ_t z).

    Args:
        sigmas: [T], positive, increasing, on the [-1, 1] scale.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if there are no sigmas, or they do not increase.

    >>> print(np.asarray(from_sigmas(np.array([1.0, 3.0])).alpha_bar))
    [0.5 0.1]
    """
    sigmas = np.asarray(sigmas, np.float64)
    square = sigmas**2
    rising = sigmas.ndim == 1 and sigmas.size > 0 and np.all(sigmas > 0) and np.all(np.diff(square) > 0)
    if not rising or not np.isfinite(square).all():
        raise ValueError(
            "sigmas must be a list of positive, finite numbers that increase; sort them, and drop repeats."
        )
    return _rounded(1 / (1 + square), square / (1 + square), dtype)


def linear_betas(num_steps: int = 1000) -> np.ndarray:
    """β, evenly from 1e-4 to 0.02, times 1000/T (Ho et al. 2020). guided-diffusion scales it in the same way."""
    scale = 1000 / count("num_steps", num_steps)
    return np.linspace(scale * 1e-4, scale * 0.02, num_steps, dtype=np.float64)


def cosine_betas(num_steps: int = 1000, *, offset: float = 0.008, max_beta: float = 0.999) -> np.ndarray:
    """β_i = 1 − f((i+1)/T)/f(i/T), f(u) = cos²((u+s)/(1+s) π/2), at most ``max_beta`` (Nichol & Dhariwal 2021, Eq. 17)."""
    edges = np.arange(count("num_steps", num_steps) + 1) / num_steps
    f = np.cos((edges + offset) / (1 + offset) * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], max_beta)


def linear(
    num_steps: int = 1000, *, start: float | None = None, end: float | None = None, dtype: DTypeLike = jnp.float32
) -> NoiseSchedule:
    """The linear schedule of DDPM: β from 1e-4·1000/T to 0.02·1000/T, or from ``start`` to ``end``.

    Args:
        num_steps: T. Without ``end``, it is at least 20.
        start: first β.
        end: last β.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if T is not a whole number of at least 1, or a β lies outside (0, 1].

    Reference:
        Ho et al., "Denoising Diffusion Probabilistic Models", 2020. The scaling with T is from guided-diffusion.
    """
    betas = linear_betas(num_steps)
    if start is not None or end is not None:
        betas = np.linspace(betas[0] if start is None else start, betas[-1] if end is None else end, num_steps)
    return from_betas(betas, dtype=dtype)


def cosine(
    num_steps: int = 1000, *, offset: float = 0.008, max_beta: float = 0.999, dtype: DTypeLike = jnp.float32
) -> NoiseSchedule:
    """The cosine schedule of improved DDPM, see ``cosine_betas``.

    Args:
        num_steps: T.
        offset: s, which keeps the first β from being too small.
        max_beta: largest β.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if T is not a whole number of at least 1, or a β lies outside (0, 1].

    Reference:
        Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, Eq. 17.
    """
    return from_betas(cosine_betas(num_steps, offset=offset, max_beta=max_beta), dtype=dtype)


def sigmoid(
    num_steps: int = 1000, *, start: float = 1e-4, end: float = 0.02, dtype: DTypeLike = jnp.float32
) -> NoiseSchedule:
    """β from ``start`` to ``end`` along a sigmoid from −6 to 6, as in GeoDiff and diffusers.

    Args:
        num_steps: T.
        start: β at −∞. The first β is 1/400 of the way from it to ``end``.
        end: β at ∞.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if T is not a whole number of at least 1, or a β lies outside (0, 1].
    """
    place = np.linspace(-6, 6, count("num_steps", num_steps))
    return from_betas(start + (end - start) / (1 + np.exp(-place)), dtype=dtype)


def vp(
    num_steps: int = 1000, *, beta_min: float = 0.1, beta_max: float = 20.0, dtype: DTypeLike = jnp.float32
) -> NoiseSchedule:
    """The continuous chain log ᾱ(u) = −½ u² (β_max − β_min) − u β_min at T times u = 1/T … 1.

    Args:
        num_steps: T.
        beta_min: β at u = 0.
        beta_max: β at u = 1.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if T is not a whole number of at least 1, or the noise does not grow.

    Reference:
        Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", 2021, Eq. 33.
    """
    u = np.arange(1, count("num_steps", num_steps) + 1) / num_steps
    return from_sigmas(np.sqrt(np.expm1(u**2 * (beta_max - beta_min) / 2 + u * beta_min)), dtype=dtype)


def geometric(
    num_steps: int = 1000, *, sigma_min: float = 0.02, sigma_max: float = 100.0, dtype: DTypeLike = jnp.float32
) -> NoiseSchedule:
    """σ in equal ratios, the variance-exploding chain of Song et al. 2021.

    Args:
        num_steps: T.
        sigma_min: first σ, on the [-1, 1] scale.
        sigma_max: last σ.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if T is not a whole number of at least 1, or the σ are not positive or do not increase.
    """
    _check_ends(sigma_min, sigma_max)
    return from_sigmas(np.geomspace(sigma_min, sigma_max, count("num_steps", num_steps)), dtype=dtype)


def karras(
    num_steps: int = 1000,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    dtype: DTypeLike = jnp.float32,
) -> NoiseSchedule:
    """σ^(1/ρ) in equal steps, the grid of Karras et al. 2022, Eq. 5, as a schedule.

    Args:
        num_steps: T.
        sigma_min: first σ, on the [-1, 1] scale.
        sigma_max: last σ.
        rho: ρ. A larger ρ puts more levels at low noise.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if T is not a whole number of at least 1, or the σ are not positive or do not increase.
    """
    _check_ends(sigma_min, sigma_max)
    ends = np.array([sigma_min, sigma_max]) ** (1 / rho)
    return from_sigmas(np.linspace(ends[0], ends[1], count("num_steps", num_steps)) ** rho, dtype=dtype)


def scaled_linear(
    num_steps: int = 1000, *, start: float = 0.00085, end: float = 0.012, dtype: DTypeLike = jnp.float32
) -> NoiseSchedule:
    """√β linear from √start to √end, both times 1000/T. This is the schedule of latent diffusion (Rombach et al. 2022).

    Args:
        num_steps: T. Without ``end``, it is at least 12.
        start: first β of T = 1000.
        end: last β of T = 1000.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if T is not a whole number of at least 1, or a β lies outside (0, 1].
    """
    scale = 1000 / count("num_steps", num_steps)
    if not (start > 0 and end > 0):
        raise ValueError(f"start and end are variances of a step, above 0, got {start} and {end}.")
    roots = np.linspace((scale * start) ** 0.5, (scale * end) ** 0.5, num_steps, dtype=np.float64)
    return from_betas(roots**2, dtype=dtype)


_ENDS = {
    "linear": (linear, "start", "end"),
    "scaled_linear": (scaled_linear, "start", "end"),
    "sigmoid": (sigmoid, "start", "end"),
    "cosine": (cosine, "offset", "max_beta"),
    "vp": (vp, "beta_min", "beta_max"),
    "geometric": (geometric, "sigma_min", "sigma_max"),
    "karras": (karras, "sigma_min", "sigma_max"),
}


def named(
    name: str, num_steps: int, ends: tuple[float, float] | None = None, *, dtype: DTypeLike = jnp.float32
) -> NoiseSchedule:
    """The schedule with this name, as in the description of a prior.

    Args:
        name: "linear", "scaled_linear", "sigmoid", "cosine", "vp", "geometric" or "karras".
        num_steps: T.
        ends: its two parameters, such as start and end of β. By default, they are those of the function.
        dtype: dtype of the arrays. float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in _ENDS:
        raise ValueError(f"there is no schedule {name!r}; choose one of {', '.join(_ENDS)}.")
    make, first, last = _ENDS[name]
    options = {} if ends is None else {first: ends[0], last: ends[1]}
    schedule: NoiseSchedule = make(num_steps, dtype=dtype, **options)  # type: ignore[operator]
    return schedule


def _check_ends(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min must be positive and below sigma_max, got {sigma_min} and {sigma_max}.")
