"""Noise schedules ᾱ of the variance-preserving forward process, and grids of timesteps through them.

The forward process is ``x_t = √ᾱ_t x₀ + √(1−ᾱ_t) z``, ``ᾱ_t = ∏_{i≤t} (1−β_i)``, t = 0 … T−1, with t = −1 for the clean
image (ᾱ₋₁ = 1). Near the clean end 1−ᾱ is 1e-4, and float32 would keep only three digits of it. So a schedule stores ᾱ
*and* 1−ᾱ, both rounded from float64.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._summary import Summarised
from jaxdiff.typing import Array

__all__ = [
    "SPACINGS",
    "Level",
    "NoiseSchedule",
    "NoisyLevel",
    "RepeatedTimestepError",
    "TimeGrid",
    "cosine",
    "from_betas",
    "from_sigmas",
    "geometric",
    "karras",
    "level_of_sigma",
    "linear",
    "log_sigma_table",
    "named",
    "scaled_linear",
    "sigmoid",
    "timestep_grid",
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
        """σ_t = √((1−ᾱ_t)/ᾱ_t), the noise of x_t/√ᾱ_t; 0 for the clean image."""
        return jnp.sqrt(self.one_minus_alpha_bar / self.alpha_bar)


@struct.dataclass
class NoiseSchedule(Summarised):
    """A discrete variance-preserving schedule of T levels; T is the length of its arrays.

    Attributes:
        alpha_bar: [T], ᾱ_t, decreasing in (0, 1).
        one_minus_alpha_bar: [T], 1 − ᾱ_t, kept apart because float32 cannot recover it from ᾱ_t near 1.
    """

    alpha_bar: Array
    one_minus_alpha_bar: Array

    @property
    def num_steps(self) -> int:
        """T, the number of steps that the network was trained with."""
        return int(self.alpha_bar.shape[-1])

    def at(self, t: Array) -> Level:
        """The level at timestep ``t`` (integer, t = −1 is the clean image; a fraction is interpolated in log-SNR)."""
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


def from_betas(betas: Array | np.ndarray, *, dtype: Any = jnp.float32) -> NoiseSchedule:
    """Schedule of ᾱ_t = ∏ (1−β_i) from its step variances.

    Args:
        betas: [T], each in (0, 1); products are taken in float64.
        dtype: of the arrays, to which they are rounded once; float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if there are none, or one lies outside (0, 1].

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
    return NoiseSchedule(
        alpha_bar=jnp.asarray(np.exp(log_alpha_bar), dtype),
        one_minus_alpha_bar=jnp.asarray(-np.expm1(log_alpha_bar), dtype),
    )


def from_sigmas(sigmas: Array | np.ndarray, *, dtype: Any = jnp.float32) -> NoiseSchedule:
    """Schedule of a network that was trained on noise levels σ: ᾱ_t = 1/(1 + σ_t²), so that x_t = √ᾱ_t (x₀ + σ_t z).

    Args:
        sigmas: [T], positive, increasing, on the [-1, 1] scale.
        dtype: of the arrays; float64 needs JAX's 64-bit mode.

    Raises:
        ValueError: if there are none, or they do not increase.

    >>> print(np.asarray(from_sigmas(np.array([1.0, 3.0])).alpha_bar))
    [0.5 0.1]
    """
    square = np.asarray(sigmas, np.float64) ** 2
    if square.ndim != 1 or square.size == 0 or not np.all(np.diff(square, prepend=0) > 0):
        raise ValueError("sigmas must be a list of positive numbers that increase.")
    return NoiseSchedule(jnp.asarray(1 / (1 + square), dtype), jnp.asarray(square / (1 + square), dtype))


def linear_betas(num_steps: int = 1000) -> np.ndarray:
    """β from 1e-4 to 0.02 evenly, times 1000/T (Ho et al. 2020; scaled as in guided-diffusion)."""
    scale = 1000 / _positive(num_steps)
    return np.linspace(scale * 1e-4, scale * 0.02, num_steps, dtype=np.float64)


def cosine_betas(num_steps: int = 1000, *, offset: float = 0.008, max_beta: float = 0.999) -> np.ndarray:
    """β_i = 1 − f((i+1)/T)/f(i/T), f(u) = cos²((u+s)/(1+s) π/2), at most ``max_beta`` (Nichol & Dhariwal 2021, Eq. 17)."""
    edges = np.arange(_positive(num_steps) + 1) / num_steps
    f = np.cos((edges + offset) / (1 + offset) * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], max_beta)


def linear(
    num_steps: int = 1000, *, start: float | None = None, end: float | None = None, dtype: Any = jnp.float32
) -> NoiseSchedule:
    """The linear schedule of DDPM: β from 1e-4·1000/T to 0.02·1000/T, or from ``start`` to ``end``."""
    betas = linear_betas(num_steps)
    if start is not None or end is not None:
        betas = np.linspace(betas[0] if start is None else start, betas[-1] if end is None else end, num_steps)
    return from_betas(betas, dtype=dtype)


def cosine(
    num_steps: int = 1000, *, offset: float = 0.008, max_beta: float = 0.999, dtype: Any = jnp.float32
) -> NoiseSchedule:
    """The cosine schedule of improved DDPM (Nichol & Dhariwal 2021, Eq. 17; β at most 0.999)."""
    return from_betas(cosine_betas(num_steps, offset=offset, max_beta=max_beta), dtype=dtype)


def sigmoid(
    num_steps: int = 1000, *, start: float = 1e-4, end: float = 0.02, dtype: Any = jnp.float32
) -> NoiseSchedule:
    """β from ``start`` to ``end`` along a sigmoid from −6 to 6, as in GeoDiff and diffusers."""
    return from_betas(start + (end - start) / (1 + np.exp(-np.linspace(-6, 6, _positive(num_steps)))), dtype=dtype)


def vp(
    num_steps: int = 1000, *, beta_min: float = 0.1, beta_max: float = 20.0, dtype: Any = jnp.float32
) -> NoiseSchedule:
    """The continuous chain log ᾱ(u) = −½ u² (β_max − β_min) − u β_min at T times u = 1/T … 1 (Song et al. 2021, Eq. 33)."""
    u = np.arange(1, _positive(num_steps) + 1) / num_steps
    return from_sigmas(np.sqrt(np.expm1(u**2 * (beta_max - beta_min) / 2 + u * beta_min)), dtype=dtype)


def geometric(
    num_steps: int = 1000, *, sigma_min: float = 0.02, sigma_max: float = 100.0, dtype: Any = jnp.float32
) -> NoiseSchedule:
    """σ in equal ratios, the variance-exploding chain of Song et al. 2021; σ on the [-1, 1] scale."""
    return from_sigmas(np.geomspace(sigma_min, sigma_max, _positive(num_steps)), dtype=dtype)


def karras(
    num_steps: int = 1000,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    dtype: Any = jnp.float32,
) -> NoiseSchedule:
    """σ^(1/ρ) in equal steps, the grid of Karras et al. 2022, Eq. 5, as a schedule."""
    ends = np.array([sigma_min, sigma_max]) ** (1 / rho)
    return from_sigmas(np.linspace(ends[0], ends[1], _positive(num_steps)) ** rho, dtype=dtype)


def scaled_linear(
    num_steps: int = 1000, *, start: float = 0.00085, end: float = 0.012, dtype: Any = jnp.float32
) -> NoiseSchedule:
    """√β linear from √start to √end, the schedule of latent diffusion (Rombach et al. 2022)."""
    scale = 1000 / _positive(num_steps)
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
    name: str, num_steps: int, ends: tuple[float, float] | None = None, *, dtype: Any = jnp.float32
) -> NoiseSchedule:
    """The schedule of that name, with its own ends or the given ones, as a prior's description has them.

    Raises:
        ValueError: if there is no such schedule.
    """
    if name not in _ENDS:
        raise ValueError(f"there is no schedule {name!r}; choose one of {', '.join(_ENDS)}.")
    make, first, last = _ENDS[name]
    options = {} if ends is None else {first: ends[0], last: ends[1]}
    schedule: NoiseSchedule = make(num_steps, dtype=dtype, **options)  # type: ignore[operator]
    return schedule


def _positive(num_steps: int) -> int:
    if num_steps < 1:
        raise ValueError(f"a schedule needs at least one step, got {num_steps}.")
    return num_steps


class TimeGrid(NamedTuple):
    """Transitions t → s of one run, first to last: ``t`` decreasing, ``s`` the next t, −1 (clean) at the end."""

    t: np.ndarray
    s: np.ndarray

    def __len__(self) -> int:  # type: ignore[override]
        return len(self.t)

    def below(self, start: int | None) -> "TimeGrid":
        """The part of the grid that a run started at ``start`` forward steps goes through (t < start)."""
        if start is None:
            return self
        keep = self.t < start
        if not keep.any():
            raise ValueError(
                f"no timestep of this {len(self.t)}-step grid lies below start={start}; "
                f"use more steps, or a start above {int(self.t.min())}."
            )
        return TimeGrid(self.t[keep], self.s[keep])


SPACINGS = ("dps", "uniform", "ddim", "trailing", "quad")


class RepeatedTimestepError(ValueError):
    """More steps than a spacing has different timesteps for."""


def timestep_grid(num_train_steps: int, steps: int | str, spacing: str = "dps") -> TimeGrid:
    """The timesteps that a run of ``steps`` network calls visits.

    Spacings (T = ``num_train_steps``, N = ``steps``), always ending in the clean image; a single step is from T−1:

    - ``dps``: guided-diffusion's fractional stride, 0 … T−1 inclusive, rounded half to even; N may also be its string form:
      ``"ddimN"`` or sections such as ``"10,15,20"``, where no other spacing may be named.
    - ``uniform``: the same end points, plain rounding half up.
    - ``ddim``: 0, k, 2k … with the integer stride k = T // N, so the run begins at (N−1) k. Take an N that divides T: far
      below T−1 x is not pure noise.
    - ``trailing``: T−1 down in strides of T/N (Lin et al. 2024).
    - ``quad``: dense at low noise, t = T−1−⌊√(linspace(0, T², N))⌋, as DiffPIR runs it.

    Raises:
        ValueError: if N is not between 1 and T, or the spacing is unknown.
        RepeatedTimestepError: if the spacing visits a timestep twice.

    >>> timestep_grid(1000, 4).t.tolist()
    [999, 666, 333, 0]
    >>> timestep_grid(1000, "ddim4", "dps").t.tolist()
    [750, 500, 250, 0]
    """
    if isinstance(steps, str):
        if spacing != "dps":
            raise ValueError(f"steps={steps!r} says how they are spread itself; leave spacing={spacing!r} out.")
        ascending = _guided_diffusion_spacing(num_train_steps, steps)
    else:
        ascending = _spaced(num_train_steps, whole_steps(steps), spacing)
    if len(np.unique(ascending)) != len(ascending):
        raise RepeatedTimestepError(
            f"spacing {spacing!r} with {steps} steps visits a timestep twice; use fewer steps, or another spacing."
        )
    t = np.sort(ascending)[::-1].astype(np.int32)
    return TimeGrid(t, np.append(t[1:], np.int32(-1)))


def longest_grid(num_train_steps: int, spacing: str) -> TimeGrid:
    """The run of most steps that a spacing can place without visiting a timestep twice."""
    for steps in range(num_train_steps, 1, -1):
        try:
            return timestep_grid(num_train_steps, steps, spacing)
        except RepeatedTimestepError:
            continue
    return timestep_grid(num_train_steps, 1, spacing)


def whole_steps(steps: int) -> int:
    """``steps`` if it is a whole number.

    Raises:
        ValueError: if not.
    """
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer):
        raise ValueError(f"steps={steps!r} is not possible: give a whole number, a string such as 'ddim50', or a grid.")
    return int(steps)


def _spaced(total: int, steps: int, spacing: str) -> np.ndarray:
    if not 1 <= steps <= total:
        raise ValueError(f"steps={steps} is not possible: choose between 1 and {total}, the steps of the schedule.")
    if steps == 1 and spacing in SPACINGS:  # the rules of "dps" and "ddim" would put the one step at t = 0
        return np.array([total - 1])
    if spacing == "dps":
        return _section(0, total, steps)
    if spacing == "uniform":
        return np.floor(np.linspace(0, total - 1, steps) + 0.5)
    if spacing == "ddim":
        return np.arange(steps) * (total // steps)
    if spacing == "trailing":
        return np.round(total - np.arange(steps) * (total / steps)) - 1
    if spacing == "quad":
        sequence = np.sqrt(np.linspace(0, total**2, steps)).astype(np.int64)
        return total - 1 - np.minimum(sequence, total - 1)
    raise ValueError(f"unknown spacing {spacing!r}; choose one of {', '.join(SPACINGS)}.")


def _section(start: int, size: int, count: int) -> np.ndarray:
    # Python's round is half to even on an accumulated float, which is what the original's grids depend on.
    stride = (size - 1) / (count - 1) if count > 1 else 1.0
    position, out = 0.0, []
    for _ in range(count):
        out.append(start + round(position))
        position += stride
    return np.array(out)


def _guided_diffusion_spacing(total: int, text: str) -> np.ndarray:
    """Grids from guided-diffusion's ``timestep_respacing`` strings."""
    if text.startswith("ddim"):
        wanted = _count(text[4:], text)
        for stride in range(1, total):
            if len(range(0, total, stride)) == wanted:
                return np.arange(0, total, stride)
        raise ValueError(f"no integer stride through {total} steps keeps exactly {wanted}; use another {text!r}.")
    counts = [_count(part, text) for part in text.split(",")]
    base, extra = divmod(total, len(counts))
    out, start = [], 0
    for i, count in enumerate(counts):
        size = base + (i < extra)
        if not 1 <= count <= size:
            raise ValueError(f"cannot take {count} steps from a section of {size}; lower the counts in {text!r}.")
        out.append(_section(start, size, count))
        start += size
    return np.concatenate(out)


def _count(part: str, text: str) -> int:
    if not part.strip().isdigit():
        raise ValueError(f"steps {text!r} is not understood; write a number, 'ddimN', or counts such as '10,15,20'.")
    return int(part)
