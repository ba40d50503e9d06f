"""The visitor's picture and mask: read as everywhere, framed, painted."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw

from jaxdiff.assets import path
from jaxdiff.files import load_image, one_sentence, parse_json, to_uint8
from jaxdiff.photos import Framing, centre

__all__ = ["MOST_BYTES", "example", "framed", "framing_of", "hidden", "read"]

MOST_BYTES = 20 * 2**20
"""Of an upload."""
MOST_PIXELS = 2**25
"""Of an upload, 8192×4096: a phone's picture fits, and reading one takes about half a GiB."""
SIDE = 2048
"""Longest side that is kept, pixels."""
STROKES, POINTS = 1000, 100_000
"""Most that a painting may have."""
FINER = 8
"""A painting is drawn so many times finer than the mask."""


def read(file: str | Path) -> np.ndarray:
    """An upload as [H, W, 3], bytes; at most ``SIDE`` a side.

    Raises:
        ValueError: if it is too large, or no picture; the sentence names the file as its owner does.
    """
    file = Path(file)
    size = file.stat().st_size if file.is_file() else 0
    if size > MOST_BYTES:
        raise ValueError(f"{file.name} has {size / 2**20:.0f} MiB; at most {MOST_BYTES // 2**20} MiB are read.")
    try:
        pixels = to_uint8(load_image(file, most=MOST_PIXELS).pixels)
    except ValueError as error:
        raise ValueError(one_sentence(str(error).replace(str(file), file.name))) from None
    picture = PILImage.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), PILImage.Resampling.LANCZOS)
    return np.asarray(picture)


def example() -> np.ndarray:
    """The packaged picture: Eileen Collins, NASA, public domain."""
    return read(path("astronaut.png"))


def framing_of(value: str | None, picture: np.ndarray) -> Framing:
    """The frame that the page sent, moved and shrunk into the picture; the middle where it sent none."""
    try:
        top, left, side = (round(float(number)) for number in parse_json(value or "")["frame"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return centre(picture)
    height, width = picture.shape[:2]
    side = min(max(side, 1), height, width)
    return Framing(min(max(top, 0), height - side), min(max(left, 0), width - side), side)


def framed(picture: np.ndarray, frame: Framing) -> np.ndarray:
    """What is in the frame, as it is: the prior's own size comes later, as on the command line."""
    return picture[frame.top : frame.top + frame.side, frame.left : frame.left + frame.side]


def hidden(value: str | None, size: tuple[int, int]) -> np.ndarray:
    """Where a painting covers a pixel of the image, if only in part.

    Args:
        value: strokes as the page sends them: JSON {"strokes": [{"width": w, "points": [[x, y], …]}, …]}, in units of the
            picture's sides.
        size: (H, W) of the image.

    Returns:
        [H, W], bool.

    Raises:
        ValueError: if nothing is painted, or all, or the strokes are none.
    """
    height, width = size[0] * FINER, size[1] * FINER
    canvas = PILImage.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    for breadth, points in _strokes(value):
        radius = breadth * width / 2
        places = [(x * width, y * height) for x, y in points]
        pen.line(places, fill=255, width=max(1, round(2 * radius)))
        for x, y in places:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    found = np.asarray(canvas).reshape(size[0], FINER, size[1], FINER).max((1, 3)) > 0
    if not found.any():
        raise ValueError("nothing is painted: paint over what is to be replaced.")
    if found.all():
        raise ValueError("all of the picture is painted over: leave a part that is known.")
    return found


def _strokes(value: str | None) -> list[tuple[float, list[tuple[float, float]]]]:
    """(width, points) of each stroke, all within reason."""
    try:
        given: list[Any] = parse_json(value or "{}").get("strokes", [])
        strokes = [(float(each["width"]), [(float(x), float(y)) for x, y in each["points"]]) for each in given]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise ValueError("the painting cannot be read; paint it again.") from None
    numbers = [number for width, points in strokes for number in (width, *(x for point in points for x in point))]
    if len(strokes) > STROKES or len(numbers) > 2 * POINTS:
        raise ValueError("the painting has too many strokes; paint with a wider brush.")
    if not all(math.isfinite(number) and -1 <= number <= 2 for number in numbers):
        raise ValueError("the painting cannot be read; paint it again.")
    return strokes
