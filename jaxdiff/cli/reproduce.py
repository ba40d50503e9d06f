"""``jaxdiff reproduce``: the study's tables, figures and claims."""

import argparse
import dataclasses
import shutil
import time
from pathlib import Path

import jax
import numpy as np
from rich import box
from rich.table import Table

from jaxdiff import metrics
from jaxdiff.cli.console import open_first, progress, results, say, show
from jaxdiff.cli.options import (
    add_general,
    add_open,
    add_prior,
    at_least_one,
    check_batch_size,
    check_steps,
    load_prior,
)
from jaxdiff.denoisers import Denoiser
from jaxdiff.evaluation.pictures import Picture, from_folder, without_download
from jaxdiff.files import check_folder, out_folder
from jaxdiff.pages import settings_of
from jaxdiff.study import claims, paper, report
from jaxdiff.study.page import write_page_of_study
from jaxdiff.study.paper import Study, plan, run_study
from jaxdiff.tables import counted

__all__ = ["ABOUT", "ALIASES", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "[options]"
ABOUT = "Run the study again: its Tables 1 and 2, its figures, run times, and each of its claims judged."
EXAMPLES = (
    "jaxdiff reproduce --smoke",
    "jaxdiff reproduce --images faces/ --ood animals/ --count 5 --out out/real",
    "jaxdiff reproduce --prior checkpoints/ffhq256 --images faces/ --seeds 0 1 2 --full",
)
ALIASES = {"--num-images": "--count"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--images", default=None, help="folder of in-distribution pictures (default: draws from the prior)"
    )
    group.add_argument("--ood", default=None, help="folder of out-of-distribution pictures (default: a cat)")
    group.add_argument("--count", type=int, default=None, help="use at most this many from each folder (default: all)")
    group = parser.add_argument_group("run")
    group.add_argument("--steps", type=int, default=None, help="steps of a run (default 100)")
    group.add_argument(
        "--seeds", nargs="+", type=int, default=[0], help="seeds; each one restores every picture once (default 0)"
    )
    group.add_argument(
        "--batch-size", default="auto", help="images restored together; auto (default) takes as many as fit into memory"
    )
    group.add_argument(
        "--full", action="store_true", help="take all steps of the prior's schedule, as the study does (1000)"
    )
    group.add_argument("--smoke", action="store_true", help="a quick check: a few steps, at one noise level")
    group = parser.add_argument_group("output")
    group.add_argument("--out", default="out/study", help="folder for tables and figures (default out/study)")
    add_open(group)
    add_prior(parser)
    add_general(parser)


def run(args: argparse.Namespace) -> None:
    """Run the study, judge its claims, write the report, print the tables."""
    at_least_one(args, "count")
    check_folder(args.out)
    denoiser = load_prior(args)
    study = _study(args, denoiser)
    check_steps(denoiser, study.steps)
    begun = time.monotonic()
    with progress() as bar:
        pictures = _pictures(args, denoiser, bar)
        out = out_folder(args.out)
        faces = sum(picture.in_distribution for picture in pictures)
        stages = plan(study, denoiser, faces, len(pictures) - faces)
        bars = {name: bar(name, total, per_image) for name, (total, per_image) in stages.items()}
        found = run_study(study, denoiser, pictures, report=bars.get, resume=out_folder(out / ".runs"))
    lpips = jax.jit(jax.vmap(metrics.lpips))
    drift = claims.face_drift(found, study, lambda a, b: np.asarray(lpips(a, b)))
    judged = claims.claims(found, study, drift)
    about = _about(args, study, denoiser, pictures)
    written = report.write_report(out, found, study, about, judged)
    settings = settings_of(command=args.command_line, prior=args.prior, network=args.dtype, seed=args.seed)
    written = [write_page_of_study(out, found, study, about, judged, settings), *written]
    shutil.rmtree(out / ".runs", ignore_errors=True)
    _print(found, study, judged)
    if lost := report.diverged(found):
        say(f"note: {lost}")
    say(f"{time.monotonic() - begun:.0f} s in all; {len(written)} files in {out}")
    open_first(written[0], browser=args.open)


def _study(args: argparse.Namespace, denoiser: Denoiser) -> Study:
    total, steps = denoiser.schedule.num_steps, args.steps if args.steps is None else check_steps(denoiser, args.steps)
    seeds = tuple(dict.fromkeys(args.seeds))
    study = Study(seeds=seeds, seed=args.seed, batch_size=check_batch_size(args.batch_size), prior=args.prior)
    if args.smoke:
        return dataclasses.replace(study, steps=steps or 4, forward_steps=(2, 4), noise_stds=(0.05,), samples=2)
    return dataclasses.replace(study, steps=steps or (total if args.full else min(100, total)))


def _pictures(args: argparse.Namespace, denoiser: Denoiser, bar: object) -> list[Picture]:
    """Truths: from the folders where they are named, else without any download."""
    shape = denoiser.image_shape
    pictures = []
    if args.images is not None:
        pictures += from_folder(args.images, shape, in_distribution=True, most=args.count)
    if args.ood is not None:
        pictures += from_folder(args.ood, shape, in_distribution=False, most=args.count)
    if args.images is None or args.ood is None:
        steps, draws = (4, 1) if args.smoke else (100, 2)
        ours = without_download(denoiser, draws=draws, steps=steps, seed=args.seed, bar=bar, faces=args.images is None)
        wanted = {True: args.images is None, False: args.ood is None}
        pictures += [picture for picture in ours if wanted[picture.in_distribution]]
    pictures = sorted(pictures, key=lambda picture: not picture.in_distribution)
    faces = {picture.name for picture in pictures if picture.in_distribution}
    return [p if p.in_distribution or p.name not in faces else p._replace(name=f"{p.name} (out)") for p in pictures]


def _about(args: argparse.Namespace, study: Study, denoiser: Denoiser, pictures: list[Picture]) -> str:
    """What was run, in a paragraph: a table without its setting says nothing."""
    height, width, _ = denoiser.image_shape
    inside = [p.name for p in pictures if p.in_distribution]
    outside = [p.name for p in pictures if not p.in_distribution]
    device = jax.devices()[0].device_kind
    return (
        f"The prior is {Path(args.prior).name}, for images of {height}×{width} pixels. A run has {study.steps} reverse steps "
        f"of {denoiser.schedule.num_steps}; those of Table 1 have N of N. Each image has {counted(len(study.seeds), 'seed')}. "
        f"The device is {device}. In distribution: {', '.join(inside)}. Out of distribution: {', '.join(outside) or 'none'}. "
        "σ is on the [-1, 1] scale."
    )


def _print(found: paper.Results, study: Study, judged: list[claims.Claim]) -> None:
    parts = {
        f"Table 1, {where}: N forward steps, then N reverse steps": report.table_1(found, study, (inside,))
        for inside, where in ((True, "in distribution"), (False, "out of distribution"))
    }
    parts |= {f"Table 2, {task}": report.table_2(found, study, [task]) for task in study.tasks}
    parts["Table 3, our best settings and a harder mask"] = report.table_3(found, study)
    parts["Run time (warm)"] = report.run_time_ratios(found, study)
    for title, (header, lines) in parts.items():
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for name in header:
            table.add_column(
                name.split()[-1] if "PSNR" in name else name, justify="left" if name == "method" else "right"
            )
        for line in lines:
            table.add_row(*line)
        show(table)
    for claim in judged:
        mark = "[green]holds        [/]" if claim.holds else "[red]does not hold[/]"
        results.print(f"{mark}  {claim.sentence}\n               seen: {claim.seen}", soft_wrap=True)
