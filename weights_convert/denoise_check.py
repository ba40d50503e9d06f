"""A look at a converted prior: how much it denoises a picture. A wrong range, scale or channel order shows at once."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.denoisers import Denoiser

__all__ = ["SIGMAS", "Gain", "gains", "report", "test_picture", "warning"]

SIGMAS = (0.1, 0.3, 1.0)
"""Noise levels on [-1, 1] at which any prior of pictures takes noise away."""


class Gain(NamedTuple):
    """PSNR of a noisy picture and of what the prior makes of it, in dB."""

    sigma: float
    noisy: float
    denoised: float


def test_picture(size: int, channels: int) -> np.ndarray:
    """A picture of smooth shades, discs and edges in [-1, 1], [size, size, channels]."""
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    shades = np.stack([0.5 * x - 0.2 * y, 0.4 * y + 0.1, 0.3 * x + 0.3 * y - 0.1], axis=-1)
    discs = (
        (0.0, -0.1, 0.55, (0.5, 0.2, 0.0)),
        (-0.2, -0.25, 0.08, (-0.7, -0.6, -0.5)),
        (0.25, 0.5, 0.2, (0.2, -0.5, -0.6)),
    )
    for right, down, radius, colour in discs:
        inside = 1 / (1 + np.exp((np.hypot(x - right, y - down) - radius) * size / 2))
        shades = shades * (1 - inside[..., None]) + np.asarray(colour) * inside[..., None]
    picture = np.clip(shades, -1, 1).astype(np.float32)
    return np.resize(picture.transpose(2, 0, 1), (channels, size, size)).transpose(1, 2, 0)


def gains(denoiser: Denoiser, picture: np.ndarray) -> list[Gain]:
    """PSNR of x₀ + σ z and of D(x₀ + σ z; σ), clipped to [-1, 1] as PSNR is."""
    noise = np.random.default_rng(0).standard_normal(picture.shape).astype(np.float32)
    denoise = jax.jit(lambda denoiser, x, sigma: denoiser.denoise(x, sigma))
    found = []
    for sigma in SIGMAS:
        noisy = picture + np.float32(sigma) * noise
        made = np.asarray(denoise(denoiser, jnp.asarray(noisy), jnp.float32(sigma)))
        found.append(Gain(sigma, _psnr(noisy, picture), _psnr(made, picture)))
    return found


def _psnr(found: np.ndarray, truth: np.ndarray) -> float:
    error = float(np.mean((np.clip(found, -1, 1) - truth) ** 2))
    return 10 * math.log10(4 / error) if error > 0 else math.inf


def report(found: list[Gain]) -> str:
    """One line a noise level."""
    lines = [f"  σ = {gain.sigma:<4g} {gain.noisy:6.2f} dB noisy  {gain.denoised:6.2f} dB denoised" for gain in found]
    return "\n".join(["check on a test picture (σ on [-1, 1]):", *lines])


def warning(found: list[Gain]) -> str | None:
    """A sentence if the prior takes no noise away at some level; None if all is well."""
    worse = [f"{gain.sigma:g}" for gain in found if not gain.denoised > gain.noisy]
    if not worse:
        return None
    return (
        f"WARNING: the prior takes no noise away at σ = {', '.join(worse)}: data range, noise scale, channel order or "
        "configuration may be wrong, or the weights are not trained."
    )
