"""Masks: y = m ⊙ x, with zeros where a pixel is hidden. Denoising is the mask that keeps all pixels."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, check_key, check_margin, check_range, check_size, concrete, leaf, numbers
from jaxdiff.operators.base import PixelOperator
from jaxdiff.typing import Array, Image, Key, Measurement, Shape

__all__ = ["Denoise", "Mask", "denoise", "inpaint_box", "inpaint_mask", "inpaint_random"]


@struct.dataclass(eq=False)
class Denoise(PixelOperator):
    """y = x."""

    def apply(self, x: Image) -> Measurement:
        """Measure: the image itself."""
        return x


@struct.dataclass(eq=False)
class Mask(PixelOperator):
    """y = m ⊙ x.

    Attributes:
        mask: [H, W, 1] for all channels, or [H, W, C]. It is 1 where a pixel is seen, and 0 where it is hidden.
    """

    mask: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: m ⊙ x."""
        return self.mask.astype(x.dtype) * x

    def adjoint(self, y: Measurement) -> Image:
        """Aᵀ = A."""
        return self(y)

    def keep_observed(self, y: Measurement) -> Measurement:
        """The measurement where a pixel is seen, and 0 where it is hidden."""
        return jnp.where(jnp.broadcast_to(self.mask > 0, y.shape), y, jnp.zeros_like(y))


def denoise(image_shape: Shape) -> Denoise:
    """The identity, y = x. A restoration then only removes noise.

    >>> denoise(image_shape=(8, 8, 3)).measurement_shape
    (8, 8, 3)
    """
    return Denoise(image_shape=check_image_shape(image_shape))


def inpaint_mask(mask: Array | np.ndarray, *, image_shape: Shape) -> Mask:
    """Any mask, y = m ⊙ x.

    Args:
        mask: [H, W], [H, W, 1] or [H, W, C], in [0, 1]. It is 1 or True where a pixel is seen.
        image_shape: (H, W, C).

    Raises:
        ValueError: if the mask has another shape, has values outside [0, 1], or keeps nothing.
    """
    height, width, channels = check_image_shape(image_shape)
    array = numbers("mask", mask)
    if array.shape == (height, width):
        array = array[..., None]
    if array.shape not in ((height, width, 1), (height, width, channels)):
        raise ValueError(
            f"the mask must be {height}x{width} like the image (or one such plane a channel), got shape {array.shape}."
        )
    if concrete(array):
        values = np.asarray(array)
        if not np.all((values >= 0) & (values <= 1)):
            raise ValueError("the mask must lie in [0, 1]: 1 where a pixel is seen, 0 where it is not.")
        if not values.any():
            raise ValueError("the mask keeps nothing; it must be 1 where a pixel is seen.")
    return Mask(array, image_shape=(height, width, channels))


def inpaint_box(
    size: int | tuple[int, int],
    *,
    image_shape: Shape,
    position: tuple[int, int] | Array | None = None,
    key: Key | None = None,
    margin: int | tuple[int, int] = 0,
) -> Mask:
    """Hide a box.

    Args:
        size: side of the hidden box, or its (height, width), pixels.
        image_shape: (H, W, C).
        position: row and column of the box's upper left corner. Without it and ``key``, the box is centred.
        key: for a place that is drawn uniformly. As in DPS and DAPS, it is at least ``margin`` from the upper and the left
            border, and more than ``margin`` from the others.
        margin: pixels, or (rows, columns).

    Raises:
        ValueError: if the box does not fit, or both ``position`` and ``key`` are given.

    >>> inpaint_box(image_shape=(8, 8, 3), size=4).mask.sum().item()
    48.0
    """
    height, width, channels = check_image_shape(image_shape)
    box = check_size("size", size)
    margins = check_margin("margin", margin)
    if box[0] > height or box[1] > width or box == (height, width):
        raise ValueError(f"a hidden {box[0]}x{box[1]} box leaves nothing of a {height}x{width} image; make it smaller.")
    if position is not None and key is not None:
        raise ValueError("give the box either a position or a key for a random one, not both.")
    if key is None and any(margins):
        raise ValueError(f"margin={margin!r} bounds a random place; give a key too, or leave it out.")
    if key is not None:
        check_key(key)
        highest = (height - margins[0] - box[0], width - margins[1] - box[1])
        if highest[0] <= margins[0] or highest[1] <= margins[1]:
            raise ValueError(
                f"a {box[0]}x{box[1]} box with a margin of {margins} has no room to move in a {height}x{width} image; "
                "use a smaller box or margin."
            )
        corner = jax.random.randint(key, (2,), jnp.asarray(margins), jnp.asarray(highest))
    elif position is None:
        corner = jnp.asarray([(height - box[0]) // 2, (width - box[1]) // 2])
    else:
        corner = jnp.asarray(position)
        if corner.shape != (2,) or not jnp.issubdtype(corner.dtype, jnp.integer):
            raise ValueError(f"position must be two integers, row and column of a corner, got {position!r}.")
        if concrete(corner):
            top, left = (int(n) for n in np.asarray(corner))
            if top < 0 or left < 0 or top + box[0] > height or left + box[1] > width:
                raise ValueError(f"a {box[0]}x{box[1]} box at ({top}, {left}) leaves the {height}x{width} image.")
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    rows = (row >= corner[0]) & (row < corner[0] + box[0])
    columns = (column >= corner[1]) & (column < corner[1] + box[1])
    return Mask(1 - (rows & columns)[..., None].astype(jnp.float32), image_shape=(height, width, channels))


def inpaint_random(
    key: Key,
    *,
    image_shape: Shape,
    fraction: float | Array | None = None,
    min_fraction: float | Array | None = None,
    max_fraction: float | Array | None = None,
) -> Mask:
    """Hide single pixels at random, in all channels together.

    As in DPS, exactly ⌊fraction · H · W⌋ pixels are hidden, drawn without replacement. A traced fraction is computed in
    float32, and never hides all pixels.

    Args:
        key: for the pixels, and for the fraction if it is random.
        image_shape: (H, W, C).
        fraction: fraction of the pixels that is *hidden* (0.92 for "92 % random").
        min_fraction: with ``max_fraction``, the range from which the fraction is drawn uniformly. DPS uses 0.3 and 0.7.
        max_fraction: see ``min_fraction``.

    Raises:
        ValueError: if the fraction is not in [0, 1[, if its range is empty, or if you give both.

    >>> int(inpaint_random(jax.random.key(0), image_shape=(10, 10, 3), fraction=0.92).mask.sum())
    8
    """
    check_key(key)
    height, width, channels = check_image_shape(image_shape)
    for name, value in (("fraction", fraction), ("min_fraction", min_fraction), ("max_fraction", max_fraction)):
        if value is not None:
            leaf(name, value, scalar=True)
            check_range(name, value, 0, 1)
    place_key, share_key = jax.random.split(key)
    pixels = height * width
    if fraction is not None and min_fraction is None and max_fraction is None:
        hidden = _share_of(fraction, pixels) if concrete(fraction) else _traced_share_of(fraction, pixels)
    elif fraction is None and min_fraction is not None and max_fraction is not None:
        if concrete(min_fraction):
            check_range("max_fraction", max_fraction, float(min_fraction), 1)
        share = jax.random.uniform(share_key, (), jnp.float32, min_fraction, max_fraction)
        hidden = _traced_share_of(share, pixels)  # traced or not, a key must give the same mask
    else:
        raise ValueError("give inpaint_random either fraction, or min_fraction and max_fraction.")
    rank = jax.random.permutation(place_key, pixels).astype(jnp.int32)
    mask = (rank >= hidden).astype(jnp.float32).reshape(height, width, 1)
    return Mask(mask, image_shape=(height, width, channels))


def _share_of(fraction: float | Array, pixels: int) -> Array:
    # Count with the decimal number that the caller wrote: a float32 0.35 is below 0.35. The 1e-6 lifts products such as
    # 0.29 * 100 = 28.999999999999996.
    hidden = int(pixels * float(str(fraction)) + 1e-6)
    if hidden == pixels:
        raise ValueError(f"fraction {fraction} hides every pixel; it must be below 1.")
    return jnp.asarray(hidden, jnp.int32)


def _traced_share_of(fraction: float | Array, pixels: int) -> Array:
    product = jnp.asarray(fraction, jnp.float32) * (pixels * (1 + 2e-7))
    return jnp.minimum(jnp.floor(product).astype(jnp.int32), pixels - 1)
