"""Truths for experiments: a folder of pictures, or some that need no download."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image as PILImage

from jaxdiff import samplers
from jaxdiff.denoisers import Denoiser
from jaxdiff.engine import batch_keys, restore_many
from jaxdiff.files import find_images, from_uint8, load_image, with_channels
from jaxdiff.typing import Shape

__all__ = ["Picture", "from_folder", "without_download"]


class Picture(NamedTuple):
    """A truth: its name, pixels [H, W, C] in [-1, 1], and whether it is in the prior's distribution."""

    name: str
    pixels: np.ndarray
    in_distribution: bool


FACE_BOX = (137, 15, 313, 191)
"""Left, top, right, bottom of scikit-image's astronaut (Eileen Collins, NASA, public domain), framed as FFHQ frames faces."""
CAT_BOX = (110, 10, 400, 300)
"""The same of scikit-image's cat Chelsea (CC0)."""


def from_folder(folder: str | Path, shape: Shape, *, in_distribution: bool, most: int | None = None) -> list[Picture]:
    """The pictures of a folder by name, its sub-folders' too, cropped to the centre and resized to (H, W, C)."""
    height, width, channels = shape
    paths = find_images(folder)[:most]
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    if len(set(names)) < len(names):  # a.png beside a.jpg
        names = [path.relative_to(folder).as_posix() for path in paths]
    return [
        Picture(
            name, with_channels(load_image(path, size=(height, width), resize=True).pixels, channels), in_distribution
        )
        for name, path in zip(names, paths, strict=True)
    ]


def without_download(
    denoiser: Denoiser, *, draws: int, steps: int, seed: int, bar: Any, faces: bool = True
) -> list[Picture]:
    """Draws from the prior and a real face (in distribution), and a cat (out of it), the last two from scikit-image.

    Raises:
        ValueError: if scikit-image is missing.
    """
    try:
        from skimage import data
    except ImportError:
        raise ValueError(
            "the pictures that need no download come with scikit-image; install it with pip install 'jaxdiff[demo]', "
            "or name folders with --images and --ood."
        ) from None
    height, width, _ = denoiser.image_shape

    def crop(pixels: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        picture = PILImage.fromarray(pixels).resize((width, height), PILImage.Resampling.LANCZOS, box=box)
        return from_uint8(np.asarray(picture))

    found = [Picture("cat", crop(data.cat(), CAT_BOX), False)]
    if faces:
        keys = batch_keys(jax.random.fold_in(jax.random.key(seed), 99), draws)
        report = bar("drawing truths", draws * steps, steps)
        drawn = restore_many(keys, denoiser, None, samplers.ddpm(), steps=steps, report=report).x
        found += [Picture(f"draw {i}", np.clip(x, -1, 1), True) for i, x in enumerate(drawn)]
        found.append(Picture("astronaut", crop(data.astronaut(), FACE_BOX), True))
    return found
