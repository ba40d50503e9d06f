"""All measures at once, of one image or of a batch."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxdiff.metrics.image import SSIM_WINDOW, psnr, ssim
from jaxdiff.metrics.lpips import SMALLEST, Weights, lpips, lpips_params
from jaxdiff.typing import Array

__all__ = ["evaluate"]


def evaluate(x: Array, truth: Array, *, net: str = "alex", params: Weights | None = None) -> dict[str, Array]:
    """PSNR (dB), SSIM and LPIPS of an image, or of each image of a batch.

    Args:
        x: [H, W, C] or [B, H, W, C] in [-1, 1].
        truth: of the same shape.
        net: of LPIPS, "alex" or "vgg".
        params: its weights, as ``lpips`` takes them.

    Returns:
        By name, a number an image, with shape () or [B]. It is NaN where the image is too small for a measure: SSIM needs 11
        pixels a side, LPIPS 31, or 16 with "vgg".

    Raises:
        ValueError: if the shapes differ, or the images are not floating; or if LPIPS lacks its weights.

    >>> scores = evaluate(jnp.zeros((2, 16, 16, 3)), jnp.full((2, 16, 16, 3), 0.2))
    >>> scores["psnr"].shape, round(float(scores["psnr"][0]), 2)
    ((2,), 20.0)
    """
    x, truth = jnp.asarray(x), jnp.asarray(truth)
    if x.shape != truth.shape or x.ndim not in (3, 4):
        raise ValueError(
            f"x and truth must be two images [H, W, C] or two batches [B, H, W, C], got shapes {x.shape} and {truth.shape}."
        )
    params = lpips_params(net) if params is None else params
    one = partial(_one, net=net, params=params)
    return jax.vmap(one)(x, truth) if x.ndim == 4 else one(x, truth)


def _one(x: Array, truth: Array, net: str, params: Weights) -> dict[str, Array]:
    side = min(x.shape[:2])
    return {
        "psnr": psnr(x, truth),
        "ssim": ssim(x, truth) if side >= SSIM_WINDOW else jnp.full((), jnp.nan),
        "lpips": lpips(x, truth, net, params) if side >= SMALLEST[net] else jnp.full((), jnp.nan),
    }
