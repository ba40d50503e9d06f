"""Grids of timesteps that are placed by noise level: Karras, log-SNR and flow time, with fractional times.

``sample(..., steps=karras_grid(denoiser.schedule, 20))`` uses one. The times are float32 fractions of training timesteps. The
schedule interpolates its log-SNR there, and the network receives the fraction (see ``continuous``). With ``integer=True``,
each level is moved to the nearest training timestep, as in DiffPIR and deepinv. Repeated timesteps are dropped.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import concrete
from jaxdiff.schedules import NoiseSchedule, TimeGrid
from jaxdiff.schedules.timesteps import whole_steps

__all__ = ["NOISE_SPACINGS", "flow_grid", "karras_grid", "log_snr_grid"]


def karras_grid(
    schedule: NoiseSchedule,
    steps: int,
    *,
    rho: float = 7.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    integer: bool = False,
) -> TimeGrid:
    """Levels σ_i = (σ_max^{1/ρ} + i/(N−1)(σ_min^{1/ρ} − σ_max^{1/ρ}))^ρ, then the clean image.

    Args:
        schedule: of the prior. Where it is traced, the times are traced too, in its own precision.
        steps: N, the number of steps.
        rho: ρ, 7 in the paper. A larger ρ puts more steps at low noise.
        sigma_min: smallest σ, by default (and at least) the schedule's own.
        sigma_max: largest σ, by default (and at most) the schedule's own.
        integer: move each level to the nearest training timestep.

    Raises:
        ValueError: if steps is below 1 or the range is empty; or if ``integer`` is asked of a traced schedule.

    Reference:
        Karras et al. 2022, Eq. 5.

    >>> from jaxdiff import schedules
    >>> karras_grid(schedules.linear(1000), 5, integer=True).t.tolist()
    [999, 843, 593, 142, 0]
    """
    if not 0.1 <= rho <= 1000:
        raise ValueError(f"rho must lie between 0.1 and 1000, got {rho}.")
    table = _table(schedule, steps)
    low, high = _range(table, sigma_min, sigma_max)
    xp, fraction = _library(table), np.linspace(0, 1, steps, dtype=table.dtype)
    start, end = xp.exp(high / rho), xp.exp(low / rho)
    return _grid(table, rho * xp.log(start + fraction * (end - start)), integer)


def log_snr_grid(
    schedule: NoiseSchedule,
    steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    integer: bool = False,
) -> TimeGrid:
    """Levels evenly spaced in log σ (half the log signal-to-noise ratio, negated), then the clean image.

    Args:
        schedule: of the prior. Where it is traced, the times are traced too, in its own precision.
        steps: N, the number of steps.
        sigma_min: smallest σ, by default (and at least) the schedule's own.
        sigma_max: largest σ, by default (and at most) the schedule's own.
        integer: move each level to the nearest training timestep.

    Raises:
        ValueError: if steps is below 1 or the range is empty; or if ``integer`` is asked of a traced schedule.

    Reference:
        Lu et al. 2022, "DPM-Solver", section 3.4 ("uniform in λ").
    """
    table = _table(schedule, steps)
    low, high = _range(table, sigma_min, sigma_max)
    return _grid(table, _library(table).linspace(high, low, steps), integer)


def flow_grid(
    schedule: NoiseSchedule,
    steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    integer: bool = False,
) -> TimeGrid:
    """Levels evenly spaced in the time τ of flow matching, σ_i = (1−τ_i)/τ_i with τ_i = i/N, then the clean image.

    Flow matching mixes τ x₀ + (1−τ) z. This is x₀ + σ z, but for its scale.

    Args:
        schedule: of the prior. Where it is traced, the times are traced too, in its own precision.
        steps: N, the number of steps.
        sigma_min: smallest σ, by default (and at least) the schedule's own. Levels below it are moved to it.
        sigma_max: largest σ, by default (and at most) the schedule's own. Levels above it are moved to it.
        integer: move each level to the nearest training timestep.

    Raises:
        ValueError: if steps is below 1 or the range is empty; or if ``integer`` is asked of a traced schedule.

    Reference:
        Lipman et al. 2023, "Flow Matching for Generative Modeling", the path of optimal transport.
    """
    table = _table(schedule, steps)
    low, high = _range(table, sigma_min, sigma_max)
    time = np.arange(steps, dtype=table.dtype) / steps
    with np.errstate(divide="ignore"):
        log_sigma = np.log1p(-time) - np.log(time)
    return _grid(table, _library(table).clip(log_sigma, low, high), integer)


NOISE_SPACINGS = {"karras": karras_grid, "log_snr": log_snr_grid, "flow": flow_grid}


def _table(schedule: NoiseSchedule, steps: int) -> Any:
    """The logarithm of σ_t for every timestep: in NumPy's float64, or as a traced array where the schedule is one."""
    if whole_steps(steps) < 1:
        raise ValueError(f"a grid needs at least one step, got {steps}.")
    if not concrete(schedule.alpha_bar):
        return (jnp.log(schedule.one_minus_alpha_bar) - jnp.log(schedule.alpha_bar)) / 2
    alpha_bar = np.asarray(schedule.alpha_bar, np.float64)
    return (np.log(np.asarray(schedule.one_minus_alpha_bar, np.float64)) - np.log(alpha_bar)) / 2


def _library(table: Any) -> Any:
    return np if concrete(table) else jnp


def _range(table: Any, sigma_min: float | None, sigma_max: float | None) -> tuple[Any, Any]:
    for name, value in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}; leave it out for the schedule's own.")
    xp = _library(table)
    low = table[0] if sigma_min is None else xp.maximum(np.log(sigma_min), table[0])
    high = table[-1] if sigma_max is None else xp.minimum(np.log(sigma_max), table[-1])
    if xp is np and not low <= high:
        raise ValueError(f"no noise level lies between sigma_min={sigma_min} and sigma_max={sigma_max} here.")
    return low, high


def _grid(table: Any, log_sigma: Any, integer: bool) -> TimeGrid:
    xp = _library(table)
    t = xp.interp(log_sigma, table, np.arange(len(table), dtype=table.dtype))
    if integer:
        if xp is jnp:
            raise ValueError("which timesteps are nearest depends on the schedule's values, which are being traced.")
        whole = np.unique(np.round(t).astype(np.int32))[::-1]
        return TimeGrid(whole, np.append(whole[1:], np.int32(-1)))
    t = t.astype(np.float32)
    return TimeGrid(t, xp.append(t[1:], np.float32(-1)))
