"""The page's words: what can be chosen, and a sentence on each."""

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

TITLE = "# jaxdiff\nRestore a picture with a diffusion prior. Everything runs on the machine that serves this page."
FRAME = "When a picture is here, move the frame with the mouse. What is inside is restored, at the size that the prior knows."
ALREADY = (
    "Tick it if you want your picture repaired. Without it, a sharp picture is damaged here, so that you can compare."
)
METHOD = "The best known is the winner of our records for this task and so many calls."
CALLS = "How often the network may run for each draw. Twenty are quick; a hundred are often better."
DRAWS = "Several draws show what is certain and what is guessed."
SEED = "The same seed makes the same pixels."
NOISE = "On the scale from -1 to 1. Leave it empty for the task's own."
READY = "Choose a picture and press Restore."
COMPILING = "Preparing. The first run of a method takes longer, because its program is compiled."
STOPPED = "Stopped. This is the estimate as it was."
REPEAT = "Put the zip's `picture.png` (and `mask.png`) beside you, then run either of these."
OWN_MASK = "painted by you"
NOT_DAMAGED = (
    "Nobody can know here how this task damaged your picture: it is drawn at random, or what it measures is no picture. "
    f"Untick “The picture is damaged already”, or choose “{OWN_MASK}” or another task."
)
TILE = 64
SHEET = Path(__file__).with_name("tiles.png")


def size(pixels: np.ndarray) -> str:
    """Height × width."""
    return f"{pixels.shape[0]}×{pixels.shape[1]}"


def tasks() -> list[tuple[str, str]]:
    """(shown, name) of the tasks."""
    return [(name.replace("_", " "), name) for name in names("default")] + [(OWN_MASK, MASK)]


def on_page(sentence: str) -> str:
    """A sentence of the command line in the words of the page, which has fields and no options."""
    return NOT_DAMAGED if "--measured" in sentence else sentence


def of_task(name: str) -> str:
    """One sentence on a task."""
    if name == MASK:
        return "What you paint over is missing; σ = 0.05 on [-1, 1] where it is measured here."
    task = get_task(name)
    return f"{task.about[0].upper()}{task.about[1:]}; {task.shown_noise}."


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
    """One sentence on a method."""
    if not name:
        return "The record decides, by task and by the number of network calls."
    about = (METHODS[name].make.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(about.split())
