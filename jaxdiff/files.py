"""Pictures and results on disk: what can be read is converted and said, what is written is written whole."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PILImage
from PIL import ImageFile, ImageOps, UnidentifiedImageError

__all__ = [
    "LoadedImage",
    "atomic",
    "check_folder",
    "find_images",
    "from_uint8",
    "load_image",
    "load_kernel",
    "load_mask",
    "out_folder",
    "parse_json",
    "save_image",
    "to_rgb",
    "to_uint8",
    "write_text",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif")


class LoadedImage(NamedTuple):
    """A picture as [H, W, 3] float32 in [-1, 1], what was done to it to make it so, and the size (H, W) it had."""

    pixels: np.ndarray
    notes: tuple[str, ...]
    size: tuple[int, int]


def from_uint8(pixels: np.ndarray) -> np.ndarray:
    """0…255 → [-1, 1] float32."""
    return np.asarray(pixels, np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """[-1, 1] → 0…255, clipped and rounded."""
    return np.round((np.clip(np.asarray(pixels, np.float32), -1, 1) + 1) * 127.5).astype(np.uint8)


def load_image(path: str | Path, *, size: tuple[int, int] | None = None, resize: bool = False) -> LoadedImage:
    """Read a picture as [H, W, 3] in [-1, 1].

    Grey, palette, CMYK, 16-bit and transparent (put on white) pictures are converted, and the notes say so. The EXIF
    orientation is applied.

    Args:
        path: any format that Pillow reads.
        size: (H, W) that is needed.
        resize: centre-crop to that shape and resize (antialiased) where the picture differs.

    Raises:
        ValueError: if it cannot be read, or its size differs and ``resize`` is off.
    """
    picture, notes = _open(path)
    try:
        picture, more = to_rgb(picture)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    notes += more
    original = (picture.height, picture.width)
    if size is not None and original != tuple(size):
        if not resize:
            raise ValueError(
                f"{path} is {picture.height}×{picture.width}, but {size[0]}×{size[1]} is needed; add --resize to "
                "centre-crop and resize it, or scale it yourself."
            )
        notes.append(f"centre-cropped and resized from {picture.height}×{picture.width} to {size[0]}×{size[1]}")
        picture = ImageOps.fit(picture, (size[1], size[0]), PILImage.Resampling.LANCZOS)
    return LoadedImage(from_uint8(np.asarray(picture)), tuple(notes), original)


def _open(path: str | Path) -> tuple[PILImage.Image, list[str]]:
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}; check the name.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name one picture in it.")
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with open(path, "rb") as file:
            picture = PILImage.open(file)
            frames = getattr(picture, "n_frames", 1)
            picture.load()
            upright = ImageOps.exif_transpose(picture)
    except PILImage.DecompressionBombError as error:
        raise ValueError(f"{path} is too large ({error}); scale it down and try again.") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them stumble over
        why = "its format is not known" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{path} cannot be read as a picture ({why}); save it as PNG and try again.") from None
    return upright, ["took the first of several frames"] if frames > 1 else []


def to_rgb(picture: PILImage.Image) -> tuple[PILImage.Image, list[str]]:
    """A picture as 8-bit RGB, and what was done to make it so.

    Grey of 16 bits is scaled by 1/65535, which Pillow's own conversion would clip to white, wider and float grey by its
    largest value; transparency is put on white.

    Raises:
        ValueError: it holds NaN or infinite values.
    """
    mode, transparent = picture.mode, _has_transparency(picture)
    if mode == "RGB" and not transparent:
        return picture, []
    if mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(picture, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("the picture holds NaN or infinite values; repair it first.")
        top = max(65535.0 if mode.startswith("I") else 1.0, float(values.max()))
        depth = "16-bit" if top == 65535 else f"0 … {top:g}"
        scaled = np.clip(values / top * 255, 0, 255).round().astype(np.uint8)
        return PILImage.fromarray(scaled).convert("RGB"), [f"converted from {mode} ({depth}) grey to 8-bit RGB"]
    if transparent:
        rgba = picture.convert("RGBA")
        paper = PILImage.new("RGBA", rgba.size, (255, 255, 255, 255))
        return PILImage.alpha_composite(paper, rgba).convert("RGB"), [f"{mode} put on white, transparency dropped"]
    return picture.convert("RGB"), [f"converted from {mode} to RGB"]


def _has_transparency(picture: PILImage.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def load_mask(path: str | Path, size: tuple[int, int], *, of: tuple[int, int] | None = None) -> np.ndarray:
    """A mask [H, W, 1] of 0 and 1 from a picture (bright = measured) or a ``.npy`` array.

    Args:
        path: the file.
        size: (H, W) that is needed.
        of: (H, W) of a picture that is centre-cropped and resized to ``size``; a mask of this size is treated alike. A
            pixel then counts as measured if all that it covers is.

    Raises:
        ValueError: if it cannot be read or has another size.
    """
    path = Path(path)
    if path.suffix == ".npy" and path.is_file():
        values = _load_array(path, "mask") > 0.5
    else:
        picture = _open(path)[0]
        if _has_transparency(picture) and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
            raise ValueError(f"the mask {path} has transparent pixels; save it in black and white.")
        values = np.asarray(to_rgb(picture)[0].convert("L")) > 127
    if values.shape != tuple(size) and values.shape == of:
        whole = PILImage.fromarray(values.astype(np.float32))
        values = np.asarray(ImageOps.fit(whole, (size[1], size[0]), PILImage.Resampling.BOX)) > 0.999
    if values.shape != tuple(size):
        height, width = size if of is None else of
        raise ValueError(
            f"the mask {path} is {values.shape[0]}×{values.shape[1]}, the image {height}×{width}; make them equal."
        )
    return values[..., None].astype(np.float32)


def load_kernel(path: str | Path) -> np.ndarray:
    """A blur kernel [h, w] of sum 1 from a picture (bright = large) or a ``.npy`` array.

    Raises:
        ValueError: if it cannot be read, or its sum is not positive.
    """
    path = Path(path)
    if path.suffix == ".npy" and path.is_file():
        kernel = _load_array(path, "kernel").astype(np.float64)
    else:
        kernel = np.asarray(to_rgb(_open(path)[0])[0].convert("L"), np.float64)
    if not kernel.sum() > 0:
        raise ValueError(f"the kernel in {path} must have a positive sum.")
    return (kernel / kernel.sum()).astype(np.float32)


def _load_array(path: Path, what: str) -> np.ndarray:
    """A finite array [H, W] of a ``.npy`` file."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged header may say anything, up to more memory than there is
        raise ValueError(f"{path} cannot be read as an array ({error}); save it with numpy.save.") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays; save the {what} alone with numpy.save.")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the {what} in {path} must be an array of numbers; it holds {array.dtype}.")
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 or not np.isfinite(array.astype(np.float64)).all():
        raise ValueError(f"the {what} in {path} must be a finite array [H, W]; it has shape {array.shape}.")
    return array


def find_images(folder: str | Path) -> list[Path]:
    """The pictures in a folder and below it, sorted by name.

    Raises:
        ValueError: if there is no such folder or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of pictures.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise ValueError(f"there is no picture in {folder}; expected files such as *.png or *.jpg.")
    return found


def check_folder(path: str | Path) -> Path:
    """See that an output folder could be made, without making it.

    Raises:
        ValueError: if a file is in its way, or what is there of its path cannot be written to.
    """
    path = Path(path)
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"cannot write to {path} ({there} is a file); choose another --out.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {path} ({there} is not writable); choose another --out.")
    return path


def parse_json(text: str) -> Any:
    """``json.loads``, for text of which nothing is known.

    Raises:
        ValueError: if it is no JSON, or is nested so deeply that reading it would end the program.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def out_folder(path: str | Path) -> Path:
    """Make an output folder and see that it can be written.

    Raises:
        ValueError: if it cannot.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {path} ({error.strerror or error}); choose another --out.") from None
    return path


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well, and vanishes otherwise."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, whole or not at all; returns its path."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def save_image(path: str | Path, pixels: np.ndarray) -> None:
    """Write [H, W, 1 or 3] in [-1, 1] as an 8-bit picture, whole or not at all."""
    values = to_uint8(pixels)
    if values.shape[-1] == 1:
        values = values[..., 0]
    with atomic(path) as temporary:
        PILImage.fromarray(values).save(temporary)
