"""What does each method make of one picture?

Run:     python -m benchmarks.methods [--calls 100] [--tasks inpaint_box …] [--picture FILE] [--out FOLDER]
Shows:   methods.png: the picture, measured as the first task says, and restored by every method that serves the task. Settings
         are those recorded for the prior; runs take at most so many network calls. Best PSNR first, with PSNR (dB) and LPIPS.
         methods_tiles.png and methods_tiles.csv: all tasks' pictures as they are, and draws of the prior, for the site's pages.
Needs:   by default scikit-image's astronaut (NASA, public domain), which no prior was trained on.
Time:    10 to 15 minutes a task on two busy CPU cores, most of it compilation.
Seen:    docs/methods.png, and the page of each method.
"""

import argparse
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxdiff as jd
from jaxdiff import network_calls, plots, tables, tasks
from jaxdiff.cli.console import progress
from jaxdiff.engine import batch_keys, forget, restore_many
from jaxdiff.evaluation.pictures import without_download
from jaxdiff.evaluation.restored import as_rgb
from jaxdiff.evaluation.scores import scores
from jaxdiff.files import load_image, save_image

ROOT = pathlib.Path(__file__).parent.parent
COLUMNS = 8
DRAWS = 4
"""Of the prior, for a method that takes no measurement."""


class Tile(NamedTuple):
    """A picture [H, W, 3]: the task, what it is ("truth", "measured" or a method), and its scores if it has any."""

    task: str
    what: str
    image: np.ndarray
    psnr: float = float("nan")
    lpips: float = float("nan")

    def scores(self) -> dict[str, str]:
        """PSNR in dB and LPIPS, as text."""
        return {"psnr": f"{self.psnr:.1f}", "lpips": f"{self.lpips:.3f}"} if np.isfinite(self.psnr) else {}

    def caption(self) -> str:
        """The words under it."""
        below = "{psnr} dB, {lpips}".format(**found) if (found := self.scores()) else ""
        return f"{self.what}\n{self.task if self.what == 'measured' else below}"


def restored(task: str, truth: np.ndarray, denoiser: Any, args: argparse.Namespace, bar: Any) -> list[Tile]:
    """Truth, measurement, then each method's restoration, best first."""
    problems = tasks.measure(task, jax.random.key(args.seed), truth[None], args.noise_std)
    keys = batch_keys(jax.random.fold_in(jax.random.key(args.seed), 1), 1)
    found = []
    for method, factory in jd.samplers.METHODS.items():
        sampler = factory(**tasks.settings(method, task, args.prior))
        try:
            grid = network_calls.grid_within(sampler, denoiser, args.calls)
            report = bar(f"{task}, {method}", len(grid.t), len(grid.t))
            x = restore_many(keys, denoiser, problems, sampler, steps=grid, batch_size=1, report=report).x
        except (ValueError, NotImplementedError) as error:
            print(f"{method} on {task}: {error}")
            continue
        forget()
        score = {name: float(values[0]) for name, values in scores(x, truth[None], problems).items()}
        if np.isfinite(score["psnr"]):
            found.append(Tile(task, method, x[0], score["psnr"], score["lpips"]))
        print(f"{task:16} {method:18} {score['psnr']:6.2f} dB  LPIPS {score['lpips']:.3f}", flush=True)
    found.sort(key=lambda tile: -tile.psnr)
    view = as_rgb(np.asarray(jax.vmap(lambda problem: problem.operator.view(problem.y))(problems)[0]), truth.shape)
    return [Tile(task, "truth", truth), Tile(task, "measured", view), *found]


def drawn(denoiser: Any, args: argparse.Namespace) -> list[Tile]:
    """Draws of the prior by each method that takes no measurement, from the same keys."""
    keys, tiles = batch_keys(jax.random.key(args.seed), DRAWS), []
    for method, factory in jd.samplers.UNCONDITIONAL.items():
        sampler = factory()
        grid = network_calls.grid_within(sampler, denoiser, args.calls)
        x = jax.jit(
            jax.vmap(lambda key, method=sampler, grid=grid: jd.sample(key, denoiser, None, method, steps=grid)[0])
        )(keys)
        tiles += [Tile("", method, image) for image in np.asarray(x)]
    return tiles


def save(folder: pathlib.Path, tiles: list[Tile]) -> None:
    """The tiles in rows of eight, and what they are, in their order."""
    save_image(
        folder / "methods_tiles.png",
        plots.sheet([np.clip(tile.image, -1, 1) for tile in tiles], columns=COLUMNS, gap=0),
    )
    rows = [{"task": tile.task, "what": tile.what} | tile.scores() for tile in tiles]
    tables.write_rows(folder / "methods_tiles.csv", rows=rows)


def main() -> None:
    """Restore and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--picture", help="a picture; the astronaut by default")
    parser.add_argument("--tasks", nargs="+", default=["inpaint_box"], choices=tasks.names("default"))
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--noise_std", type=float, default=0.05, help="σ on [-1, 1]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs", help="a folder")
    args = parser.parse_args()
    denoiser = jd.load_denoiser(args.prior)
    with progress() as bar:
        if args.picture:
            truth = load_image(args.picture, size=denoiser.image_shape[:2], resize=True).pixels
        else:
            truth = without_download(denoiser, draws=1, steps=1, seed=0, bar=bar)[-1].pixels
        tiles = [tile for task in args.tasks for tile in restored(task, np.asarray(truth), denoiser, args, bar)]
    save(args.out, [*tiles, *drawn(denoiser, args)])
    shown = [tile for tile in tiles if tile.task == args.tasks[0]]
    shown += [Tile("", "", np.ones_like(truth))] * (-len(shown) % COLUMNS)
    lines = [shown[i : i + COLUMNS] for i in range(0, len(shown), COLUMNS)]
    figure = plots.image_table(
        [[tile.image for tile in line] for line in lines],
        captions=[[tile.caption() for tile in line] for line in lines],
    )
    plots.save_figure(args.out / "methods.png", figure)


if __name__ == "__main__":
    main()
