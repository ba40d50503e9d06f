"""Crop and pad: smaller and larger images."""

import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import check_corner, check_image_shape, check_margin, check_size
from jaxdiff.operators.base import PixelOperator
from jaxdiff.typing import Image, Measurement, Shape

__all__ = ["Crop", "Pad", "crop", "pad"]


@struct.dataclass(eq=False)
class Crop(PixelOperator):
    """y = a window of the image."""

    corner: tuple[int, int] = struct.field(pytree_node=False)
    size: tuple[int, int] = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: the window."""
        (top, left), (height, width) = self.corner, self.size
        return x[top : top + height, left : left + width]

    def adjoint(self, y: Measurement) -> Image:
        """The window in its place, with zeros around it."""
        (top, left), (height, width), (rows, columns, _) = self.corner, self.size, self.image_shape
        return jnp.pad(y, ((top, rows - top - height), (left, columns - left - width), (0, 0)))


@struct.dataclass(eq=False)
class Pad(PixelOperator):
    """y = the image with zeros around it."""

    width: tuple[int, int] = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: put zeros around the image."""
        rows, columns = self.width
        return jnp.pad(x, ((rows, rows), (columns, columns), (0, 0)))

    def adjoint(self, y: Measurement) -> Image:
        """The image without the frame."""
        (rows, columns), (height, width, _) = self.width, self.image_shape
        return y[rows : rows + height, columns : columns + width]


def crop(size: int | tuple[int, int], *, image_shape: Shape, corner: tuple[int, int] | None = None) -> Crop:
    """A window of the image, centred by default.

    Args:
        size: side of the window, or (height, width), pixels.
        image_shape: (H, W, C).
        corner: row and column of the window's upper left corner.

    Raises:
        ValueError: if the window is not inside the image.
    """
    shape = check_image_shape(image_shape)
    height, width = check_size("size", size)
    middle = ((shape[0] - height) // 2, (shape[1] - width) // 2)
    top, left = middle if corner is None else check_corner("corner", corner)
    if min(top, left) < 0 or top + height > shape[0] or left + width > shape[1]:
        raise ValueError(f"a {height}x{width} window at ({top}, {left}) leaves the {shape[0]}x{shape[1]} image.")
    return Crop((top, left), (height, width), image_shape=shape)


def pad(width: int | tuple[int, int], *, image_shape: Shape) -> Pad:
    """Put zeros around the image.

    Args:
        width: pixels on each side, or (rows above and below, columns left and right).
        image_shape: (H, W, C).

    Raises:
        ValueError: if the width is negative. Use ``crop`` to make an image smaller.
    """
    return Pad(check_margin("width", width), image_shape=check_image_shape(image_shape))
