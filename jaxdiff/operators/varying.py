"""A blur that varies over the image, made of several kernels."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, check_size, concrete, leaf
from jaxdiff.operators.base import LinearOperator
from jaxdiff.operators.convolution import Padding, check_padding, check_reach, fast_sides, pad, wrap
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["VaryingBlur", "blend_weights", "varying_blur"]


@struct.dataclass(eq=False)
class VaryingBlur(LinearOperator):
    """y = Σ_k kernel_k ⋆ (weight_k ⊙ x).

    Attributes:
        kernels: [K, h, w], both odd.
        weights: [K, H, W], the part of each pixel's light that each kernel spreads.
        padding: "reflect", "circular" or "zero".

    Reference:
        Nagy and O'Leary, "Restoring Images Degraded by Spatially Variant Blur", SIAM J. Sci. Comput. 1998.
    """

    half: ClassVar[bool] = False

    kernels: Array
    weights: Array
    padding: str = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: weigh, blur and add. The sum is taken in the Fourier domain."""
        height, width = x.shape[:2]
        planes = self.weights.astype(x.dtype)[:, None] * jnp.moveaxis(x, -1, 0)[None]
        if self.padding == "circular":
            sides = (height, width)
            wrapped = jax.vmap(lambda k: wrap(k, sides))(self.kernels.astype(x.dtype))
            spectra = jnp.fft.rfft2(wrapped)
        else:
            planes = jax.vmap(lambda p: pad(p, self.kernels.shape[1:], self.padding))(planes)
            sides = fast_sides(planes.shape[-2:])
            spectra = jnp.fft.rfft2(self.kernels.astype(x.dtype), s=sides)
        product = jnp.sum(jnp.fft.rfft2(planes, s=sides) * jnp.conj(spectra)[:, None], axis=0)
        return jnp.moveaxis(jnp.fft.irfft2(product, s=sides)[:, :height, :width], 0, -1)


def varying_blur(
    kernels: Array | np.ndarray,
    *,
    image_shape: Shape,
    weights: Array | np.ndarray | None = None,
    padding: Padding = "reflect",
) -> VaryingBlur:
    """A blur that varies over the image.

    Args:
        kernels: [K, h, w], both sides odd.
        image_shape: (H, W, C).
        weights: [K, H, W]. By default, the kernels follow each other from left to right, blended linearly.
        padding: "reflect", "circular" or "zero".

    Raises:
        ValueError: if the kernels and the weights do not fit each other or the image.
    """
    shape = check_image_shape(image_shape)
    check_padding(padding)
    k = leaf("kernels", kernels)
    if k.ndim != 3:
        raise ValueError(f"kernels must be [K, h, w], got shape {k.shape}.")
    check_size("the kernels' size", k.shape[1:], odd=True)
    check_reach(k.shape[1:], shape, padding)
    if concrete(k) and not np.asarray(k).any():
        raise ValueError("the kernels are zero everywhere; they must hold at least one weight.")
    w = blend_weights((shape[0], shape[1]), (1, k.shape[0])) if weights is None else leaf("weights", weights)
    if w.shape != (k.shape[0], *shape[:2]):
        raise ValueError(f"weights must be {(k.shape[0], *shape[:2])}, one plane a kernel, got shape {w.shape}.")
    return VaryingBlur(k, w, padding, image_shape=shape)


def blend_weights(shape: tuple[int, int], grid: tuple[int, int]) -> Array:
    """Weights [rows · columns, H, W] that blend a grid of kernels linearly. At each pixel, they add to one.

    Args:
        shape: (H, W).
        grid: (rows, columns) of kernels, from edge to edge of the image.
    """
    ramps = []
    for side, count in zip(shape, grid, strict=True):
        place = np.linspace(0, count - 1, side)
        ramps.append(np.maximum(0, 1 - np.abs(place[None, :] - np.arange(count)[:, None])))
    weights = ramps[0][:, None, :, None] * ramps[1][None, :, None, :]
    return jnp.asarray(weights.reshape(grid[0] * grid[1], *shape), jnp.float32)
