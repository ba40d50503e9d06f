"""``jaxdiff restore``: measure a picture (or take it as the measurement) and restore it."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import operators, tasks
from jaxdiff.cli import restored
from jaxdiff.cli.console import (
    add_prior,
    add_run,
    both_scales,
    check_batch_size,
    check_noise,
    check_steps,
    console,
    load_prior,
    progress,
)
from jaxdiff.engine import batch_keys, restore_many, stack
from jaxdiff.files import load_image, load_mask, out_folder
from jaxdiff.names import unknown
from jaxdiff.network_calls import grid_within
from jaxdiff.operators.base import Operator
from jaxdiff.problems import Problem, observe
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for, sample
from jaxdiff.tasks.choice import Default, default_for
from jaxdiff.tune.search import read_settings

__all__ = ["add_arguments", "run"]

IMPLIED = {"zeta": "dps", "norm": "dps", "strength": "score_ald", "start": "sdedit"}
"""Options that belong to one method: naming them names it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("image", help="the picture")
    parser.add_argument("--task", default="inpaint_box", help="what was (or will be) done to it; see jaxdiff info")
    parser.add_argument(
        "--method", default=None, help="how to restore it; the best within --steps network calls by default"
    )
    parser.add_argument("--noise_std", type=float, default=None, help="σ on the [-1, 1] scale; the task's by default")
    parser.add_argument("--samples", type=int, default=1, help="how many restorations to draw (default 1)")
    parser.add_argument("--settings", default=None, help="hyper-parameters that jaxdiff tune wrote")
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
    parser.set_defaults(spacing=None)  # each method's own


def run(args: argparse.Namespace) -> None:
    """Measure, restore, score, write."""
    _check(args)
    chosen = _method(args)
    denoiser = load_prior(args)
    check_steps(denoiser, args.steps)
    total = denoiser.schedule.num_steps
    if args.start is not None and args.start > total:
        raise ValueError(f"--start {args.start} is beyond this prior's {total} forward steps; choose at most {total}.")
    height, width, _ = denoiser.image_shape
    loaded = load_image(args.image, size=(height, width), resize=args.resize)
    for note in loaded.notes:
        console.print(f"note: {args.image} {note}")
    options = {k: v for k in IMPLIED if (v := getattr(args, k)) is not None}
    sampler = _sampler(args, chosen, options)
    grid = (
        grid_within(sampler, denoiser, chosen.calls or args.steps, args.spacing)
        if args.method is None
        else grid_for(denoiser, sampler, args.steps, args.spacing)
    )
    problem = _problem(args, loaded.pixels)
    jax.eval_shape(partial(sample, steps=grid), jax.random.key(0), denoiser, problem, sampler)  # refuses what cannot be
    restored.check(Path(args.out), [args.image, args.mask, args.settings])
    out = out_folder(args.out)  # after all that can be wrong with the input, so that nothing is left behind
    console.print(
        f"{args.task} by {chosen.method}{f' ({chosen.why})' if chosen.why else ''}, {both_scales(float(problem.noise_std))}"
    )
    calls = len(grid.t)
    with progress() as bar:
        outcome = restore_many(
            batch_keys(jax.random.fold_in(jax.random.key(args.seed), 1), args.samples),
            denoiser,
            stack([problem] * args.samples),
            sampler,
            steps=grid,
            batch_size=check_batch_size(args.batch_size),
            report=bar(f"{chosen.method}, {args.samples} samples", args.samples * calls, calls),
            resume=out / ".restore.npz",
        )
    if not np.isfinite(outcome.x).all():
        raise ValueError(f"{chosen.method} diverged; use a smaller step size or more steps.")
    restored.write(out, outcome.x, problem, None if args.measured else loaded.pixels)
    for state in out.glob(".restore-*.npz"):
        state.unlink(missing_ok=True)


def _method(args: argparse.Namespace) -> Default:
    """The method that is asked for, the one that the settings are for, or the best known for the task."""
    if args.method is not None:
        return Default(args.method, None, "")
    for option, method in IMPLIED.items():
        if getattr(args, option) is not None:
            return Default(method, None, "")
    task = _known_as(args.task)
    if args.settings is not None:
        held = sorted(read_settings(args.settings).get(args.prior, {}).get(task, {}))
        if len(held) > 1:
            raise ValueError(
                f"{args.settings} holds settings of {', '.join(held)} for {task}; choose one with --method."
            )
        if held:
            return Default(held[0], None, "the settings' method")
    return default_for(task, args.prior, args.steps)


def _sampler(args: argparse.Namespace, chosen: Default, options: dict[str, Any]) -> Sampler:
    if args.settings is not None:
        table = read_settings(args.settings)
    elif chosen.options is not None:  # these and no others: it won with them
        table = {args.prior: {"default": {chosen.method: chosen.options}}}
    else:
        table = None
    return tasks.sampler(chosen.method, _known_as(args.task), args.prior, table=table, **options)


def _known_as(task: str) -> str:
    """The task that settings were searched for: a mask of one's own is nearest to a box."""
    return "inpaint_box" if task == "inpaint_mask" else task


def _check(args: argparse.Namespace) -> None:
    if args.samples < 1:
        raise ValueError(f"--samples {args.samples} is not possible: draw at least one.")
    check_batch_size(args.batch_size)
    check_noise(args.noise_std)
    if (args.task == "inpaint_mask") != (args.mask is not None):
        raise ValueError("--task inpaint_mask and --mask FILE go together; give both or neither.")
    if not {"/", ":"} & {*args.task} and args.task not in (known := [*tasks.names("default"), "inpaint_mask"]):
        raise unknown("task", args.task, known)
    if args.task != "inpaint_mask":
        tasks.get_task(args.task)  # refuses an unknown one, and Poisson noise


def _problem(args: argparse.Namespace, pixels: np.ndarray) -> Problem:
    """The measurement: simulated from the picture, or the picture itself."""
    place, noise = jax.random.split(jax.random.key(args.seed))
    if args.task == "inpaint_mask":
        mask = load_mask(args.mask, pixels.shape[:2])
        operator: Operator = operators.inpaint_mask(image_shape=pixels.shape, mask=mask)
        std = 0.05
    else:
        task = tasks.get_task(args.task)
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
