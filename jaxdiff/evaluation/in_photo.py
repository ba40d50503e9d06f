"""Files that show a restored square within the photo that it was cut from."""

import numpy as np

from jaxdiff import photos
from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.evaluation.restored import as_rgb
from jaxdiff.files import save_image
from jaxdiff.photos import Framing

__all__ = ["photo_file_names", "write_in_photo"]


def photo_file_names(*, measured: bool) -> list[str]:
    """The names of the files that ``write_in_photo`` writes."""
    return ["photo_restored.png", "framing.png", *["photo_measured.png"] * measured]


def write_in_photo(
    folder: ResultsFolder,
    photo: np.ndarray,
    framing: Framing,
    restored: np.ndarray,
    *,
    view: np.ndarray | None = None,
    hole: np.ndarray | None = None,
) -> list[str]:
    """Write the photo with its frame drawn, with the restoration in it, and with the measurement in it.

    Args:
        folder: where; it must be there.
        photo: [H, W, C] in [-1, 1].
        framing: the square that was restored.
        restored: [h, h, C] in [-1, 1].
        view: [h', w', C'], what was measured, if the photo is the truth.
        hole: [H, W, 1], 1 where the restoration replaces the photo, if all else is known. Its edges are sharp.

    Returns:
        The names of the files.
    """
    feather = photos.FEATHER if hole is None else 0.0
    pictures = {
        "photo_restored.png": photos.paste_back(photo, restored, framing, feather, where=hole),
        "framing.png": photos.preview(photo, framing),
    }
    if view is not None:
        large = as_rgb(view, (framing.side, framing.side))  # its own pixels are to be seen
        pictures["photo_measured.png"] = photos.paste_back(photo, large, framing)
    for name, pixels in pictures.items():
        save_image(folder.path / name, pixels)
        folder.wrote(name)
    return [*pictures]
