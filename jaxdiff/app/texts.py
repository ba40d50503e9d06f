"""The page's words: what can be chosen, and a sentence on each."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image as PILImage

from jaxdiff.app import show
from jaxdiff.app.wish import MASK
from jaxdiff.assets import path
from jaxdiff.files import load_image, to_uint8
from jaxdiff.samplers import METHODS
from jaxdiff.tasks import get_task, names
from jaxdiff.tasks.contact_sheet import measurement_picture

TITLE = "# jaxdiff\nRestore a picture with a diffusion model. Your picture stays on the computer that runs jaxdiff."
FRAME = "Drag the frame over the face. The part inside is restored."
PAINT = "Paint over what you want to replace."
ALREADY = (
    "Tick this if your picture needs a repair. If you do not, a good picture is damaged first, so that you can compare the "
    "result with the truth."
)
METHOD = "The algorithm. Keep “the best known” if you are not sure."
CALLS = "How often the network runs for each draw. 20 are quick, and 100 are often better."
DRAWS = "How many restorations to make. Where they differ, the result is a guess."
SEED = "Starts the random numbers. The same seed gives the same result."
NOISE = "Standard deviation, for pixel values from -1 to 1."
READY = "Choose a picture, then press Restore. The results appear here."
COMPILING = "Preparing. The first run of a method takes longer, because its program must be compiled."
STOPPED = "Stopped. These are the unfinished estimates."
REPEAT = (
    "After a run, you find here a command and a Python program that give the same result. Download the zip, and run one of "
    "them in its folder: they read `picture.png` and `mask.png`."
)
OWN_MASK = "painted by you"
NOT_DAMAGED = (
    "This task cannot repair a damaged picture, because the damage is random or its measurement is not a picture. "
    f"Untick “The picture is damaged already”, or choose “{OWN_MASK}” or another task."
)
TILE = 64
SHOWN = {
    "denoise": "noise",
    "inpaint_box": "missing box",
    "inpaint_random": "missing pixels",
    "gaussian_blur": "blur",
    "motion_blur": "camera shake",
    "outpaint": "missing half",
    "super_resolution": "low resolution",
    "grayscale": "no colours",
    "high_dynamic_range": "overexposed",
    "jpeg": "JPEG",
}
"""Names of tasks for people who do not know the field; others are shown as they are."""
SHEET = Path(__file__).with_name("tiles.png")


def size(pixels: np.ndarray) -> str:
    """Width × height."""
    return f"{pixels.shape[1]}×{pixels.shape[0]}"


def tasks() -> list[tuple[str, str]]:
    """(shown, name) of the tasks."""
    return [(SHOWN.get(name, name.replace("_", " ")), name) for name in names("default")] + [(OWN_MASK, MASK)]


def on_page(sentence: str) -> str:
    """A sentence of the command line in the words of the page, which has fields and no options."""
    return NOT_DAMAGED if "--measured" in sentence else sentence


def of_task(name: str) -> str:
    """One sentence on a task."""
    if name == MASK:
        return "The pixels that you paint over are missing. Unless the picture is damaged already, noise of σ = 0.05 is added."
    task = get_task(name)
    return f"{task.about[0].upper()}{task.about[1:]}. The task is `{name}`, with noise of {task.shown_noise}."


def tile_sheet() -> np.ndarray:
    """What each task does to the packaged face, [64, 64·n, 3], bytes; ``tiles.png`` holds it, for it takes a while."""
    face = load_image(path("astronaut.png"), size=(TILE, TILE), resize=True).pixels
    painted = to_uint8(face)
    painted[20:28, 12:52] = painted[28:44, 29:36] = (232, 89, 12)
    shown = [resized(measurement_picture(name, jnp.asarray(face)), TILE) for name in names("default")]
    return np.concatenate([*shown, painted], axis=1)


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """[h, w, 3], bytes, as a square; enlarged, its pixels are seen."""
    picture = PILImage.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((side, side), PILImage.Resampling.BOX))


def tiles() -> str:
    """Rules of CSS that put a task's picture before its name."""
    content = SHEET.read_bytes()
    count = len(tasks())
    rules = [
        f'#tasks label::before {{ background: url("{show.data_url(content, "image/png")}") 0 0 / {count}00% 100%; }}'
    ]
    rules += [
        f"#tasks label:nth-of-type({i + 1})::before {{ background-position-x: {100 * i / (count - 1):.4f}%; }}"
        for i in range(count)
    ]
    return "\n".join(rules)


def methods() -> list[tuple[str, str]]:
    """(shown, name) of the methods, the best known first."""
    return [("the best known", ""), *((method.kind.title, name) for name, method in METHODS.items())]


def of_method(name: str) -> str:
    """The idea of a method: the second paragraph of its file."""
    if not name:
        return "This is the method with the best results for the task and the number of network calls."
    _, idea, _ = (sys.modules[METHODS[name].kind.__module__].__doc__ or "").split("\n\n", 2)
    return " ".join(idea.split())
