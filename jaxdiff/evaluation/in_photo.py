"""Pictures that show a restored square within the photo that it was cut from."""

from collections.abc import Mapping

import numpy as np

from jaxdiff import photos
from jaxdiff.evaluation.restored import as_rgb
from jaxdiff.pages import Picture, Pictures, Section
from jaxdiff.photos import Framing

__all__ = ["FRAMED", "MEASURED", "RESTORED", "in_photo", "photo_file_names", "section_of"]

RESTORED, FRAMED, MEASURED = "photo_restored.png", "framing.png", "photo_measured.png"
"""Names of the files."""


def photo_file_names(*, measured: bool) -> list[str]:
    """The names of the files for a photo; ``measured`` says whether it was measured here."""
    return [RESTORED, FRAMED, *[MEASURED] * measured]


def in_photo(
    photo: np.ndarray,
    framing: Framing,
    restored: np.ndarray,
    *,
    view: np.ndarray | None = None,
    hole: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The photo with the restoration in it, with its frame drawn, and with the measurement in it.

    Args:
        photo: [H, W, C] in [-1, 1].
        framing: the square that was restored.
        restored: [h, h, C] in [-1, 1].
        view: [h', w', C'], what was measured, if the photo is the truth.
        hole: [H, W, 1], 1 where the restoration replaces the photo, if all else is known. Its edges are sharp.

    Returns:
        File name → [H, W, C].
    """
    feather = photos.FEATHER if hole is None else 0.0
    pictures = {
        RESTORED: photos.paste_back(photo, restored, framing, feather, where=hole),
        FRAMED: photos.preview(photo, framing),
    }
    if view is not None:
        large = as_rgb(view, (framing.side, framing.side))  # its own pixels are to be seen
        pictures[MEASURED] = photos.paste_back(photo, large, framing)
    return pictures


def section_of(photo: np.ndarray, pictures: Mapping[str, np.ndarray]) -> Section:
    """The photo before and after, under a slider, and its frame.

    Args:
        photo: [H, W, C] in [-1, 1].
        pictures: those of ``in_photo``.
    """
    before = (
        Picture("measured, in the photo", pictures[MEASURED]) if MEASURED in pictures else Picture("the photo", photo)
    )
    after, frame = Picture("restored, in the photo", pictures[RESTORED]), Picture("the frame", pictures[FRAMED])
    shown = [before, after, frame, *[Picture("the photo", photo)] * (MEASURED in pictures)]
    text = "Only what is inside the frame was restored. The files beside this page have the photo's full resolution."
    return Section("The whole photo", [Pictures(shown, compare=(0, 1))], text)
