"""Read and write pictures. A picture is written whole or not at all."""

import base64
import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image as PILImage
from PIL import ImageFile, ImageOps, UnidentifiedImageError

from jaxdiff.files.paths import atomic, one_sentence, open_regular

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "LoadedImage",
    "check_name",
    "data_uri",
    "decode",
    "find_images",
    "from_uint8",
    "has_transparency",
    "load_image",
    "named_rgb",
    "open_picture",
    "quiet",
    "save_image",
    "to_rgb",
    "to_uint8",
    "with_channels",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
"""What the suffixes stand for. Pillow looks at the content alone, and would start Ghostscript for PostScript."""

MAX_PIXELS = 2**26
"""Pixels of a picture, 8192×8192: a 61-megapixel camera's fit, and reading one takes about 1 GiB."""

BAND = 2**20
"""Pixels that are converted at a time, so that what lies between costs little memory."""


class LoadedImage(NamedTuple):
    """A picture as [H, W, 3] float32 in [-1, 1], what was done to it to make it so, and the size (H, W) it had."""

    pixels: np.ndarray
    notes: tuple[str, ...]
    size: tuple[int, int]


def from_uint8(pixels: np.ndarray) -> np.ndarray:
    """0…255 → [-1, 1] float32."""
    values = np.array(pixels, np.float32)
    values /= np.float32(127.5)
    values -= np.float32(1)
    return values


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """[-1, 1] → 0…255, clipped and rounded."""
    return np.round((np.clip(np.asarray(pixels, np.float32), -1, 1) + 1) * 127.5).astype(np.uint8)


def load_image(
    path: str | Path, *, size: tuple[int, int] | None = None, resize: bool = False, most: int = MAX_PIXELS
) -> LoadedImage:
    """Read a picture as [H, W, 3] in [-1, 1].

    Grey, palette, CMYK, 16-bit and transparent (put on white) pictures are converted, and the notes say so. The EXIF
    orientation is applied.

    Args:
        path: a PNG, JPEG, WebP, BMP, TIFF, PPM or GIF file.
        size: (H, W) that is needed.
        resize: centre-crop to that shape and resize (antialiased) where the picture differs.
        most: pixels of a picture that are read.

    Raises:
        ValueError: if it cannot be read, or its size differs and ``resize`` is off.
    """
    needed = None if size is None or resize else tuple(size)
    advice = "add --resize to centre-crop and resize it, or scale it yourself"
    picture, notes = open_picture(path, needed, advice, most)
    picture, more = named_rgb(path, picture)
    notes += more
    original = (picture.height, picture.width)
    if size is not None and original != tuple(size):
        notes.append(f"centre-cropped and resized from {picture.width}×{picture.height} to {size[1]}×{size[0]}")
        picture = ImageOps.fit(picture, (size[1], size[0]), PILImage.Resampling.LANCZOS)
    return LoadedImage(from_uint8(np.asarray(picture)), tuple(notes), original)


def open_picture(
    path: str | Path, size: tuple[int, ...] | None, advice: str, most: int = MAX_PIXELS
) -> tuple[PILImage.Image, list[str]]:
    """The upright picture; one that is not of ``size`` = (H, W) is refused before it is decoded."""
    if not os.path.exists(path):
        raise ValueError(f"there is no file {path}; check the name.")
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder; name one picture in it.")
    try:
        with open_regular(path) as file, quiet():
            picture, several = decode(file, size, most)
    except _SizeError as error:
        raise ValueError(f"{path} {error}; {advice}.") from None
    except _TooLargeError as error:
        raise ValueError(f"{path} {error}; make it smaller and try again.") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them stumble over
        unknown = isinstance(error, UnidentifiedImageError)
        why = f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, or not whole" if unknown else one_sentence(error)
        raise ValueError(f"{path} cannot be read as a picture ({why}); save it as PNG and try again.") from None
    return picture, ["took the first of several frames"] if several else []


class _SizeError(ValueError):
    """The picture has another size than is needed."""


class _TooLargeError(ValueError):
    """The picture has more pixels than are read."""


def decode(file: IO[bytes], size: tuple[int, ...] | None = None, most: int = MAX_PIXELS) -> tuple[PILImage.Image, bool]:
    """The first frame of a picture, turned upright, and whether there are more; nothing but Pillow's decoders runs.

    Args:
        file: the picture.
        size: (H, W) that is needed; another one is refused before anything is decoded.
        most: pixels of a picture that are decoded.

    Raises:
        Exception: whatever a damaged file makes Pillow stumble over.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        picture = PILImage.open(file, formats=FORMATS)
    except PILImage.DecompressionBombError:
        raise _TooLargeError(f"has more than {most} pixels, the most that are read") from None
    if picture.width * picture.height > most:
        raise _TooLargeError(f"has {picture.width * picture.height} pixels; at most {most} are read")
    if size is not None and sorted(picture.size) != sorted(size):  # the sides may still be exchanged
        raise _wrong_size(picture, size)
    several = getattr(picture, "is_animated", False)
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    if size is not None and (upright.height, upright.width) != tuple(size):
        raise _wrong_size(upright, size)
    return upright, several


def _wrong_size(picture: PILImage.Image, size: tuple[int, ...]) -> _SizeError:
    return _SizeError(f"is {picture.width}×{picture.height}, but {size[1]}×{size[0]} is needed")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings of the libraries that read files on standard error: a file is either read or refused."""
    pillow = logging.getLogger("PIL")
    level = pillow.level
    pillow.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pillow.setLevel(level)


def named_rgb(path: str | Path, picture: PILImage.Image) -> tuple[PILImage.Image, list[str]]:
    """``to_rgb``, whose refusal names the file."""
    try:
        return to_rgb(picture)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def to_rgb(picture: PILImage.Image) -> tuple[PILImage.Image, list[str]]:
    """A picture as 8-bit RGB, and what was done to make it so.

    Grey of 16 bits is scaled by 1/65535, which Pillow's own conversion would clip to white, wider and float grey by its
    largest value; transparency is put on white.

    Raises:
        ValueError: it holds NaN or infinite values.
    """
    mode, transparent = picture.mode, has_transparency(picture)
    if mode == "RGB" and not transparent:
        return picture, []
    if mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(picture)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():  # NaN is the largest and the smallest of any numbers with it
            raise ValueError("the picture holds NaN or infinite values; repair it first.")
        top = max(65535.0 if mode.startswith("I") else 1.0, high)
        depth = "16-bit" if top == 65535 else f"0 … {top:g}"
        scaled = np.empty(values.shape, np.uint8)
        for rows in _bands(picture):
            scaled[rows] = np.clip(values[rows].astype(np.float64) / top * 255, 0, 255).round()
        return PILImage.fromarray(scaled).convert("RGB"), [f"converted from {mode} ({depth}) grey to 8-bit RGB"]
    if transparent:
        on_white = PILImage.new("RGB", picture.size)
        for rows in _bands(picture):
            rgba = picture.crop((0, rows.start, picture.width, rows.stop)).convert("RGBA")
            paper = PILImage.new("RGBA", rgba.size, (255, 255, 255, 255))
            on_white.paste(PILImage.alpha_composite(paper, rgba).convert("RGB"), (0, rows.start))
        return on_white, [f"{mode} put on white, transparency dropped"]
    return picture.convert("RGB"), [f"converted from {mode} to RGB"]


def _bands(picture: PILImage.Image) -> Iterator[slice]:
    """Rows of a picture, about ``BAND`` pixels at a time."""
    step = max(1, BAND // picture.width)
    return (slice(top, min(top + step, picture.height)) for top in range(0, picture.height, step))


def has_transparency(picture: PILImage.Image) -> bool:
    """Whether a picture can have transparent pixels."""
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def find_images(folder: str | Path) -> list[Path]:
    """The pictures in a folder and below it, sorted by name.

    Raises:
        ValueError: if there is no such folder or no picture in it, or a picture's name is not UTF-8.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise ValueError(f"{folder} is not a folder of pictures.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise ValueError(f"there is no picture in {folder}; expected files such as *.png or *.jpg.")
    for path in found:
        check_name(path)
    return found


def check_name(path: str | Path) -> None:
    """See that a file's name can be written into tables and pages.

    Raises:
        ValueError: if it is not UTF-8.
    """
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise ValueError(f"the name of {name} is not UTF-8; give the file another name.") from None


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """A picture [H, W, 3] with as many channels as a prior's images have: 3, or their mean as 1.

    Raises:
        ValueError: for any other number.
    """
    if channels not in (1, 3):
        raise ValueError(
            f"this prior has images of {channels} channels, but a picture has 3; use the Python interface."
        )
    return pixels if channels == 3 else pixels.mean(axis=2, keepdims=True)


def data_uri(pixels: np.ndarray) -> str:
    """[H, W, 1 or 3] in [-1, 1] as a PNG inside a ``data:`` address, for pages that stand alone."""
    values = to_uint8(pixels)
    with io.BytesIO() as held:
        PILImage.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(held, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def save_image(path: str | Path, pixels: np.ndarray) -> None:
    """Write [H, W, 1 or 3] in [-1, 1] as an 8-bit picture, whole or not at all."""
    values = to_uint8(pixels)
    if values.shape[-1] == 1:
        values = values[..., 0]
    with atomic(path) as temporary:
        PILImage.fromarray(values).save(temporary)
