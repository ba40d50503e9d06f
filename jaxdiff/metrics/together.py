"""All measures at once, of one image or of a batch."""

import jax
import jax.numpy as jnp

from jaxdiff.metrics.image import SSIM_WINDOW, psnr, ssim
from jaxdiff.metrics.lpips import SMALLEST, lpips
from jaxdiff.typing import Array

__all__ = ["evaluate"]


def evaluate(x: Array, truth: Array) -> dict[str, Array]:
    """PSNR (dB), SSIM and LPIPS of an image, or of each image of a batch.

    Args:
        x: [H, W, C] or [B, H, W, C] in [-1, 1].
        truth: of the same shape.

    Returns:
        By name, a number an image, with shape () or [B]. It is NaN where the image is too small for a measure: SSIM needs 11
        pixels a side, LPIPS 31.

    Raises:
        ValueError: if the shapes differ, or the images are not floating.

    >>> scores = evaluate(jnp.zeros((2, 16, 16, 3)), jnp.full((2, 16, 16, 3), 0.2))
    >>> scores["psnr"].shape, round(float(scores["psnr"][0]), 2)
    ((2,), 20.0)
    """
    x, truth = jnp.asarray(x), jnp.asarray(truth)
    if x.shape != truth.shape or x.ndim not in (3, 4):
        raise ValueError(
            f"x and truth must be two images [H, W, C] or two batches [B, H, W, C], got shapes {x.shape} and {truth.shape}."
        )
    return jax.vmap(_one)(x, truth) if x.ndim == 4 else _one(x, truth)


def _one(x: Array, truth: Array) -> dict[str, Array]:
    side = min(x.shape[:2])
    return {
        "psnr": psnr(x, truth),
        "ssim": ssim(x, truth) if side >= SSIM_WINDOW else jnp.full((), jnp.nan),
        "lpips": lpips(x, truth) if side >= SMALLEST["alex"] else jnp.full((), jnp.nan),
    }
