"""The gallery of operators: a tile with its picture and the code that made it."""

import io
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as PILImage

import jaxdiff as jd
from jaxdiff import assets
from jaxdiff.files import load_image, to_uint8

__all__ = ["TILES", "pages"]

SIZE = 128
TILES: dict[str, tuple[tuple[str, str], ...]] = {
    "Hidden pixels": (
        ("A box", "inpaint_box(image_shape=shape, size=56)"),
        ("Most pixels", "inpaint_random(key, image_shape=shape, fraction=0.8)"),
        ("Strokes", "inpaint_strokes(key, image_shape=shape)"),
        ("Text", "inpaint_text(image_shape=shape)"),
        ("One side", "outpaint(image_shape=shape)"),
        ("A border", 'outpaint(image_shape=shape, side="border")'),
    ),
    "Blur": (
        ("Gaussian", "gaussian_blur(image_shape=shape, std=2.5)"),
        ("Rotated Gaussian", "gaussian_blur(image_shape=shape, std=(1, 4), angle=30)"),
        ("Camera shake", "motion_blur(key, image_shape=shape, size=31)"),
        ("Defocus", "defocus_blur(image_shape=shape, radius=4.0)"),
        ("Your own kernel", "blur(image_shape=shape, kernel=jnp.ones((1, 15)) / 15)"),
        ("Camera shake, saturated", "camera_blur(key, image_shape=shape, size=31)"),
    ),
    "Lower resolution": (
        ("Bicubic", "super_resolution(image_shape=shape, factor=4)"),
        ("Block average", "block_average(image_shape=shape, factor=8)"),
        ("Every fourth pixel", "nearest_downsample(image_shape=shape, factor=4)"),
        ("Blur, then every fourth", "blur_downsample(image_shape=shape, factor=4, kernel=jnp.ones((5, 5)) / 25)"),
    ),
    "Colour": (
        ("Grey-scale", "grayscale(image_shape=shape)"),
        ("Bayer mosaic", "bayer_mosaic(image_shape=shape)"),
        ("Any mix of channels", "color_matrix(image_shape=shape, matrix=jnp.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]))"),
    ),
    "Scanners and sensors": (
        ("MRI, radial", "mri(image_shape=shape, mask=jd.operators.radial_mask(shape=shape[:2], spokes=30))"),
        ("MRI, spiral", "mri(image_shape=shape, mask=jd.operators.spiral_mask(shape=shape[:2], turns=20))"),
        ("Computed tomography", "ct(image_shape=shape, angles=60)"),
        ("Single-pixel camera", "single_pixel_camera(image_shape=shape, ratio=0.1)"),
        ("Compressed sensing", "compressed_sensing(key, image_shape=shape, ratio=0.25)"),
    ),
    "Nonlinear": (
        ("High dynamic range", "high_dynamic_range(image_shape=shape)"),
        ("JPEG", "jpeg(image_shape=shape, quality=10)"),
        ("Few grey levels", "quantize(image_shape=shape, levels=4)"),
        ("Gamma", "gamma_curve(image_shape=shape, gamma=3.0)"),
        ("Phase retrieval", "phase_retrieval(image_shape=shape)"),
    ),
}  # fmt: skip
"""Group → (title, call of a factory of ``jd.operators``)."""

SETUP = """import jax
import jax.numpy as jnp
import jaxdiff as jd
from jaxdiff.assets import path
from jaxdiff.files import load_image

image = load_image(path("astronaut.png")).pixels             # [128, 128, 3] in [-1, 1]
shape, key = image.shape, jax.random.key(0)"""


def tile(title: str, code: str, name: str) -> str:
    """One tile."""
    return (
        f":::{{grid-item-card}} {title}\n:img-top: pictures/{name}.png\n\n"
        f"```python\nA = jd.operators.{code}\n```\n:::\n"
    )


def picture(code: str, image: jax.Array) -> bytes:
    """What the operator makes of an image, with a little noise, as a PNG."""
    names = {"jax": jax, "jnp": jnp, "jd": jd, "shape": image.shape, "key": jax.random.key(0)}
    operator = eval(f"jd.operators.{code}", names)  # the table above
    problem = jd.observe(jax.random.key(1), operator, image, noise=0.02)
    view = to_uint8(np.asarray(operator.view(problem.y)))
    shown = PILImage.fromarray(view[..., 0] if view.shape[-1] == 1 else view).convert("RGB")
    shown = shown.resize(
        (2 * SIZE, 2 * SIZE), PILImage.Resampling.NEAREST if shown.width < SIZE else PILImage.Resampling.BICUBIC
    )
    file = io.BytesIO()
    shown.save(file, "PNG")
    return file.getvalue()


def pages() -> Iterator[tuple[str, str | bytes]]:
    """(path in the site, content): the gallery and its pictures."""
    image = jnp.asarray(load_image(assets.path("astronaut.png"), size=(SIZE, SIZE)).pixels)
    parts = [
        "# Gallery of operators",
        "Each tile shows a measurement of the same face, and the line of code that makes its operator. "
        "[Operators](operators.md) lists all operators. The face is Eileen Collins (NASA, public domain).",
        f"```python\n{SETUP}\n```",
        "`jd.observe(key, A, image, noise=0.02)` then makes a measurement, and `A.view(y)` makes a picture of it.",
    ]
    for group, tiles in TILES.items():
        body = []
        for title, code in tiles:
            name = f"{group}-{title}".lower().replace(" ", "-").replace(",", "")
            yield f"pictures/{name}.png", picture(code, image)
            body.append(tile(title, code, name))
        grid = "\n".join(body)
        parts.append(f"## {group}\n\n::::{{grid}} 1 2 3 3\n:gutter: 3\n\n{grid}::::")
    yield "gallery.md", "\n\n".join(parts) + "\n"
