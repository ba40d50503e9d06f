"""Masks of other shapes: outpainting, brush strokes, and text."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import check_image_shape, check_key, check_range, concrete, count
from jaxdiff.operators.masking import Mask, inpaint_mask
from jaxdiff.typing import Array, Key, Shape

__all__ = ["inpaint_strokes", "inpaint_text", "outpaint"]

Side = Literal["left", "right", "top", "bottom", "border"]


def outpaint(side: Side = "right", *, image_shape: Shape, fraction: float = 0.5) -> Mask:
    """Hide one side of the image, or a border around it.

    Args:
        side: the part that is hidden: "left", "right", "top", "bottom", or "border".
        image_shape: (H, W, C).
        fraction: fraction of the image's side that is hidden. For a border, this counts both edges.

    Raises:
        ValueError: if the side is unknown, or the fraction hides nothing or everything.

    >>> outpaint(image_shape=(4, 4, 1), side="right").mask[0, :, 0].tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    height, width, _ = check_image_shape(image_shape)
    if side not in get_args(Side):
        raise ValueError(f"side must be one of {', '.join(get_args(Side))}, got {side!r}.")
    check_range("fraction", fraction, 0, 1)
    row, column = np.mgrid[:height, :width]
    distance, length = {
        "left": (column, width),
        "right": (width - 1 - column, width),
        "top": (row, height),
        "bottom": (height - 1 - row, height),
        "border": (np.minimum.reduce([row, column, height - 1 - row, width - 1 - column]), min(height, width) / 2),
    }[side]
    keep = distance >= round(fraction * length)
    if keep.all():
        raise ValueError(f"fraction {fraction} of a {height}x{width} image hides nothing; use a larger one.")
    return inpaint_mask(image_shape=image_shape, mask=keep)


def inpaint_strokes(
    key: Key, *, image_shape: Shape, strokes: int = 6, thickness: float = 0.06, length: float = 0.8
) -> Mask:
    """Hide brush strokes. Each is a smooth random walk with its own width.

    Args:
        key: for the strokes.
        image_shape: (H, W, C).
        strokes: number of strokes.
        thickness: mean width of the brush, as a fraction of the image's shorter side.
        length: mean length of a stroke, in the same unit.

    Raises:
        ValueError: if there is no stroke, if thickness or length is not positive, or if nothing is left.
    """
    height, width, channels = check_image_shape(image_shape)
    check_key(key)
    count("strokes", strokes)
    check_range("thickness", thickness, 0, open_low=True)
    check_range("length", length, 0, open_low=True)
    seen = _paint(key, (height, width), strokes, thickness, length)
    if concrete(seen) and not np.asarray(seen).any():
        raise ValueError(f"{strokes} strokes of thickness {thickness} hide everything; use fewer or thinner ones.")
    return Mask(seen, image_shape=(height, width, channels))


@partial(jax.jit, static_argnames=("size", "strokes"))
def _paint(key: Key, size: tuple[int, int], strokes: int, thickness: float, length: float) -> Array:
    """1 where no stroke went, [H, W, 1]."""
    height, width = size
    side, points = min(height, width), 48
    row = jnp.arange(height, dtype=jnp.float32)[:, None]
    column = jnp.arange(width, dtype=jnp.float32)[None, :]

    def draw(seen: Array, key: Key) -> tuple[Array, None]:
        start_key, heading_key, turn_key, size_key = jax.random.split(key, 4)
        start = jax.random.uniform(start_key, (2,), jnp.float32, 0.15, 0.85) * jnp.asarray([height, width], jnp.float32)
        scale = jax.random.uniform(size_key, (2,), jnp.float32, 0.5, 1.5)
        heading = jax.random.uniform(heading_key, (), jnp.float32, 0, 2 * jnp.pi)
        heading = heading + jnp.cumsum(jax.random.normal(turn_key, (points,), jnp.float32)) * 0.25
        step = scale[0] * (length * side / points)
        rows = start[0] + step * jnp.cumsum(jnp.sin(heading))
        columns = start[1] + step * jnp.cumsum(jnp.cos(heading))
        radius = jnp.maximum(scale[1] * (thickness * side / 2), 0.6)

        def dab(seen: Array, place: tuple[Array, Array]) -> tuple[Array, None]:
            outside = jnp.square(row - place[0]) + jnp.square(column - place[1]) > jnp.square(radius)
            return seen & outside, None

        return jax.lax.scan(dab, seen, (rows, columns))[0], None

    seen, _ = jax.lax.scan(draw, jnp.ones((height, width), bool), jax.random.split(key, strokes))
    return seen.astype(jnp.float32)[..., None]


def inpaint_text(text: str = "jaxdiff ", *, image_shape: Shape, size: float = 0.14, spacing: float = 1.5) -> Mask:
    """Hide letters that are written over the whole image in Pillow's own font.

    Args:
        text: repeated along each line. Each line begins three letters later than the line above it.
        image_shape: (H, W, C).
        size: size of the letters, as a fraction of the image's shorter side. It is at least 6 pixels.
        spacing: distance of the lines, as a multiple of the size.

    Raises:
        ValueError: if there is nothing to write, or the letters are too small or too large.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width, _ = check_image_shape(image_shape)
    if not isinstance(text, str) or not text.strip():
        raise ValueError("text must hold at least one letter.")
    check_range("size", size, 0, 1, open_low=True)
    check_range("spacing", spacing, 1)
    pixels = max(6.0, size * min(height, width))
    sheet = Image.new("1", (width, height), 1)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(pixels)
    for line, top in enumerate(np.arange(0, height, pixels * spacing)):
        shift = (3 * line) % len(text)
        repeats = 2 + int(width / max(1.0, draw.textlength(text, font=font)))
        draw.text((0, float(top)), (text * (repeats + 1))[shift:], fill=0, font=font)
    return inpaint_mask(image_shape=image_shape, mask=np.asarray(sheet, np.float32))
