"""Find a face in a photo, cut out a square around it, and put a restoration back. Images are [H, W, C] in [-1, 1]."""

from typing import NamedTuple

import numpy as np
from PIL import Image as PILImage

from jaxdiff.files import to_uint8

__all__ = [
    "Framing",
    "box",
    "centre",
    "choose",
    "crop",
    "filled",
    "find_face",
    "inside",
    "outside",
    "paste_back",
    "preview",
    "smaller",
]

WORKING = 256
"""Longest side, in pixels, of the copy in which a face is looked for. The detector's window has 24, so a face has a tenth."""
WINDOW = 24
FACE, LOW = 0.67, 0.05
"""Side of the detector's box, and how far its centre lies below the frame's, as fractions of FFHQ's frame.

FFHQ's frame has its centre a tenth of the way from the eyes to the mouth. Its side is the larger of four eye distances and
3.6 distances from eyes to mouth. The two numbers are medians over FFHQ's own frames, on which the detector was run.

Reference: Karras et al. 2019, "A Style-Based Generator Architecture for Generative Adversarial Networks".
"""
SAME = 0.3
"""Two boxes are of one face if centres and sides differ by less than this fraction of the side."""
FEATHER = 0.1
"""Width of the soft edge of what is put back, as a fraction of the frame's side."""

NO_DETECTOR = (
    "no face was looked for, as scikit-image is not installed (pip install 'jaxdiff[photo]'); the frame is the centre"
)
NO_FACE = "no face was found; the frame is the centre"


class Framing(NamedTuple):
    """A square of a photo: its top row, its left column and its side, in pixels."""

    top: int
    left: int
    side: int


def box(framing: Framing) -> tuple[int, int, int, int]:
    """The square as Pillow describes it: left, top, right, bottom."""
    top, left, side = framing
    return left, top, left + side, top + side


def centre(image: np.ndarray) -> Framing:
    """The largest square in the middle."""
    height, width = image.shape[:2]
    side = min(height, width)
    return Framing((height - side) // 2, (width - side) // 2, side)


def find_face(image: np.ndarray) -> Framing | None:
    """The largest face, framed as FFHQ frames faces; None if none is found.

    The detector is scikit-image's cascade of local binary patterns for upright frontal faces. A face counts if it is found
    in the mirrored photo too, which most false ones are not. A frame that would stick out is moved into the photo.

    Args:
        image: [H, W, C] in [-1, 1].

    Raises:
        ValueError: if scikit-image is not installed.

    Reference: Liao et al. 2007, "Learning Multi-scale Block Local Binary Patterns for Face Recognition".
    """
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError:
        raise ValueError(f"{NO_DETECTOR}.") from None
    height, width = image.shape[:2]
    scale = WORKING / max(height, width)
    small = to_uint8(_resized(image, max(1, round(height * scale)), max(1, round(width * scale))))
    small = np.broadcast_to(small, (*small.shape[:2], 3))
    cascade = Cascade(lbp_frontal_face_cascade_filename())

    def boxes(pixels: np.ndarray) -> list[np.ndarray]:
        """Centre's row, centre's column and side of each."""
        found = cascade.detect_multi_scale(
            img=np.ascontiguousarray(pixels),
            scale_factor=1.05,
            step_ratio=1,
            min_size=(WINDOW, WINDOW),
            max_size=(WORKING, WORKING),
        )
        return [np.array([b["r"] + b["width"] / 2, b["c"] + b["width"] / 2, b["width"]]) for b in found]

    mirrored = [np.array([row, small.shape[1] - column, side]) for row, column, side in boxes(small[:, ::-1])]
    faces = [(a + b) / 2 for a in boxes(small) for b in mirrored if np.abs(a - b).max() < SAME * a[2]]
    if not faces:
        return None
    row, column, face = max(faces, key=lambda found: found[2]) / scale
    side = min(round(face / FACE), height, width)
    top, left = round(row - LOW * side - side / 2), round(column - side / 2)
    return Framing(min(max(top, 0), height - side), min(max(left, 0), width - side), side)


def choose(image: np.ndarray) -> tuple[Framing, str | None]:
    """The frame of the largest face. If there is none, the centre, and a sentence that says why."""
    try:
        found = find_face(image)
    except ValueError:
        return centre(image), NO_DETECTOR
    return (centre(image), NO_FACE) if found is None else (found, None)


def filled(image: np.ndarray, known: np.ndarray, cells: int = 64) -> np.ndarray:
    """The image with a coarse guess of its missing pixels, so that a detector sees no scratches.

    Args:
        image: [H, W, C] in [-1, 1].
        known: [H, W, 1], 1 for a known pixel, 0 for a missing one.
        cells: the image is divided into cells × cells. A missing pixel gets the mean of the known pixels in its cell, or 0.
    """
    weight = _resized(known, cells)
    guess = _resized(_resized(image * known, cells) / np.maximum(weight, 1e-3), *image.shape[:2])
    return np.where(known > 0, image, guess)


def inside(framing: Framing, image: np.ndarray) -> Framing:
    """``framing``, if it is inside the image.

    Raises:
        ValueError: if it is not.
    """
    top, left, side = framing
    height, width = image.shape[:2]
    if side < 1 or top < 0 or left < 0 or top + side > height or left + side > width:
        raise ValueError(f"the frame {top},{left},{side} is not within the photo, which is {width}×{height}.")
    return framing


def outside(weight: np.ndarray, framing: Framing) -> float:
    """The fraction of the weights [H, W, 1] that is outside the frame. It is 0 if all weights are 0."""
    top, left, side = inside(framing, weight)
    total = float(weight.sum())
    return 1 - float(weight[top : top + side, left : left + side].sum()) / total if total > 0 else 0.0


def crop(image: np.ndarray, framing: Framing, side: int) -> np.ndarray:
    """The part of the image in the frame, resized to [side, side, C] in [-1, 1], antialiased (Lanczos).

    Raises:
        ValueError: if the frame is not inside the image.
    """
    top, left, across = inside(framing, image)
    return _resized(image[top : top + across, left : left + across], side)


def paste_back(
    photo: np.ndarray,
    restored: np.ndarray,
    framing: Framing,
    feather: float = FEATHER,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """The photo with ``restored`` in the frame, resized to it (Lanczos), with edges that blend into the photo.

    An edge of the frame that is also an edge of the photo stays sharp.

    Args:
        photo: [H, W, C] in [-1, 1].
        restored: [h, h, C]. Values outside [-1, 1] are clipped.
        framing: the frame.
        feather: width of the soft edge, as a fraction of the frame's side, from 0 to 0.5.
        where: [H, W, 1] from 0 to 1, how much of the restoration each pixel takes. By default, it is 1 everywhere.

    Returns:
        [H, W, C] in [-1, 1]. Pixels outside the frame are those of the photo.

    Raises:
        ValueError: if the frame is not inside the photo, or ``feather`` is not possible.
    """
    if not 0 <= feather <= 0.5:
        raise ValueError(f"feather={feather} is not possible: a fraction of the frame's side, 0 … 0.5.")
    top, left, side = inside(framing, photo)
    height, width = photo.shape[:2]
    down = _ramp(side, feather, soft=(top > 0, top + side < height))
    across = _ramp(side, feather, soft=(left > 0, left + side < width))
    weight = (down[:, None] * across[None, :])[..., None]
    rows, columns = slice(top, top + side), slice(left, left + side)
    if where is not None:
        weight = weight * where[rows, columns]
    out = np.array(photo, np.float32)
    under = out[rows, columns]
    out[rows, columns] = np.clip(under + weight * (_resized(restored, side) - under), -1, 1)
    return out


def preview(image: np.ndarray, framing: Framing) -> np.ndarray:
    """The photo with the frame: a white line around it, and darker pixels outside."""
    top, left, side = inside(framing, image)
    line = max(1, max(image.shape[:2]) // 200)
    out = np.asarray(image, np.float32) * 0.5 - 0.5  # halfway to black
    out[max(0, top - line) : top + side + line, max(0, left - line) : left + side + line] = 1
    out[top : top + side, left : left + side] = image[top : top + side, left : left + side]
    return out


def smaller(image: np.ndarray, most: int) -> np.ndarray:
    """The image with at most ``most`` pixels on its longer side, antialiased (Lanczos)."""
    height, width = image.shape[:2]
    scale = min(1.0, most / max(height, width))
    return image if scale == 1 else _resized(image, max(1, round(height * scale)), max(1, round(width * scale)))


def _ramp(side: int, feather: float, soft: tuple[bool, bool]) -> np.ndarray:
    """[side]: 1 within, falling smoothly to 0 just outside an end that is soft."""
    width = feather * side
    place = np.arange(side, dtype=np.float32) + 0.5
    ramp = np.ones(side, np.float32)
    for distance, is_soft in zip((place, place[::-1]), soft, strict=True):
        if is_soft and width > 0:
            part = np.clip(distance / width, 0, 1)
            ramp = ramp * part * part * (3 - 2 * part)
    return ramp


def _resized(image: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """[height, width, C] float32, clipped to [-1, 1]; square by default. Lanczos, which Pillow widens where it shrinks."""
    size = (height if width is None else width, height)
    planes = [
        PILImage.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(np.asarray(image, np.float32), -1, 0)
    ]
    scaled = [np.asarray(plane.resize(size, PILImage.Resampling.LANCZOS)) for plane in planes]
    return np.clip(np.stack(scaled, axis=-1), -1, 1)
