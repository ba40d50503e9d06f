"""The step that DDRM and DDNM+ share: each singular direction of A is treated by its own noise level."""

import jax.numpy as jnp

from jaxdiff.numerics import expand, safe_sqrt
from jaxdiff.operators.base import SpectralOperator
from jaxdiff.problems import Problem
from jaxdiff.schedules import Level
from jaxdiff.typing import Array, Scalar

__all__ = ["spectral_step"]


def spectral_step(
    problem: Problem,
    operator: SpectralOperator,
    x0: Array,
    eps: Array,
    noise: Array,
    level: Level,
    eta: Scalar,
    eta_b: Scalar,
) -> Array:
    """x_s in the basis of right singular vectors; with ς the noise √((1−ᾱ_s)/ᾱ_s) of x_s/√ᾱ_s, s a singular value:

    - s = 0:       x̄₀ + ς (√(1−η²) ε̄ + η z̄)
    - s ς < σ:     x̄₀ + ς (√(1−η²) (ȳ − s x̄₀)/σ + η z̄)
    - s ς ≥ σ > 0: (1−η_b) x̄₀ + η_b ȳ/s + √(ς² − η_b² σ²/s²) z̄

    times √ᾱ_s, where a bar is Vᵀ of an image, ȳ = Uᵀ y, and σ is that of each real number measured. In the last step
    (ς = 0) the first two give x̄₀; a measurement without noise (σ = 0) is the third case in every step.

    Args:
        problem: what was measured.
        operator: its operator.
        x0: [H, W, C], x̂₀.
        eps: [H, W, C], ε̂.
        noise: [H, W, C], z ~ N(0, I).
        level: of time s.
        eta: η.
        eta_b: η_b.
    """
    s = operator.singular_values.astype(x0.dtype)
    eta, eta_b = expand(eta.astype(x0.dtype), s), expand(eta_b.astype(x0.dtype), s)
    sigma = expand(problem.noise_level(floor=0.0).astype(x0.dtype), s)
    target = expand(jnp.sqrt(level.one_minus_alpha_bar / level.alpha_bar).astype(x0.dtype), s)
    x0_bar, eps_bar, z_bar = (operator.to_spectral(v) for v in (x0, eps, noise))
    y_bar = operator.measurement_to_spectral(operator.keep_observed(problem.y))

    measured = s > 0
    safe_s = jnp.where(measured, s, jnp.ones_like(s))
    safe_sigma = jnp.where(sigma > 0, sigma, jnp.ones_like(sigma))
    keep = safe_sqrt(1 - eta**2)
    missing = x0_bar + target * (keep * eps_bar + eta * z_bar)
    noisier = x0_bar + target * (keep * (y_bar - s * x0_bar) / safe_sigma + eta * z_bar)
    left = safe_sqrt(target**2 - (eta_b * sigma / safe_s) ** 2)
    cleaner = (1 - eta_b) * x0_bar + eta_b * y_bar / safe_s + left * z_bar
    moved = jnp.where(measured, jnp.where(s * target < sigma, noisier, cleaner), missing)
    signal = expand(jnp.sqrt(level.alpha_bar).astype(x0.dtype), x0)
    return signal * operator.from_spectral(moved)
