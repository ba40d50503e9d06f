"""Fidelity of one image to a reference: PSNR and SSIM with a fixed range.

Both clip to [-1, 1], map to [0, 1] and use the range 1 for every image. So a score never gains from stretching an image to
its own extremes.
"""

from __future__ import annotations

import dm_pix
import jax
import jax.numpy as jnp

from jaxdiff.typing import Array

__all__ = ["SSIM_WINDOW", "check_pair", "psnr", "ssim"]

SSIM_WINDOW = 11
"""Pixels; images must be as large."""


def check_pair(x: Array, reference: Array, *, at_least: int, metric: str) -> tuple[Array, Array]:
    """Both images as floating arrays of one type.

    Raises:
        ValueError: if they cannot be compared.
    """
    x, reference = jnp.asarray(x), jnp.asarray(reference)
    for name, image in (("x", x), ("reference", reference)):
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(
                f"{metric} takes floating images in [-1, 1], but {name} is {image.dtype}; "
                "divide by 127.5 and subtract 1."
            )
    if x.ndim != 3:
        raise ValueError(f"{metric} takes one image [H, W, C], but x has shape {x.shape}; use jax.vmap for a batch.")
    if x.shape != reference.shape:
        raise ValueError(
            f"{metric} needs two images of one shape, but x is {x.shape} and reference is {reference.shape}."
        )
    if min(x.shape[:2]) < at_least:
        raise ValueError(
            f"{metric} needs images of at least {at_least}x{at_least} pixels, but these are {x.shape[0]}x{x.shape[1]}."
        )
    # Spelled out because strict promotion refuses mixed types, and half precision is too coarse for a score.
    dtype = jnp.float64 if jnp.float64 in (x.dtype, reference.dtype) else jnp.float32
    return x.astype(dtype), reference.astype(dtype)


def _unit(image: Array) -> Array:
    return (jnp.clip(image, -1.0, 1.0) + 1.0) / 2.0


def psnr(x: Array, reference: Array) -> Array:
    """Peak signal-to-noise ratio in decibels.

    PSNR = −10 log₁₀ mean((u − v)²), where u, v are the images clipped to [-1, 1] and mapped to [0, 1].

    Args:
        x: image [H, W, C] in [-1, 1].
        reference: the true image, of the same shape.

    Returns:
        A scalar, infinite for identical images.

    Raises:
        ValueError: shapes differ, a batch was passed, or the images are not floating.

    >>> import jax.numpy as jnp
    >>> print(f"{psnr(jnp.zeros((8, 8, 3)), jnp.full((8, 8, 3), 0.2)):.2f} dB")
    20.00 dB
    """
    x, reference = check_pair(x, reference, at_least=1, metric="psnr")
    with jax.numpy_dtype_promotion("standard"):
        return jnp.asarray(dm_pix.psnr(_unit(x), _unit(reference)), x.dtype)


def ssim(x: Array, reference: Array) -> Array:
    """Mean structural similarity with an 11x11 Gaussian window of standard deviation 1.5.

    SSIM = mean of (2 μ_u μ_v + c₁)(2 s_uv + c₂)/((μ_u² + μ_v² + c₁)(s_u² + s_v² + c₂)), with c₁ = 0.01² and
    c₂ = 0.03². u and v are as in `psnr`. The mean is over channels and over places where the window fits.

    Args:
        x: image [H, W, C] in [-1, 1].
        reference: the true image, of the same shape.

    Returns:
        A scalar, 1 for identical images.

    Raises:
        ValueError: shapes differ, a batch was passed, the images are not floating or are smaller than the window.

    Reference:
        Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, Eq. 13, through
        dm-pix; colour images score the mean over channels.

    >>> import jax.numpy as jnp
    >>> image = jnp.linspace(-1, 1, 16 * 16 * 3).reshape(16, 16, 3)
    >>> print(f"{ssim(image, image):.3f}")
    1.000
    """
    x, reference = check_pair(x, reference, at_least=SSIM_WINDOW, metric="ssim")
    with jax.numpy_dtype_promotion("standard"):
        return jnp.asarray(dm_pix.ssim(_unit(x), _unit(reference), filter_size=SSIM_WINDOW), x.dtype)
