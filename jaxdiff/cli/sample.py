"""``jaxdiff sample``: draw images from a prior."""

import argparse
import glob
from collections.abc import Callable

import jax
import numpy as np

from jaxdiff import samplers
from jaxdiff.cli.console import (
    add_prior,
    add_run,
    check_batch_size,
    check_picture_path,
    check_steps,
    console,
    load_prior,
    progress,
)
from jaxdiff.engine import batch_keys, restore_many
from jaxdiff.files import out_folder, save_image
from jaxdiff.names import unknown
from jaxdiff.plots import sheet
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for

__all__ = ["add_arguments", "run"]

UNCONDITIONAL: dict[str, Callable[[], Sampler]] = {"ddpm": samplers.ddpm, "ddim": samplers.ddim}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_prior(parser)
    add_run(parser, steps=250)
    parser.add_argument("-n", "--num", type=int, default=16, help="how many images (default 16)")
    parser.add_argument("--sampler", default="ddpm", help="ddpm or ddim (default ddpm)")
    parser.add_argument("--out", default="samples.png", help="the sheet of samples (default samples.png)")
    parser.add_argument("--columns", type=int, default=None, help="images a row; about the square root by default")


def run(args: argparse.Namespace) -> None:
    """Draw, tile, write."""
    if args.num < 1:
        raise ValueError(f"-n {args.num} is not possible: draw at least one image.")
    if args.sampler not in UNCONDITIONAL:
        raise unknown("sampler", args.sampler, UNCONDITIONAL)
    size = check_batch_size(args.batch_size)
    if args.columns is not None and args.columns < 1:
        raise ValueError(f"--columns {args.columns} is not possible: it is at least 1.")
    out = check_picture_path(args.out, "samples.png")
    denoiser = load_prior(args)
    check_steps(denoiser, args.steps)
    sampler = UNCONDITIONAL[args.sampler]()
    calls = len(grid_for(denoiser, sampler, args.steps, args.spacing).t)
    out_folder(out.parent)
    resume = out.with_name(f".{out.stem}.npz")
    with progress() as bar:
        outcome = restore_many(
            batch_keys(jax.random.key(args.seed), args.num),
            denoiser,
            None,
            sampler,
            steps=args.steps,
            spacing=args.spacing,
            batch_size=size,
            report=bar("sampling", args.num * calls, calls),
            resume=resume,
        )
    save_image(out, sheet(list(np.clip(outcome.x, -1, 1)), columns=args.columns))
    for state in out.parent.glob(f".{glob.escape(out.stem)}-[0-9]*.npz"):
        state.unlink(missing_ok=True)
    console.print(f"{args.num} samples in {out} ({outcome.seconds:.1f} s of sampling)")
