"""A contact sheet: what every operator makes of one image."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.files import to_uint8
from jaxdiff.tasks import catalogue
from jaxdiff.typing import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["SHEET", "contact_sheet", "measurement_picture"]

SHEET: tuple[str, ...] = (
    "ddrm/denoise",
    "dps/inpaint_box",
    "daps/inpaint_random",
    "dps/inpaint_random_92",
    "jaxdiff/outpaint",
    "jaxdiff/outpaint_border",
    "jaxdiff/strokes",
    "jaxdiff/text",
    "dps/gaussian_blur",
    "dps/motion_blur",
    "diffpir/gaussian_blur",
    "ddrm/deblur_gauss",
    "jaxdiff/anisotropic_blur",
    "jaxdiff/defocus_blur",
    "jaxdiff/varying_blur",
    "dps/sr4",
    "ddrm/sr4",
    "jaxdiff/nearest4",
    "jaxdiff/blur_downsample4",
    "ddrm/color",
    "jaxdiff/demosaic",
    "jaxdiff/mri4",
    "jaxdiff/mri_radial",
    "jaxdiff/mri_spiral",
    "jaxdiff/mri8_multicoil",
    "jaxdiff/ct_sparse",
    "jaxdiff/ct_limited",
    "jaxdiff/compressed_sensing",
    "jaxdiff/single_pixel_camera",
    "dps/phase_retrieval",
    "jaxdiff/coded_phase_retrieval",
    "daps/hdr",
    "jaxdiff/quantize",
    "jaxdiff/jpeg10",
    "jaxdiff/gamma",
    "jaxdiff/tone_curve",
    "jaxdiff/camera_blur",
    "jaxdiff/inpaint_small_box",
    "dps/gaussian_blur_poisson",
)
"""The tasks on the sheet, alike ones side by side."""


def measurement_picture(name: str, image: Image, *, noise: bool = True) -> np.ndarray:
    """What a task's measurement of an image looks like, [h, w, 3], bytes.

    Args:
        name: of the task.
        image: [H, W, C] in [-1, 1].
        noise: whether the task's noise is added.
    """
    image = jnp.asarray(image)
    setup = catalogue.get(name, image.shape)
    model = setup.noise if noise else None

    @jax.jit
    def look(operator, x):  # type: ignore[no-untyped-def]
        y = operator(x)
        return operator.view(y if model is None else model.sample(jax.random.key(1), y))

    levels = to_uint8(look(setup.operator, image))
    return np.broadcast_to(levels, (*levels.shape[:2], 3))


def contact_sheet(
    image: Image, *, names: Iterable[str] = SHEET, columns: int = 8, tile: int = 144, noise: bool = True
) -> "Picture":
    """The image, and its measurement by each task, with their names.

    Args:
        image: [H, W, C] in [-1, 1].
        names: of the tasks.
        columns: tiles a row.
        tile: side of a tile, pixels.
        noise: whether each task's noise is added.

    Returns:
        A Pillow image; save it with ``.save(path)``.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    image = jnp.asarray(image)
    truth = to_uint8(np.asarray(image))
    pictures = [("the image", np.broadcast_to(truth, (*truth.shape[:2], 3)))]
    pictures += [(name, measurement_picture(name, image, noise=noise)) for name in names]

    margin, caption = 6, 28
    rows = -(-len(pictures) // columns)
    size = (columns * (tile + margin) + margin, rows * (tile + caption + margin) + margin)
    sheet = Pillow.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, (name, levels) in enumerate(pictures):
        left = margin + (place % columns) * (tile + margin)
        top = margin + (place // columns) * (tile + caption + margin)
        picture = Pillow.fromarray(np.ascontiguousarray(levels))
        scale = tile / max(picture.size)
        fit = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        fitted = picture.resize(fit, Pillow.Resampling.BOX if scale < 1 else Pillow.Resampling.NEAREST)
        sheet.paste(fitted, (left + (tile - fitted.width) // 2, top + (tile - fitted.height) // 2))
        origin, _, task = name.rpartition("/")
        draw.text((left + tile / 2, top + tile + 1), task, fill="black", font=font, anchor="ma")
        draw.text((left + tile / 2, top + tile + 13), origin, fill="grey", font=font, anchor="ma")
    return sheet
