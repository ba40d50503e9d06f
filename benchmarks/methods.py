"""What does each method make of one picture?

Run:     python -m benchmarks.methods [--calls 100] [--tasks inpaint_box …] [--picture FILE] [--out docs/methods.png]
Shows:   one picture, measured once a task, and restored by every method that serves the task. Settings are those recorded
         for the prior; runs take at most so many network calls. Best PSNR first; PSNR (dB) and LPIPS under each.
Needs:   by default scikit-image's astronaut (NASA, public domain), which no prior was trained on.
Time:    10 to 15 minutes a task on two busy CPU cores, most of it compilation.
Seen:    docs/methods.png.
"""

import argparse
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxdiff as jd
from jaxdiff import network_calls, plots, tasks
from jaxdiff.cli.console import progress
from jaxdiff.engine import batch_keys, forget, restore_many
from jaxdiff.evaluation.pictures import without_download
from jaxdiff.evaluation.scores import scores
from jaxdiff.files import load_image

ROOT = pathlib.Path(__file__).parent.parent
COLUMNS = 8


class Tile(NamedTuple):
    """A picture and the words under it."""

    image: np.ndarray
    caption: str


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
            found.append((score["psnr"], Tile(x[0], f"{method}\n{score['psnr']:.1f} dB, {score['lpips']:.3f}")))
        print(f"{task:16} {method:18} {score['psnr']:6.2f} dB  LPIPS {score['lpips']:.3f}", flush=True)
    found.sort(key=lambda entry: -entry[0])
    view = np.asarray(jax.vmap(lambda problem: problem.operator.view(problem.y))(problems)[0])
    return [Tile(truth, "truth\n"), Tile(view, f"measured\n{task}"), *(tile for _, tile in found)]


def main() -> None:
    """Restore and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--picture", help="a picture; the astronaut by default")
    parser.add_argument("--tasks", nargs="*", default=["inpaint_box"], choices=tasks.names("default"))
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--noise_std", type=float, default=0.05, help="σ on [-1, 1]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "methods.png")
    args = parser.parse_args()
    denoiser = jd.load_denoiser(args.prior)
    tiles: list[Tile] = []
    with progress() as bar:
        if args.picture:
            truth = load_image(args.picture, size=denoiser.image_shape[:2], resize=True).pixels
        else:
            truth = without_download(denoiser, draws=1, steps=1, seed=0, bar=bar)[-1].pixels
        for task in args.tasks:
            tiles += restored(task, np.asarray(truth), denoiser, args, bar)
            tiles += [Tile(np.ones_like(truth), "")] * (-len(tiles) % COLUMNS)
    lines = [tiles[i : i + COLUMNS] for i in range(0, len(tiles), COLUMNS)]
    figure = plots.image_table(
        [[tile.image for tile in line] for line in lines], captions=[[tile.caption for tile in line] for line in lines]
    )
    plots.save_figure(args.out, figure)


if __name__ == "__main__":
    main()
