"""Grids of timesteps placed by noise level: Karras and log-SNR, with fractional times.

``sample(..., steps=karras_grid(denoiser.schedule, 20))``. The times are float32 fractions of training timesteps; the
schedule interpolates its log-SNR there and the network is given the fraction (see ``continuous``). With
``integer=True`` each level is moved to the nearest training timestep, as DiffPIR and deepinv do; repeats are dropped.
"""

import jax
import numpy as np

from jaxdiff.schedules import NoiseSchedule, TimeGrid, whole_steps

__all__ = ["NOISE_SPACINGS", "karras_grid", "log_snr_grid"]


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
        schedule: of the prior; its arrays must be concrete (make the grid outside ``jit``).
        steps: N, the number of steps.
        rho: 7 in the paper; larger puts more steps at low noise.
        sigma_min: smallest σ, by default (and at least) the schedule's own.
        sigma_max: largest σ, by default (and at most) the schedule's own.
        integer: move each level to the nearest training timestep.

    Raises:
        ValueError: if steps is below 1, the range is empty, or the schedule is being traced.

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
    fraction = np.linspace(0, 1, steps)
    start, end = np.exp(high / rho), np.exp(low / rho)
    return _grid(table, rho * np.log(start + fraction * (end - start)), integer)


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
        schedule: of the prior; its arrays must be concrete (make the grid outside ``jit``).
        steps: N, the number of steps.
        sigma_min: smallest σ, by default (and at least) the schedule's own.
        sigma_max: largest σ, by default (and at most) the schedule's own.
        integer: move each level to the nearest training timestep.

    Raises:
        ValueError: if steps is below 1, the range is empty, or the schedule is being traced.

    Reference:
        Lu et al. 2022, "DPM-Solver", section 3.4 ("uniform in λ").
    """
    table = _table(schedule, steps)
    low, high = _range(table, sigma_min, sigma_max)
    return _grid(table, np.linspace(high, low, steps), integer)


NOISE_SPACINGS = {"karras": karras_grid, "log_snr": log_snr_grid}


def _table(schedule: NoiseSchedule, steps: int) -> np.ndarray:
    if whole_steps(steps) < 1:
        raise ValueError(f"a grid needs at least one step, got {steps}.")
    if isinstance(schedule.alpha_bar, jax.core.Tracer):
        raise ValueError(
            "this grid is placed by the schedule's values, which are being traced; make it outside jit with "
            "jd.samplers.karras_grid or log_snr_grid, and give it as steps=."
        )
    alpha_bar = np.asarray(schedule.alpha_bar, np.float64)
    return (np.log(np.asarray(schedule.one_minus_alpha_bar, np.float64)) - np.log(alpha_bar)) / 2


def _range(table: np.ndarray, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    for name, value in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}; leave it out for the schedule's own.")
    low = table[0] if sigma_min is None else max(np.log(sigma_min), table[0])
    high = table[-1] if sigma_max is None else min(np.log(sigma_max), table[-1])
    if not low <= high:
        raise ValueError(f"no noise level lies between sigma_min={sigma_min} and sigma_max={sigma_max} here.")
    return float(low), float(high)


def _grid(table: np.ndarray, log_sigma: np.ndarray, integer: bool) -> TimeGrid:
    t = np.interp(log_sigma, table, np.arange(len(table)))
    if integer:
        whole = np.unique(np.round(t).astype(np.int32))[::-1]
        return TimeGrid(whole, np.append(whole[1:], np.int32(-1)))
    t = t.astype(np.float32)
    return TimeGrid(t, np.append(t[1:], np.float32(-1)))
