"""``jaxdiff sample``: draw images from a prior."""

import argparse

import jax
import numpy as np

from jaxdiff.cli.console import open_first, progress, say
from jaxdiff.cli.options import (
    add_general,
    add_prior,
    add_run,
    at_least_one,
    check_batch_size,
    check_count,
    check_picture_path,
    check_steps,
    load_prior,
)
from jaxdiff.engine import batch_keys, restore_many
from jaxdiff.engine.bookmark import fingerprint, states
from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.files import out_folder, save_image
from jaxdiff.names import unknown
from jaxdiff.plots import sheet
from jaxdiff.samplers import UNCONDITIONAL
from jaxdiff.samplers.loop import grid_for

__all__ = ["ABOUT", "ALIASES", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "[options]"
ABOUT = "Draw images from a prior: a sheet of all, and each as a file of its own."
EXAMPLES = (
    "jaxdiff sample --count 16 --out out/faces.png",
    "jaxdiff sample --sampler dpm_solver --steps 20 --count 4",
    "jaxdiff sample --prior checkpoints/imagenet64 --label 207 --seed 1",
)
ALIASES = {"-n": "--count", "--num": "--count"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    group = parser.add_argument_group("what to draw")
    group.add_argument("--count", type=int, default=16, help="number of images (default 16)")
    group.add_argument("--sampler", default="ddpm", help=f"{', '.join(UNCONDITIONAL)} (default ddpm)")
    group.add_argument("--steps", type=int, default=None, help="steps of a run (default 250)")
    add_run(group)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        default="out/samples.png",
        help="the sheet of images; a folder of the same name gets each image (default out/samples.png)",
    )
    group.add_argument(
        "--columns",
        type=int,
        default=None,
        help="images in a row of the sheet (default: about the square root of --count)",
    )
    add_prior(parser)
    add_general(parser, overwrite=True)


def run(args: argparse.Namespace) -> None:
    """Draw, tile, write."""
    at_least_one(args, "count", "columns")
    if args.sampler not in UNCONDITIONAL:
        raise unknown("sampler", args.sampler, UNCONDITIONAL)
    out = check_picture_path(args.out, "samples.png")
    batch_size = check_batch_size(args.batch_size)
    folder = ResultsFolder(out.with_suffix(""), beside=out)
    denoiser = load_prior(args)
    check_count(args.count, denoiser.image_shape)
    names = [f"{i + 1:0{len(str(args.count))}d}.png" for i in range(args.count)]
    args.steps = check_steps(denoiser, args.steps)
    sampler = UNCONDITIONAL[args.sampler]()
    grid = grid_for(denoiser, sampler, args.steps, args.spacing)
    kept = out.with_name(f".{out.stem}.npz")
    run = fingerprint((denoiser, sampler, grid, args.seed, args.count))
    folder.check(names, overwrite=args.overwrite, run=run, goes_on=bool(states(kept)))
    out_folder(out.parent)
    with progress() as bar:
        outcome = restore_many(
            batch_keys(jax.random.key(args.seed), args.count),
            denoiser,
            None,
            sampler,
            steps=grid,
            batch_size=batch_size,
            report=bar("sampling", args.count * len(grid.t), len(grid.t)),
            resume=kept,
        )
    if not np.isfinite(outcome.x).all():
        raise ValueError(f"{args.sampler} diverged with {args.prior}; use more --steps or another --sampler.")
    images = list(np.clip(outcome.x, -1, 1))
    folder.make()
    folder.begin(names)
    for name, image in zip(names, images, strict=True):
        save_image(folder.path / name, image)
        folder.wrote(name)
    save_image(out, sheet(images, columns=args.columns))
    folder.finish()
    for state in states(kept):
        state.unlink(missing_ok=True)
    say(f"{args.count} images in {folder.path} ({outcome.seconds:.1f} s of sampling)")
    open_first(out)
