"""Crop and pad: smaller and larger images."""

import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff.operators._validation import check_image_shape, check_size
from jaxdiff.operators.base import SpectralOperator
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["Crop", "Pad", "crop", "pad"]


@struct.dataclass(eq=False)
class Crop(SpectralOperator):
    """y = a window of the image."""

    corner: tuple[int, int] = struct.field(pytree_node=False)
    size: tuple[int, int] = struct.field(pytree_node=False)

    def __call__(self, x: Image) -> Measurement:
        """Measure: the window."""
        (top, left), (height, width) = self.corner, self.size
        return x[top : top + height, left : left + width]

    def adjoint(self, y: Measurement) -> Image:
        """The window in its place, zeros around."""
        (top, left), (height, width), (rows, columns, _) = self.corner, self.size, self.image_shape
        return jnp.pad(y, ((top, rows - top - height), (left, columns - left - width), (0, 0)))

    def to_spectral(self, x: Image) -> Array:
        """Vᵀ x, with V = I."""
        return x

    def from_spectral(self, z: Array) -> Image:
        """V z, with V = I."""
        return z

    @property
    def singular_values(self) -> Array:
        """1 inside the window, 0 outside."""
        return self.adjoint(jnp.ones((*self.size, self.image_shape[2]), jnp.float32))


@struct.dataclass(eq=False)
class Pad(SpectralOperator):
    """y = the image with zeros around it."""

    width: tuple[int, int] = struct.field(pytree_node=False)

    def __call__(self, x: Image) -> Measurement:
        """Measure: zeros around."""
        rows, columns = self.width
        return jnp.pad(x, ((rows, rows), (columns, columns), (0, 0)))

    def adjoint(self, y: Measurement) -> Image:
        """What lies inside."""
        (rows, columns), (height, width, _) = self.width, self.image_shape
        return y[rows : rows + height, columns : columns + width]

    def to_spectral(self, x: Image) -> Array:
        """Vᵀ x, with V = I."""
        return x

    def from_spectral(self, z: Array) -> Image:
        """V z, with V = I."""
        return z

    @property
    def singular_values(self) -> Array:
        """All one."""
        return jnp.ones(self.image_shape, jnp.float32)


def crop(*, image_shape: Shape, size: int | tuple[int, int], corner: tuple[int, int] | None = None) -> Crop:
    """A window of the image, centred by default.

    Raises:
        ValueError: if the window leaves the image.
    """
    shape = check_image_shape(image_shape)
    height, width = check_size("size", size)
    top, left = ((shape[0] - height) // 2, (shape[1] - width) // 2) if corner is None else corner
    if not all(isinstance(n, int | np.integer) for n in (top, left)):
        raise ValueError(f"corner must be two integers, row and column, got {corner!r}.")
    if min(top, left) < 0 or top + height > shape[0] or left + width > shape[1]:
        raise ValueError(f"a {height}x{width} window at ({top}, {left}) leaves the {shape[0]}x{shape[1]} image.")
    return Crop((int(top), int(left)), (height, width), image_shape=shape)


def pad(*, image_shape: Shape, width: int | tuple[int, int]) -> Pad:
    """Zeros around the image.

    Args:
        image_shape: (H, W, C).
        width: pixels on every side, or (rows above and below, columns left and right).

    Raises:
        ValueError: on a negative width.
    """
    rows, columns = (width, width) if isinstance(width, int | np.integer) else tuple(width)
    if min(rows, columns) < 0:
        raise ValueError(f"width must be zero or positive, got {width!r}; use crop to make an image smaller.")
    return Pad((int(rows), int(columns)), image_shape=check_image_shape(image_shape))
