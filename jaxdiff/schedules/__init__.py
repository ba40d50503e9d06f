"""Noise schedules ᾱ of the variance-preserving forward process, and grids of timesteps through them.

The forward process is ``x_t = √ᾱ_t x₀ + √(1−ᾱ_t) z``, ``ᾱ_t = ∏_{i≤t} (1−β_i)``, t = 0 … T−1, with t = −1 for the clean
image (ᾱ₋₁ = 1). Near the clean end 1−ᾱ is 1e-4, and float32 would keep only three digits of it. So a schedule stores ᾱ
*and* 1−ᾱ, both rounded from float64.
"""

from jaxdiff.schedules.levels import (
    Level,
    NoiseSchedule,
    NoisyLevel,
    cosine,
    cosine_betas,
    from_betas,
    from_sigmas,
    geometric,
    karras,
    level_of_sigma,
    linear,
    linear_betas,
    log_sigma_table,
    named,
    scaled_linear,
    sigmoid,
    vp,
)
from jaxdiff.schedules.timesteps import SPACINGS, RepeatedTimestepError, TimeGrid, timestep_grid

__all__ = [
    "SPACINGS",
    "Level",
    "NoiseSchedule",
    "NoisyLevel",
    "RepeatedTimestepError",
    "TimeGrid",
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
    "timestep_grid",
    "vp",
]
