"""``jaxdiff tune``: search a method's hyper-parameters for a task, and keep the best for ``jaxdiff restore``."""

import argparse
import shlex
from pathlib import Path

import jax
import numpy as np
from rich.table import Table

from jaxdiff import samplers
from jaxdiff.cli.console import both_scales, open_first, progress, say, show
from jaxdiff.cli.options import (
    add_general,
    add_length,
    add_noise,
    add_open,
    add_prior,
    at_least_one,
    check_noise,
    check_steps,
    load_prior,
)
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.engine import batch_keys, restore_many
from jaxdiff.evaluation.pictures import from_folder
from jaxdiff.files import check_folder, out_folder
from jaxdiff.names import unknown
from jaxdiff.network_calls import steps_within
from jaxdiff.pages import settings_of
from jaxdiff.samplers import METHODS
from jaxdiff.tasks import get_task, measure
from jaxdiff.tune.report import write_report
from jaxdiff.tune.search import METRICS, Search, Trial, tune
from jaxdiff.tune.settings_file import read_settings
from jaxdiff.typing import Key

__all__ = ["ABOUT", "ALIASES", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "[options]"
ABOUT = "Search a method's settings for a task, and keep the best in a file for jaxdiff restore --settings."
EXAMPLES = (
    "jaxdiff tune --task inpaint_box --method dps --budget 8 --seeds 0 1",
    "jaxdiff tune --task gaussian_blur --method diffpir --calls 100 --images faces/ --count 8 --metric lpips",
    "jaxdiff tune --task dps/sr4 --method mmps --steps 50 --out out/sr4.json",
)
ALIASES = {"--num-images": "--count"}
STEPS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    group = parser.add_argument_group("search")
    group.add_argument("--task", default="inpaint_box", help="a task that jaxdiff info lists (default inpaint_box)")
    group.add_argument("--method", default="dps", help="a method that jaxdiff info lists (default dps)")
    group.add_argument("--budget", type=int, default=9, help="number of settings to try (default 9)")
    group.add_argument("--metric", default="psnr", help="score that decides: psnr, ssim or lpips (default psnr)")
    add_length(group, f"default {STEPS}")
    group.add_argument(
        "--batch-size",
        type=int,
        default=16,
        help="restorations together; each is one setting, seed and picture (default 16)",
    )
    group = parser.add_argument_group("pictures")
    group.add_argument("--images", default=None, help="folder of pictures (default: draws from the prior)")
    group.add_argument("--count", type=int, default=4, help="number of pictures (default 4)")
    add_noise(group, "default: the task's own")
    group.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=None,
        help="seeds that count up by one, such as 0 1 2 (default: --seed); each restores every picture with every "
        "setting, and scores are averaged",
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        default="out/settings.json",
        help="file to write; settings are added to a file that exists (default out/settings.json)",
    )
    add_open(group)
    add_prior(parser)
    add_general(parser)


def run(args: argparse.Namespace) -> None:
    """Measure, search, write, and print what was tried."""
    _check(args)
    out = Path(args.out)
    if out.exists():
        read_settings(out)
    denoiser = load_prior(args)
    args.steps = check_steps(denoiser, args.steps, STEPS)
    with progress() as bar:
        truths = _truths(args, denoiser, bar)
        out_folder(out.parent)
        search = _search(args, truths)
        best = tune(
            out,
            search,
            denoiser,
            task=args.task,
            prior=args.prior,
            budget=args.budget,
            metric=args.metric,
            noise_std=float(np.mean(search.problems.noise_std)),
            noise=args.noise or get_task(args.task).model,
            source="folder" if args.images is not None else "drawn from the prior",
            report=bar(f"{args.method} on {args.task}", args.budget, 1),
        )
    _tell(args, search, best, denoiser)


def _search(args: argparse.Namespace, truths: np.ndarray) -> Search:
    """What is searched, on measurements of the pictures."""
    noise = get_task(args.task).measured_with(args.noise, args.noise_std)
    return Search(
        args.method,
        measure(args.task, _stream(args.seed, 1), truths, noise),
        truths,
        steps=args.steps,
        calls=args.calls,
        seed=_seeds(args)[0],
        batch_size=args.batch_size,
        seeds=len(_seeds(args)),
    )


def _seeds(args: argparse.Namespace) -> list[int]:
    return args.seeds or [args.seed]


def _tell(args: argparse.Namespace, search: Search, best: Trial, denoiser: DenoiserLike) -> None:
    """Print what was tried and how to use the best of it; write the report."""
    out, seeds = Path(args.out), len(_seeds(args))
    trials = read_settings(out)["provenance"][args.prior][args.task][args.method]["trials"]
    show(_table(trials, best))
    cost = f"{args.steps} steps" if args.calls is None else f"{args.calls} network calls"
    pictures = f"{len(search.truths)} pictures" + (f" × {seeds} seeds" if seeds > 1 else "")
    noise = both_scales(float(np.mean(search.problems.noise_std)))
    say(f"{args.task}, {noise}, {pictures}, {cost}; chosen by {args.metric}")
    use = _command(args, best, denoiser)
    say(f"use it: {use}")
    about = settings_of(command=args.command_line, network=args.dtype)
    open_first(write_report(out, (args.prior, args.task, args.method), use, about), browser=args.open)


def _command(args: argparse.Namespace, best: Trial, denoiser: DenoiserLike) -> str:
    """The command that restores with the settings found."""
    steps = args.steps
    if args.calls is not None:
        steps = steps_within(METHODS[args.method](**best["options"]), denoiser, args.calls)
    flags = f"--task {args.task} --method {args.method} --steps {steps}"
    if args.noise_std is not None:
        flags += f" --noise-std {args.noise_std:g}"
    if args.noise is not None:
        flags += f" --noise {args.noise}"
    if args.prior != "faces64":
        flags += f" --prior {shlex.quote(args.prior)}"
    if args.label is not None:
        flags += f" --label {args.label}"
    if args.dtype != "float32":
        flags += f" --dtype {args.dtype}"
    return f"jaxdiff restore PICTURE {flags} --settings {shlex.quote(args.out)}"


def _check(args: argparse.Namespace) -> None:
    get_task(args.task)
    if args.method not in METHODS:
        raise unknown("method", args.method, METHODS)
    if args.metric not in METRICS:
        raise unknown("metric", args.metric, METRICS)
    at_least_one(args, "budget", "count", "batch_size", "calls")
    if args.seeds and args.seeds != list(range(args.seeds[0], args.seeds[0] + len(args.seeds))):
        raise ValueError(
            f"--seeds {' '.join(map(str, args.seeds))} is not possible: they count up by one, such as 0 1 2."
        )
    check_noise(args)
    if Path(args.out).suffix != ".json":
        raise ValueError(f"--out {args.out} must name a file such as settings.json.")
    check_folder(Path(args.out).parent)


def _stream(seed: int, purpose: int) -> Key:
    """Keys of measurements and of pictures, apart from those of the search's runs, which are 0, 1, … of the same seed."""
    return jax.random.fold_in(jax.random.key(seed), 2**32 - purpose)


def _truths(args: argparse.Namespace, denoiser: DenoiserLike, bar: object) -> np.ndarray:
    """Pictures of the folder, or draws from the prior."""
    if args.images is not None:
        found = from_folder(args.images, denoiser.image_shape, in_distribution=True, most=args.count)
        return np.stack([picture.pixels for picture in found])
    steps = min(100, denoiser.schedule.num_steps)
    report = bar("drawing pictures", args.count * steps, steps)  # type: ignore[operator]
    keys = batch_keys(_stream(args.seed, 2), args.count)
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
