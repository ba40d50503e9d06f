"""The pictures of the README: restorations of faces that may be shown, by the embedded prior.

Run:     make pictures        (python -m docs.pictures [--only strip quickstart trajectory photo])
Shows:   strip.png: three tasks, each measured once and drawn six times. quickstart.png: what the README's own code makes.
         trajectory.png: the states of one run.
         photo.png: a scratched photo, restored within its frame.
Needs:   nothing. One face is Eileen Collins (NASA, public domain); two are draws of the prior, chosen among 24.
Time:    five minutes on two CPU cores.
"""

import argparse
import contextlib
import pathlib
import re
import tempfile
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image as PILImage

import jaxdiff as jd
from jaxdiff import assets, photos
from jaxdiff.files import from_uint8, load_image, to_uint8

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
ENLARGED, DRAWS = 4, 6
SAMPLER, STEPS = jd.samplers.mmps(iterations=5, zeta=1.432), 20
"""The leaderboard's best on masks within twenty calls. Its spread is nearly that of the posterior."""


class Row(NamedTuple):
    """A line of the strip: a task, the picture that it measures, the noise and the seed."""

    title: str
    operator: Any
    truth: np.ndarray
    noise_std: float
    seed: int


def drawn(denoiser: jd.Denoiser, index: int) -> np.ndarray:
    """One of 24 draws of the prior."""
    key = jax.random.fold_in(jax.random.key(5), index)
    x, _ = jd.sample(key, denoiser, None, jd.samplers.heun(), steps=30, spacing="dps")
    return np.clip(np.asarray(x), -1, 1)


def astronaut(size: int = 64) -> np.ndarray:
    """The face that comes with the package."""
    return load_image(assets.path("astronaut.png"), size=(size, size), resize=True).pixels


def rows(denoiser: jd.Denoiser) -> list[Row]:
    """The three tasks."""
    shape, ops = denoiser.image_shape, jd.operators
    return [
        Row("90 % of the\npixels missing", ops.inpaint_random(jax.random.key(3), image_shape=shape, fraction=0.9),
            drawn(denoiser, 3), 0.05, 0),
        Row("blur", ops.motion_blur(jax.random.key(1), image_shape=shape, size=15), drawn(denoiser, 6), 0.05, 1),
        Row("a box missing", ops.inpaint_box(image_shape=shape, size=20, position=(36, 22)), astronaut(), 0.05, 2),
    ]  # fmt: skip


def enlarged(image: np.ndarray) -> np.ndarray:
    """An image, four times as large, smoothly."""
    picture = PILImage.fromarray(to_uint8(image))
    size = (picture.width * ENLARGED, picture.height * ENLARGED)
    return from_uint8(np.asarray(picture.resize(size, PILImage.Resampling.BICUBIC)))


def spread(std: np.ndarray, top: float) -> np.ndarray:
    """A standard deviation [H, W, C] in colours, black at 0 and bright at ``top``."""
    from matplotlib import colormaps

    colours = colormaps["magma"](np.clip(std.mean(axis=-1) / top, 0, 1))[..., :3]
    return enlarged(from_uint8(np.round(colours * 255)))


def cells(problem: jd.Problem, truth: np.ndarray, draws: Any, shown: int) -> list[np.ndarray]:
    """Measured, truth, some draws, their mean and their standard deviation."""
    view = np.asarray(problem.operator.view(problem.y))
    view = view if view.shape == truth.shape else np.kron(view, np.ones((truth.shape[0] // view.shape[0],) * 2 + (1,)))
    images = [view, truth, *draws.samples[:shown], draws.mean]
    return [*(enlarged(np.asarray(image)) for image in images), spread(np.asarray(draws.std), 0.3)]


def titles(shown: int) -> list[str]:
    """Over the columns."""
    return ["measured", "truth", *(f"draw {i + 1}" for i in range(shown)), "mean", "uncertainty"]


def restored(denoiser: jd.Denoiser, row: Row) -> list[np.ndarray]:
    """A line of the strip."""
    noise_key, key = jax.random.split(jax.random.key(row.seed))
    problem = jd.observe(noise_key, row.operator, row.truth, row.noise_std)
    draws = jd.posterior(key, denoiser, problem, SAMPLER, n=DRAWS, steps=STEPS)
    psnr = float(jd.metrics.psnr(draws.mean, row.truth))
    print(row.title.replace("\n", " "), f"mean of the draws: {psnr:.1f} dB", flush=True)
    return cells(problem, row.truth, draws, 3)


def strip() -> None:
    """Three tasks, with three of six draws."""
    denoiser = jd.load_denoiser("faces64")
    found = rows(denoiser)
    lines = [restored(denoiser, row) for row in found]
    figure = jd.plots.image_table(lines, column_titles=titles(3), row_titles=[row.title for row in found])
    jd.plots.save_figure(DOCS / "strip.png", figure)


def quickstart() -> None:
    """The README's first Python block, run as it stands."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert found, "the README has no Python block"
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it saves a picture
        exec(found.group(1), names)
    draws = names["draws"]
    figure = jd.plots.image_table([cells(names["problem"], names["face"], draws, 4)], column_titles=titles(4))
    jd.plots.save_figure(DOCS / "quickstart.png", figure)


def trajectory() -> None:
    """A run on its way: the second block of docs/how_it_works.md on the astronaut."""
    denoiser, face = jd.load_denoiser("faces64"), astronaut()
    operator = jd.operators.inpaint_random(jax.random.key(3), image_shape=face.shape, fraction=0.9)
    problem = jd.observe(jax.random.key(2), operator, face, 0.05)
    _, _, path = jd.sample(jax.random.key(0), denoiser, problem, SAMPLER, steps=STEPS, trajectory=8)
    jd.plots.save_figure(DOCS / "trajectory.png", jd.plots.trajectory(path))


def photo() -> None:
    """A photo larger than the prior: its frame, scratches on it, and the photo restored."""
    from skimage import data

    whole = from_uint8(data.astronaut())
    known = np.ones((*whole.shape[:2], 1), np.float32)
    rows, columns = np.mgrid[: whole.shape[0], : whole.shape[1]]
    for a, b, c in ((0.6, -1.0, 0.0), (-0.25, -1.0, 145.0), (2.4, -1.0, -400.0), (-1.1, -1.0, 350.0)):
        known[np.abs(a * columns + b * rows + c) < 3 * np.hypot(a, b)] = 0
    known[:42] = known[176:] = 1  # all within the frame
    known[:, :158] = known[:, 280:] = 1
    framing, _ = photos.choose(photos.filled(whole, known))
    denoiser = jd.load_denoiser("faces64")
    size = denoiser.image_shape[0]
    operator = jd.operators.inpaint_mask(
        image_shape=denoiser.image_shape, mask=photos.crop(known, framing, size) > 0.999
    )
    problem = jd.Problem.of(operator, operator(photos.crop(whole, framing, size)), 2 / 255 / np.sqrt(12))
    restored, _ = jd.sample(jax.random.key(0), denoiser, problem, SAMPLER, steps=40)
    scratched = np.where(known > 0, whole, 1.0)
    images = [photos.preview(whole, framing), scratched]
    images.append(photos.paste_back(scratched, np.asarray(restored), framing, 0.0, where=1 - known))
    lines = [[image[:256, 90:346] for image in images]]
    titles = ["the frame of the face", "scratched", "restored"]
    jd.plots.save_figure(DOCS / "photo.png", jd.plots.image_table(lines, column_titles=titles, cell=2.4))


PICTURES = {"strip": strip, "quickstart": quickstart, "trajectory": trajectory, "photo": photo}


def main() -> None:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(PICTURES), choices=list(PICTURES))
    for name in parser.parse_args().only:
        PICTURES[name]()


if __name__ == "__main__":
    main()
