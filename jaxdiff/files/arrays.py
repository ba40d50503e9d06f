"""Masks and kernels from pictures or ``.npy`` arrays."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps

from jaxdiff.files.paths import one_sentence
from jaxdiff.files.pictures import MAX_PIXELS, has_transparency, named_rgb, open_picture, quiet

__all__ = ["load_kernel", "load_mask"]


def load_mask(
    path: str | Path,
    size: tuple[int, int],
    *,
    of: tuple[int, int] | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """A mask [H, W, 1] of 0 and 1 from a picture (bright = measured) or a ``.npy`` array.

    Args:
        path: the file.
        size: (H, W) that is needed.
        of: (H, W) of a picture that is centre-cropped and resized to ``size``; a mask of this size is treated alike. A
            pixel then counts as measured if all that it covers is.
        box: (left, top, right, bottom) of the part of that picture that is resized, in place of its centre.

    Raises:
        ValueError: if it cannot be read or has another size.
    """
    path = Path(path)
    sizes = [tuple(size)] if of is None else [tuple(size), tuple(of)]
    if path.suffix == ".npy" and os.path.isfile(path):
        values = _read_array(path, "mask", sizes) > 0.5
    else:
        picture = open_picture(
            path, sizes[0] if of is None else None, "a mask needs the image's size: make them equal"
        )[0]
        if has_transparency(picture) and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
            raise ValueError(f"the mask {path} has transparent pixels; save it in black and white.")
        values = np.asarray(named_rgb(path, picture)[0].convert("L")) > 127
        _check_size(path, "mask", values.shape, sizes)
    if values.shape != sizes[0]:  # that of the picture before it was resized
        whole = PILImage.fromarray(values.astype(np.float32))
        shape, averaged = (size[1], size[0]), PILImage.Resampling.BOX
        part = ImageOps.fit(whole, shape, averaged) if box is None else whole.resize(shape, averaged, box=box)
        values = np.asarray(part) > 0.999
    return values[..., None].astype(np.float32)


def _check_size(path: Path, what: str, shape: tuple[int, ...], sizes: Sequence[tuple[int, ...]]) -> None:
    if shape not in sizes:
        height, width = sizes[-1]
        raise ValueError(f"the {what} {path} is {shape[1]}×{shape[0]}, the image {width}×{height}; make them equal.")


def load_kernel(path: str | Path) -> np.ndarray:
    """A blur kernel [h, w] of sum 1 from a picture (bright = large) or a ``.npy`` array.

    Raises:
        ValueError: if it cannot be read, or its sum is not positive.
    """
    path = Path(path)
    if path.suffix == ".npy" and os.path.isfile(path):
        kernel = _read_array(path, "kernel").astype(np.float64)
    else:
        picture = open_picture(path, None, "a kernel is a small picture")[0]
        kernel = np.asarray(named_rgb(path, picture)[0].convert("L"), np.float64)
    if not kernel.sum() > 0:
        raise ValueError(f"the kernel in {path} must have a positive sum.")
    return (kernel / kernel.sum()).astype(np.float32)


def _read_array(path: Path, what: str, sizes: Sequence[tuple[int, ...]] | None = None) -> np.ndarray:
    """The numbers [H, W] of a ``.npy`` file, read when its header is seen to be right."""
    try:
        with quiet():
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header may say anything, up to more memory than there is
        raise ValueError(
            f"{path} cannot be read as an array ({one_sentence(error)}); save it with numpy.save."
        ) from None
    if not isinstance(stored, np.ndarray):
        raise ValueError(f"{path} holds several arrays; save the {what} alone with numpy.save.")
    if stored.dtype.kind not in "biuf":
        raise ValueError(f"the {what} in {path} must be an array of numbers; it holds {one_sentence(stored.dtype)}.")
    if stored.ndim == 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 2 or stored.size > MAX_PIXELS:
        raise ValueError(f"the {what} in {path} must be a finite array [H, W]; it has shape {stored.shape}.")
    if sizes is not None:
        _check_size(path, what, stored.shape, sizes)
    values = np.array(stored)
    if not np.isfinite(values).all():
        raise ValueError(f"the {what} in {path} must be a finite array [H, W]; it holds NaN or infinite values.")
    return values
