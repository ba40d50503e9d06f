"""``jaxdiff bench``: a grid of images × tasks × methods × seeds, resumable, with a table of rows and summaries."""

import argparse
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import jax
import numpy as np
from rich import box
from rich.table import Table

from jaxdiff import hosts, plots
from jaxdiff.bench.job import Grid, Job, Outcome
from jaxdiff.bench.parts import slug
from jaxdiff.bench.report import write_report
from jaxdiff.bench.summary import METRICS, TRUNK
from jaxdiff.cli.console import open_first, progress, say, show
from jaxdiff.cli.options import (
    add_general,
    add_length,
    add_noise,
    add_open,
    add_prior,
    add_run,
    at_least_one,
    check_batch_size,
    check_noise,
    check_steps,
    load_prior,
)
from jaxdiff.engine.placement import choose_devices
from jaxdiff.files import check_folder, load_image
from jaxdiff.metrics import lpips_params
from jaxdiff.profiling import Trace
from jaxdiff.tables import rounded
from jaxdiff.tune.settings_file import read_settings

__all__ = ["ABOUT", "ALIASES", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "--images FOLDER --tasks TASK ... --methods METHOD ... --out FOLDER [options]"
ABOUT = (
    "Run every method on every task, picture and seed, and make tables of scores. Give the same command again to continue "
    "a job that was stopped."
)
EXAMPLES = (
    "jaxdiff bench --images faces/ --tasks gaussian_blur inpaint_box --methods dps ddrm mmps --out runs/first",
    "jaxdiff bench --images faces/ --count 4 --tasks dps/sr4 --methods ddnm --seeds 0 1 2 --out runs/seeds",
    "jaxdiff bench --images faces/ --tasks jpeg --methods dps --steps 1000 --no-pictures --out runs/long",
)
STEPS = 100
ALIASES = {"--data": "--images", "--num-images": "--count"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    group = parser.add_argument_group("grid")
    group.add_argument("--images", required=True, help="folder of true pictures, searched below too")
    group.add_argument("--count", type=int, default=None, help="use at most this many pictures (default: all)")
    group.add_argument(
        "--tasks",
        nargs="+",
        required=True,
        help="tasks that jaxdiff info lists, or published ones that jaxdiff tasks lists",
    )
    group.add_argument("--methods", nargs="+", required=True, help="methods that jaxdiff info lists")
    group.add_argument(
        "--settings",
        default="recorded",
        help="recorded (default): those found for the task and prior; defaults: each method's own; or a file of jaxdiff tune",
    )
    group.add_argument(
        "--seeds", nargs="+", type=int, default=[0], help="seeds; each one restores every picture once (default 0)"
    )
    add_noise(group, "default: each task's own")
    group.add_argument(
        "--lpips", choices=TRUNK, default="alex", help="network of LPIPS (default alex; DPS and DAPS have vgg)"
    )
    group = parser.add_argument_group("run")
    add_length(group, f"default {STEPS}")
    add_run(group)
    group.add_argument("--devices", type=int, default=None, help="use this many devices of this host (default: all)")
    group.add_argument(
        "--part",
        type=int,
        default=None,
        help="pictures in a unit of work (default 16 on a CPU, 256 for each other device)",
    )
    group.add_argument(
        "--distributed", action="store_true", help="this process is one of several hosts (jax.distributed)"
    )
    group = parser.add_argument_group("output")
    group.add_argument("--out", required=True, help="folder of the job; a stopped job continues there")
    group.add_argument("--no-pictures", action="store_true", help="write no PNGs")
    group.add_argument(
        "--profile", metavar="DIR", help="write an xprof trace of three chunks of steps into this folder"
    )
    add_open(group)
    add_prior(parser)
    add_general(parser, seed=False)


def run(args: argparse.Namespace) -> None:
    """Check, run what is open, show the summary."""
    batch_size = _check(args)
    if args.distributed:
        hosts.join()
    denoiser = load_prior(args)
    lpips_params(args.lpips)  # says now how to make weights that are missing
    args.steps = check_steps(denoiser, args.steps, STEPS)
    choose_devices(args.devices, 1)  # refuses what this process has not, before anything is made
    cpu = jax.local_devices()[0].platform == "cpu"
    grid = Grid(
        tasks=tuple(dict.fromkeys(args.tasks)),
        methods=tuple(dict.fromkeys(args.methods)),
        seeds=tuple(dict.fromkeys(args.seeds)),
        steps=args.steps,
        prior=args.prior,
        noise_std=args.noise_std,
        noise=args.noise,
        spacing=args.spacing,
        dtype=args.dtype,
        part=args.part or (16 if cpu else 256 * jax.local_device_count()),
        pictures=not args.no_pictures,
        calls=args.calls,
        settings=None if args.settings == "recorded" else args.settings,
        lpips=args.lpips,
    )
    table = None if args.settings in ("recorded", "defaults") else read_settings(args.settings)
    job = Job(grid, args.images, Path(args.out), denoiser, args.count, table)
    todo = job.open_parts()
    ends = list(accumulate(map(job.cost, todo)))
    say(f"{len(job.images)} images, {len(job.parts())} parts, {len(todo)} of them open for this process")
    steps = round(np.mean([len(job.grids[part.task, part.method].t) for part in todo])) if todo else 1
    trace = None if args.profile is None else Trace(args.profile)
    with progress() as bar:
        stage = bar("bench", ends[-1], steps, ends) if todo else None
        report = _traced(stage, trace) if stage is not None and trace is not None else stage
        outcome = job.run(batch_size=batch_size, devices=args.devices, report=report)
    if trace is not None:
        trace.close()
        say(trace.told())
    _tell(args, job, outcome)


def _traced(report: Callable[[int], None], trace: Trace) -> Callable[[int], None]:
    """``report``, and a step of the trace for each chunk that is done."""

    def both(count: int) -> None:
        report(count)
        if count:
            trace()

    return both


def _check(args: argparse.Namespace) -> int | str:
    at_least_one(args, "steps", "calls", "count", "part", "devices")
    check_noise(args)
    if args.profile is not None:
        check_folder(args.profile, "--profile")
    return check_batch_size(args.batch_size)


def _tell(args: argparse.Namespace, job: Job, outcome: Outcome) -> None:
    for (task, method), why in outcome.refused.items():
        say(f"left out: {method} on {task}: {why}")
    for name, why in outcome.damaged.items():
        say(f"damaged, so not taken as done: {job.out / 'parts' / name}: {why}")
    for why in outcome.unreadable.values():
        say(f"not read: {why}")
    if outcome.missing:
        say(f"{outcome.missing} parts are still open in other processes; the last of them writes the tables.")
        return
    if not outcome.rows:
        raise ValueError("nothing could be run: no method serves a task, or no picture could be read.")
    diverged = sum(row["status"] == "diverged" for row in outcome.rows)
    if diverged:
        say(f"{diverged} of {len(outcome.rows)} runs diverged (status in results.csv); the others are unaffected.")
    _print(outcome)
    figures = _overviews(job) if job.grid.pictures else []
    report = write_report(job, outcome, args.command_line)
    names = [report.name, "results.csv", "results.jsonl", "summary.md", "summary.csv", "summary.tex", *figures]
    say(f"{len(outcome.rows)} rows; written to {job.out}: {', '.join(names)}")
    open_first(report, browser=args.open)


def _print(outcome: Outcome) -> None:
    for task in dict.fromkeys(line["task"] for line in outcome.summary):
        table = Table(title=task, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("method")
        lines = [line for line in outcome.summary if line["task"] == task]
        lost = ["diverged"] if any(line["diverged"] for line in lines) else []
        for name in (*(title for title, _ in METRICS.values()), "calls", "s/image", *lost):
            table.add_column(name, justify="right", no_wrap=True)
        for line in lines:
            cells = [line["method"]]
            for metric, (_, digits) in METRICS.items():
                cells.append(rounded(line[f"{metric}_mean"], digits, "±", line[f"{metric}_error"]))
            cells += [str(line["network_calls"]), f"{line['seconds_per_image']:.2f}"]
            table.add_row(*cells, *(f"{line[name]} of {line['runs']}" if line[name] else "–" for name in lost))
        show(table)


def _overviews(job: Job, rows: int = 4) -> list[str]:
    """A figure a task: the first few images, measured and by each method, first seed."""
    written = []
    height, width, _ = job.denoiser.image_shape
    for task in job.grid.tasks:
        methods = [m for m in job.grid.methods if (task, m) not in job.refused]
        lines, titles = [], ["truth", "measured", *methods]
        for place in range(min(rows, len(job.images))):
            files = [job.picture(task, m, job.grid.seeds[0], place) for m in ("measured", *methods)]
            if not all(map(Path.exists, files)):  # not read, or diverged
                continue
            truth = load_image(job.images[place], size=(height, width), resize=True).pixels
            lines.append([truth, *(load_image(file).pixels for file in files)])
        if not lines or not methods:
            continue
        try:
            figure = plots.image_table(lines, column_titles=titles, title=task)
        except ValueError as error:  # no matplotlib
            say(f"no overview figures: {error}")
            return []
        written.append(f"overview_{slug(task)}.png")
        plots.save_figure(job.out / written[-1], figure)
    return written
