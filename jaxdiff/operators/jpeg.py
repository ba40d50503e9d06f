"""Differentiable JPEG compression and decompression: the gradient passes straight through each rounding."""

from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, check_range, leaf
from jaxdiff.operators.base import Operator
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["JPEG", "jpeg"]

Subsampling = Literal["4:2:0", "4:4:4"]

# The standard's example tables (ITU-T T.81, annex K.1), which encoders scale by quality.
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMINANCE = np.full((8, 8), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# ITU-T T.871 (JFIF): from red, green, blue to luma and the two colour differences.
TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
FROM_YCBCR = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])

_k = np.arange(8)
DCT = np.sqrt(np.where(_k == 0, 1, 2) / 8)[:, None] * np.cos(np.pi * (2 * _k[None, :] + 1) * _k[:, None] / 16)


@struct.dataclass(eq=False)
class JPEG(Operator):
    """y = the image after JPEG compression and decompression.

    The image is rounded to 8-bit levels, and split into luma and two colour differences. With "4:2:0", the colour is halved
    in both directions. Then 8x8 blocks are cosine-transformed, divided by the scaled tables, and rounded. Decompression
    inverts these steps, with the triangular upsampling of common decoders.

    Attributes:
        quality: from 1 to 100, as in Pillow and libjpeg.
        subsampling: "4:2:0" or "4:4:4" (colour at full resolution).
    """

    straight_through: ClassVar[bool] = True

    quality: Array
    subsampling: str = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: compress and decompress."""
        height, width, channels = x.shape
        levels = _round(jnp.clip((x + 1) * 127.5, 0, 255))
        tables = [quantization_table(base, self.quality.astype(x.dtype)) for base in (LUMINANCE, CHROMINANCE)]
        if channels == 1:
            planes = [_code(levels[..., 0], tables[0])]
        else:
            ycc = _round(_mix(levels, TO_YCBCR) + jnp.asarray([0, 128, 128], x.dtype)[None, None, :])
            planes = [_code(ycc[..., 0], tables[0])]
            for channel in (1, 2):
                planes.append(self._code_colour(ycc[..., channel], tables[1])[:height, :width])
        if channels == 3:
            centred = jnp.stack(planes, axis=-1) - jnp.asarray([0, 128, 128], x.dtype)[None, None, :]
            levels = jnp.clip(_round(_mix(centred, FROM_YCBCR)), 0, 255)
        else:
            levels = planes[0][..., None]
        return levels / 127.5 - 1

    def _code_colour(self, plane: Array, table: Array) -> Array:
        if self.subsampling == "4:4:4":
            return _code(plane, table)
        height, width = plane.shape
        even = jnp.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
        blocks = jnp.reshape(even, (even.shape[0] // 2, 2, even.shape[1] // 2, 2))
        # Half-levels go down in even columns and up in odd ones, as in libjpeg.
        bias = jnp.where(jnp.arange(even.shape[1] // 2) % 2 == 0, 0.25, 0.5).astype(plane.dtype)
        half = _floor(jnp.mean(blocks, axis=(1, 3)) + bias[None, :])
        return _upsample(_code(half, table))


def jpeg(quality: float | Array = 50, *, image_shape: Shape, subsampling: Subsampling = "4:2:0") -> JPEG:
    """JPEG compression and decompression, differentiable in the image and in the quality.

    Args:
        quality: from 1 (worst) to 100, as in Pillow and libjpeg.
        image_shape: (H, W, 1 or 3).
        subsampling: resolution of the colour, "4:2:0" (as in most encoders) or "4:4:4".

    Raises:
        ValueError: if quality, subsampling or number of channels is not one of these.

    Reference:
        ITU-T T.81. Differentiable JPEG is from Shin and Song, "JPEG-resistant Adversarial Images", 2017. They approximate
        the rounding, and we pass the gradient straight through.
    """
    shape = check_image_shape(image_shape)
    if shape[2] not in (1, 3):
        raise ValueError(f"JPEG needs 1 or 3 channels (grey, or red, green, blue), but the image has {shape[2]}.")
    check_range("quality", quality, 1, 100)
    if subsampling not in get_args(Subsampling):
        raise ValueError(f"subsampling must be '4:2:0' or '4:4:4', got {subsampling!r}.")
    return JPEG(leaf("quality", quality, scalar=True), subsampling, image_shape=shape)


def quantization_table(base: np.ndarray, quality: Array) -> Array:
    """The table [8, 8] that divides the coefficients at a quality, by libjpeg's rule."""
    scale = jnp.where(quality < 50, 5000 / jnp.maximum(quality, 1), 200 - 2 * quality)
    scale = jnp.reshape(_floor(scale + 1e-3), (1, 1))
    return jnp.clip(_floor((jnp.asarray(base, quality.dtype) * scale + 50) / 100), 1, 255)


def _code(plane: Array, table: Array) -> Array:
    """One plane [h, w] of levels through transform, quantisation and back."""
    height, width = plane.shape
    padded = jnp.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge") - 128
    rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
    dct = jnp.asarray(DCT, plane.dtype)
    blocks = jnp.reshape(padded, (rows, 8, columns, 8))
    coefficients = jnp.einsum("ui,aibj,vj->aubv", dct, blocks, dct, precision="highest")
    step = table[None, :, None, :]
    kept = _round(coefficients / step) * step
    blocks = jnp.einsum("ui,aubv,vj->aibj", dct, kept, dct, precision="highest")
    return jnp.clip(_round(jnp.reshape(blocks, padded.shape)[:height, :width] + 128), 0, 255)


def _upsample(plane: Array) -> Array:
    """Twice the size in both directions, weights 3/4 and 1/4 of the nearest two samples along each axis."""
    for axis in (0, 1):
        padded = jnp.pad(plane, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        size = plane.shape[axis]
        before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
        after = jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
        pairs = jnp.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis=axis + 1)
        shape = [2 * n if a == axis else n for a, n in enumerate(plane.shape)]
        plane = jnp.reshape(pairs, shape)
    return _round(plane)


def _mix(x: Array, matrix: np.ndarray) -> Array:
    return jnp.einsum("hwi,oi->hwo", x, jnp.asarray(matrix, x.dtype), precision="highest")


def _round(x: Array) -> Array:
    # Halves round away from zero, as in libjpeg. They are common (a block's mean is a multiple of 1/8), so 1e-4 is added:
    # rounding errors of the transform must not decide them.
    return x + jax.lax.stop_gradient(jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5001) - x)


def _floor(x: Array) -> Array:
    return x + jax.lax.stop_gradient(jnp.floor(x) - x)
