"""``jaxdiff restore``: measure a picture (or take it as the measurement) and restore it."""

import argparse
import csv
import io
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdiff import checkpoints, metrics, operators, plots
from jaxdiff.engine import batch_keys, restore_many, stack
from jaxdiff.experiments.commands.common import add_prior, add_run, both_scales, check_steps, console, progress
from jaxdiff.experiments.tasks import TASKS, get_task, make_sampler, nearest
from jaxdiff.files import atomic, load_image, load_mask, out_folder, save_image
from jaxdiff.operators.base import Operator
from jaxdiff.problems import Problem, observe
from jaxdiff.samplers.loop import grid_for

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("image", help="the picture")
    parser.add_argument("--task", default="inpaint_box", help="what was (or will be) done to it; see jaxdiff info")
    parser.add_argument("--method", default="dps", help="how to restore it; see jaxdiff info")
    parser.add_argument("--noise_std", type=float, default=None, help="σ on the [-1, 1] scale; the task's by default")
    parser.add_argument("--samples", type=int, default=1, help="how many restorations to draw (default 1)")
    parser.add_argument("--mask", default=None, help="for --task inpaint_mask: a picture, bright = measured, or .npy")
    parser.add_argument("--measured", action="store_true", help="the picture is the measurement already")
    parser.add_argument("--resize", action="store_true", help="centre-crop and resize to what the prior takes")
    parser.add_argument("--zeta", type=float, default=None, help="DPS: step size ζ")
    parser.add_argument("--norm", default=None, help="DPS: residual, gradient or squared")
    parser.add_argument("--strength", type=float, default=None, help="Score ALD: strength of the guidance")
    parser.add_argument("--start", type=int, default=None, help="SDEdit: forward steps")
    parser.add_argument("--out", default="out", help="folder for the results (default out)")
    add_prior(parser)
    add_run(parser, steps=250)


def run(args: argparse.Namespace) -> None:
    """Measure, restore, score, write."""
    out = out_folder(args.out)
    _check(args)
    denoiser = checkpoints.load_denoiser(args.prior)
    check_steps(denoiser, args.steps)
    height, width, _ = denoiser.image_shape
    loaded = load_image(args.image, size=(height, width), resize=args.resize)
    for note in loaded.notes:
        console.print(f"note: {args.image} {note}")
    options = {k: v for k in ("zeta", "norm", "strength", "start") if (v := getattr(args, k)) is not None}
    sampler = make_sampler(args.method, args.task, args.prior, **options)
    problem = _problem(args, loaded.pixels)
    console.print(f"{args.task} by {args.method}, {both_scales(float(problem.noise_std))}")
    calls = len(grid_for(denoiser, sampler, args.steps, args.spacing).t)
    with progress() as bar:
        outcome = restore_many(
            batch_keys(jax.random.fold_in(jax.random.key(args.seed), 1), args.samples),
            denoiser,
            stack([problem] * args.samples),
            sampler,
            steps=args.steps,
            spacing=args.spacing,
            batch_size=args.batch_size,
            report=bar(f"{args.method}, {args.samples} samples", args.samples * calls, calls),
            resume=out / ".restore.npz",
        )
    if not np.isfinite(outcome.x).all():
        raise ValueError(f"{args.method} diverged; use a smaller step size or more steps.")
    _write(args, out, loaded.pixels, problem, outcome.x)
    for state in out.glob(".restore-*.npz"):
        state.unlink()


def _check(args: argparse.Namespace) -> None:
    if args.samples < 1:
        raise ValueError(f"--samples {args.samples} is not possible: draw at least one.")
    if args.batch_size < 1:
        raise ValueError(f"--batch_size {args.batch_size} is not possible: take at least one run at a time.")
    if args.noise_std is not None and not (args.noise_std >= 0 and math.isfinite(args.noise_std)):
        raise ValueError(f"--noise_std {args.noise_std:g} is not possible: σ is zero or positive.")
    if (args.task == "inpaint_mask") != (args.mask is not None):
        raise ValueError("--task inpaint_mask and --mask FILE go together; give both or neither.")
    if args.task != "inpaint_mask" and args.task not in TASKS:
        raise nearest("task", args.task, [*TASKS, "inpaint_mask"])


def _problem(args: argparse.Namespace, pixels: np.ndarray) -> Problem:
    """The measurement: simulated from the picture, or the picture itself."""
    place, noise = jax.random.split(jax.random.key(args.seed))
    if args.task == "inpaint_mask":
        mask = load_mask(args.mask, pixels.shape[:2])
        operator: Operator = operators.inpaint_mask(image_shape=pixels.shape, mask=mask)
        std = 0.05
    else:
        task = get_task(args.task)
        operator, std = task.make(place, pixels.shape), task.noise_std
    std = std if args.noise_std is None else args.noise_std
    if not args.measured:
        return observe(noise, operator, jnp.asarray(pixels), std)
    if tuple(operator.measurement_shape) != pixels.shape:
        raise ValueError(
            f"--measured needs a measurement that is a picture like the image; {args.task} measures an array "
            f"{tuple(operator.measurement_shape)}. Use the Python interface."
        )
    y = jnp.asarray(pixels)
    return Problem(operator, operator(y) if isinstance(operator, operators.Mask) else y, jnp.asarray(std, jnp.float32))


def _write(args: argparse.Namespace, out: Path, pixels: np.ndarray, problem: Problem, restored: np.ndarray) -> None:
    view = np.asarray(problem.operator.view(problem.y))
    save_image(out / "measured.png", view)
    for i, image in enumerate(restored):
        save_image(out / f"restored_{i}.png", image)
    pictures, titles = [view, *restored], ["measured", *[f"restored {i}" for i in range(len(restored))]]
    rows = []
    if not args.measured:
        save_image(out / "truth.png", pixels)
        pictures.insert(1, pixels)
        titles.insert(1, "truth")
        rows = _scores(restored, pixels, problem)
        with atomic(out / "metrics.csv") as temporary:
            text = io.StringIO()
            writer = csv.DictWriter(text, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            temporary.write_text(text.getvalue(), encoding="utf-8")
    if len(restored) > 1:
        mean, std = restored.mean(0), restored.std(0, ddof=1)
        save_image(out / "mean.png", mean)
        pictures += [mean]
        titles += ["mean"]
        del std
    save_image(out / "overview.png", plots.sheet([_as_rgb(p, pixels.shape) for p in pictures], columns=len(pictures)))
    if rows:
        Console(highlight=False).print(_table(rows))
    console.print(
        f"written to {out}: overview.png ({' | '.join(titles)}), restored_*.png" + (", metrics.csv" if rows else "")
    )


def _scores(restored: np.ndarray, truth: np.ndarray, problem: Problem) -> list[dict[str, Any]]:
    """A row a sample, and one for their mean: single sample and mean over samples are different things."""
    images = {f"sample {i}": image for i, image in enumerate(restored)}
    if len(restored) > 1:
        images["mean of the samples' images"] = restored.mean(0)
    reference = jnp.asarray(truth)
    rows = []
    for name, image in images.items():
        x = jnp.asarray(image)
        misfit = jnp.sqrt(jnp.mean(jnp.square(jnp.abs(problem.residual(x)))))
        values = (metrics.psnr(x, reference), metrics.ssim(x, reference), metrics.lpips(x, reference), misfit)
        rows.append(
            {"image": name}
            | {k: round(float(v), 4) for k, v in zip(("psnr", "ssim", "lpips", "misfit_rms"), values, strict=True)}
        )
    return rows


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=None)
    for name, digits in (("image", None), ("PSNR dB", 2), ("SSIM", 3), ("LPIPS", 3), ("misfit RMS", 4)):
        table.add_column(name, justify="left" if digits is None else "right")
    for row in rows:
        table.add_row(
            row["image"], f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", f"{row['lpips']:.3f}", f"{row['misfit_rms']:.4f}"
        )
    return table


def _as_rgb(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view in the size and channels of the image, nearest neighbour."""
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    rows = np.arange(shape[0]) * picture.shape[0] // shape[0]
    columns = np.arange(shape[1]) * picture.shape[1] // shape[1]
    return picture[rows][:, columns]
