"""``jaxdiff tune``: search a method's hyper-parameters for a task, and keep the best for ``jaxdiff restore``."""

import argparse
import shlex
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdiff import samplers
from jaxdiff.cli.console import (
    add_prior,
    both_scales,
    check_noise,
    check_steps,
    console,
    load_prior,
    progress,
)
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.engine import batch_keys, restore_many
from jaxdiff.evaluation.pictures import from_folder
from jaxdiff.files import check_folder, out_folder
from jaxdiff.names import unknown
from jaxdiff.network_calls import steps_within
from jaxdiff.samplers import METHODS
from jaxdiff.tasks import get_task, measure
from jaxdiff.tune.search import METRICS, Search, Trial, read_settings, tune
from jaxdiff.typing import Key

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--task", default="inpaint_box", help="what is to be restored; see jaxdiff info")
    parser.add_argument("--method", default="dps", help="whose hyper-parameters; see jaxdiff info")
    parser.add_argument("--budget", type=int, default=9, help="how many settings to try (default 9)")
    parser.add_argument("--steps", type=int, default=100, help="steps of a whole run (default 100)")
    parser.add_argument(
        "--calls",
        type=int,
        default=None,
        help="network calls of a run, in place of --steps: costlier settings step less",
    )
    parser.add_argument("--images", default=None, help="folder of pictures; draws from the prior by default")
    parser.add_argument("--num_images", type=int, default=4, help="how many pictures (default 4)")
    parser.add_argument(
        "--seeds", type=int, default=1, help="runs of each picture with each setting, scores averaged (default 1)"
    )
    parser.add_argument("--metric", default="psnr", help="what to choose by: psnr, ssim or lpips (default psnr)")
    parser.add_argument("--noise_std", type=float, default=None, help="σ on the [-1, 1] scale; the task's by default")
    parser.add_argument("--batch_size", type=int, default=16, help="(setting × seed × picture)s at a time (default 16)")
    parser.add_argument("--out", default="settings.json", help="the file of settings to write, or to add to")
    add_prior(parser)


def run(args: argparse.Namespace) -> None:
    """Measure, search, write, and print what was tried."""
    _check(args)
    out = Path(args.out)
    if out.exists():
        read_settings(out)
    denoiser = load_prior(args)
    if args.calls is None:
        check_steps(denoiser, args.steps)
    std = get_task(args.task).noise_std if args.noise_std is None else args.noise_std
    with progress() as bar:
        truths = _truths(args, denoiser, bar)
        out_folder(out.parent)
        problems = measure(args.task, _stream(args.seed, 1), truths, std)
        search = Search(
            args.method, problems, truths, args.steps, args.calls, None, args.seed, args.batch_size, args.seeds
        )
        source = "folder" if args.images is not None else "drawn from the prior"
        report = bar(f"{args.method} on {args.task}", args.budget, 1)
        best = tune(
            out,
            search,
            denoiser,
            task=args.task,
            prior=args.prior,
            budget=args.budget,
            metric=args.metric,
            noise_std=std,
            source=source,
            report=report,
        )
    trials = read_settings(out)["provenance"][args.prior][args.task][args.method]["trials"]
    Console(highlight=False).print(_table(trials, best))
    cost = f"{args.steps} steps" if args.calls is None else f"{args.calls} network calls"
    pictures = f"{len(truths)} pictures" + (f" × {args.seeds} seeds" if args.seeds > 1 else "")
    console.print(f"{args.task}, {both_scales(std)}, {pictures}, {cost}; chosen by {args.metric}: {out}")
    steps = args.steps
    if args.calls is not None:
        steps = steps_within(METHODS[args.method](**best["options"]), denoiser, args.calls)
    flags = f"--task {args.task} --method {args.method} --steps {steps}"
    if args.noise_std is not None:
        flags += f" --noise_std {args.noise_std:g}"
    if args.prior != "faces64":
        flags += f" --prior {shlex.quote(args.prior)}"
    if args.label is not None:
        flags += f" --label {args.label}"
    if args.dtype != "float32":
        flags += f" --dtype {args.dtype}"
    console.print(f"use it: jaxdiff restore PICTURE {flags} --settings {shlex.quote(str(out))}", soft_wrap=True)


def _check(args: argparse.Namespace) -> None:
    get_task(args.task)  # refuses an unknown one
    if args.method not in METHODS:
        raise unknown("method", args.method, METHODS)
    if args.metric not in METRICS:
        raise unknown("metric", args.metric, METRICS)
    for name in ("budget", "num_images", "seeds", "batch_size", "calls"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} {value} is not possible: it is at least 1.")
    check_noise(args.noise_std)
    if Path(args.out).suffix != ".json":
        raise ValueError(f"--out {args.out} must name a file such as settings.json.")
    check_folder(Path(args.out).parent)


def _stream(seed: int, purpose: int) -> Key:
    """Keys of measurements and of pictures, apart from those of the search's runs, which are 0, 1, … of the same seed."""
    return jax.random.fold_in(jax.random.key(seed), 2**32 - purpose)


def _truths(args: argparse.Namespace, denoiser: DenoiserLike, bar: object) -> np.ndarray:
    """Pictures of the folder, or draws from the prior."""
    height, width, _ = denoiser.image_shape
    if args.images is not None:
        found = from_folder(args.images, (height, width), in_distribution=True, most=args.num_images)
        return np.stack([picture.pixels for picture in found])
    steps = min(100, denoiser.schedule.num_steps)
    report = bar("drawing pictures", args.num_images * steps, steps)  # type: ignore[operator]
    keys = batch_keys(_stream(args.seed, 2), args.num_images)
    return np.clip(restore_many(keys, denoiser, None, samplers.ddpm(), steps=steps, report=report).x, -1, 1)


def _table(trials: list[Trial], best: Trial) -> Table:
    table = Table(title=None)
    for name in ("setting", "PSNR dB", "SSIM", "LPIPS", ""):
        table.add_column(name, justify="left" if name in ("setting", "") else "right")
    for trial in sorted(trials, key=lambda trial: [str(v).rjust(12) for v in trial["options"].values()]):
        setting = ", ".join(f"{k} = {v}" for k, v in trial["options"].items()) or "defaults"
        figures = [
            "–" if trial[name] is None else f"{trial[name]:.{digits}f}"
            for name, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3))
        ]
        note = "chosen" if trial["options"] == best["options"] else trial.get("error", "")
        table.add_row(setting, *figures, note)
    return table
