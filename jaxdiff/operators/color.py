"""Colour: any matrix on the channels, conversion to grey, and the Bayer mosaic of a sensor."""

import functools
import operator
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, concrete, leaf, numbers, shown
from jaxdiff.operators.base import PixelOperator, SpectralOperator
from jaxdiff.operators.separable import Factor, factorize
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["ColorMatrix", "Mosaic", "bayer_mosaic", "color_matrix", "grayscale"]

LUMA = (0.299, 0.587, 0.114)


@struct.dataclass(eq=False)
class ColorMatrix(SpectralOperator):
    """y = M x at each pixel.

    Attributes:
        matrix: M [channels out, channels in], with its decomposition.
    """

    matrix: Factor

    def apply(self, x: Image) -> Measurement:
        """Measure: M x."""
        return _mix(x, self.matrix.matrix)

    def adjoint(self, y: Measurement) -> Image:
        """Mᵀ y."""
        return _mix(y, self.matrix.matrix.T)

    def to_spectral(self, x: Image) -> Array:
        """Vᵀ x."""
        return _mix(x, self.matrix.right.T)

    def from_spectral(self, z: Array) -> Image:
        """V z."""
        return _mix(z, self.matrix.right)

    def measurement_to_spectral(self, y: Measurement) -> Array:
        """Uᵀ y. It is zero where the singular value counts as zero."""
        z = _mix(y, self.matrix.left.T)
        return jnp.where(self.singular_values > 0, z, jnp.zeros_like(z))

    @property
    def singular_values(self) -> Array:
        """The singular values of M, at every pixel. Those below rounding error count as zero."""
        s = self.matrix.values
        s = jnp.where(s > 1e-6 * jnp.max(s), s, jnp.zeros_like(s))
        return jnp.broadcast_to(s[None, None, :], self.image_shape)


@struct.dataclass(eq=False)
class Mosaic(PixelOperator):
    """y [H, W, 1] = at each pixel, the one channel that the pixel's filter lets through.

    Attributes:
        filters: [H, W, C], one-hot over the channels.
    """

    filters: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: Σ over channels of filter · x."""
        # Channel by channel: XLA's CPU code for a sum over a short last axis is ten times slower.
        kept = self.filters.astype(x.dtype) * x
        return functools.reduce(operator.add, [kept[..., c : c + 1] for c in range(x.shape[-1])])

    def adjoint(self, y: Measurement) -> Image:
        """Each value in the channel that it was measured in."""
        return self.filters.astype(y.dtype) * y

    def initial(self, y: Measurement) -> Image:
        """The mosaic as a grey picture."""
        return jnp.broadcast_to(y, self.image_shape)

    def view(self, y: Measurement) -> Array:
        """The mosaic in the colours of its filters. A channel that is not measured is black."""
        return jnp.clip(self.filters.astype(y.dtype) * (y + 1) - 1, -1, 1)


def color_matrix(matrix: Array | np.ndarray, *, image_shape: Shape) -> ColorMatrix:
    """Multiply the channels of each pixel by any matrix M, [channels out, channels in].

    Raises:
        ValueError: if M does not fit the image's channels, or is zero.
    """
    shape = check_image_shape(image_shape)
    m = leaf("matrix", matrix)
    if m.ndim != 2 or m.shape[1] != shape[2]:
        raise ValueError(
            f"matrix must be [channels out, {shape[2]}] for an image of {shape[2]} channels, got {m.shape}."
        )
    if concrete(m) and not np.asarray(m).any():
        raise ValueError("matrix is zero everywhere, so nothing would be measured.")
    return ColorMatrix(factorize(matrix if concrete(matrix) else m), image_shape=shape)


def grayscale(weights: Literal["mean", "luma"] | tuple[float, ...] = "mean", *, image_shape: Shape) -> ColorMatrix:
    """Colour to grey: a weighted mean of the channels. This is the forward model of colourisation.

    Args:
        weights: "mean" as in DDRM and DDNM, "luma" (0.299, 0.587, 0.114 of ITU-R BT.601), or one number for each channel.
        image_shape: (H, W, C).

    Raises:
        ValueError: if the weights do not fit the channels.

    >>> grayscale(image_shape=(8, 8, 3)).measurement_shape
    (8, 8, 1)
    """
    _, _, channels = check_image_shape(image_shape)
    if isinstance(weights, str):
        if weights not in ("mean", "luma"):
            raise ValueError(f"weights must be 'mean', 'luma' or one number a channel, got {weights!r}.")
        if weights == "luma" and channels != 3:
            raise ValueError(f"weights 'luma' needs 3 channels, but the image has {channels}; use 'mean'.")
        weights = LUMA if weights == "luma" else (1 / channels,) * channels
    numbers("weights", weights)
    row = np.asarray(weights, np.float64)
    if row.ndim != 1:
        raise ValueError(f"weights must be 'mean', 'luma' or one number a channel, got {shown(weights)}.")
    return color_matrix(image_shape=image_shape, matrix=row[None, :])


Pattern = Literal["rggb", "bggr", "grbg", "gbrg"]


def bayer_mosaic(pattern: Pattern = "rggb", *, image_shape: Shape) -> Mosaic:
    """One colour for each pixel, in the 2x2 pattern of a camera's sensor. This is the forward model of demosaicing.

    Raises:
        ValueError: if the pattern is unknown, or the image does not have 3 channels.

    >>> bayer_mosaic(image_shape=(8, 8, 3)).filters.sum(axis=(0, 1)).tolist()
    [16.0, 32.0, 16.0]
    """
    shape = check_image_shape(image_shape)
    if pattern not in get_args(Pattern):
        raise ValueError(f"pattern must be one of {', '.join(get_args(Pattern))}, got {pattern!r}.")
    if shape[2] != 3:
        raise ValueError(f"a Bayer mosaic needs 3 channels (red, green, blue), but the image has {shape[2]}.")
    tile = np.eye(3, dtype=np.float32)[["rgb".index(letter) for letter in pattern]].reshape(2, 2, 3)
    repeats = (-(-shape[0] // 2), -(-shape[1] // 2), 1)
    return Mosaic(jnp.asarray(np.tile(tile, repeats)[: shape[0], : shape[1]]), image_shape=shape)


def _mix(x: Array, matrix: Array) -> Array:
    return jnp.einsum("hwi,oi->hwo", x, matrix.astype(x.dtype), precision="highest")
