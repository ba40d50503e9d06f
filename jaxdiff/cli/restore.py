"""``jaxdiff restore``: measure a picture (or take it as the measurement) and restore it."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table

from jaxdiff import tasks
from jaxdiff.cli.console import both_scales, open_first, progress, say, show
from jaxdiff.cli.measurement import add_operator, check_operator, noise_of, pastes, problem_of, recorded_as
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
from jaxdiff.denoisers import Denoiser
from jaxdiff.engine import batch_keys, restore_many, stack
from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.evaluation.restored import file_names, fit, paste, score_draws, write_restored
from jaxdiff.network_calls import grid_within
from jaxdiff.pages import settings_of
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for, sample
from jaxdiff.schedules import TimeGrid
from jaxdiff.tables import rounded
from jaxdiff.tasks.choice import Default, default_for
from jaxdiff.tasks.recorded import defaults_of
from jaxdiff.tune.search import read_settings

__all__ = ["ABOUT", "ALIASES", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "PICTURE --task TASK [options]"
ABOUT = (
    "Restore a picture. Without --measured the picture is degraded first, as --task says, and then restored, so that the "
    "result can be compared with the truth. With --measured the picture is taken as degraded already."
)
EXAMPLES = (
    "jaxdiff restore face.png --task inpaint_box --count 8",
    "jaxdiff restore scratched.png --measured --task inpaint_mask --mask mask.png --resize",
    "jaxdiff restore face.png --task gaussian_blur --method dps --steps 100 --out out/dps",
)
ALIASES = {"--samples": "--count"}

IMPLIED = {"zeta": "dps", "norm": "dps", "strength": "score_ald", "start": "sdedit"}
"""Options that belong to one method: naming them names it."""
LENGTH = 250
"""Network calls, or steps of a method that is named, where neither is given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("image", help="the picture")
    add_operator(parser)
    group = parser.add_argument_group("measurement")
    group.add_argument("--measured", action="store_true", help="the picture is the measurement already")
    group.add_argument("--resize", action="store_true", help="centre-crop and resize to what the prior takes")
    add_noise(group, "the task's by default, or that of 8 bits for --measured with a mask")
    group = parser.add_argument_group("method")
    group.add_argument("--method", default=None, help="see jaxdiff info; the best known for the task by default")
    group.add_argument(
        "--settings",
        default=None,
        help="defaults: the method's own (default with --method); recorded: those found for the task and prior (default "
        "without); or a file of jaxdiff tune",
    )
    add_length(group, f"default: {LENGTH} with --method, else --calls {LENGTH}")
    add_run(group)
    group.add_argument("--zeta", type=float, default=None, help="DPS: step size ζ")
    group.add_argument("--norm", default=None, help="DPS: residual, gradient or squared")
    group.add_argument("--strength", type=float, default=None, help="Score ALD: strength of the guidance")
    group.add_argument("--start", type=int, default=None, help="SDEdit: forward steps")
    group = parser.add_argument_group("output")
    group.add_argument("--count", type=int, default=1, help="how many restorations to draw (default 1)")
    group.add_argument("--out", default=None, help="folder for the results (default out/PICTURE-TASK-METHOD)")
    add_open(group)
    add_prior(parser)
    add_general(parser, overwrite=True)


def run(args: argparse.Namespace) -> None:
    """Measure, restore, score, write."""
    _check(args)
    chosen = _method(args)
    denoiser = load_prior(args)
    _check_lengths(args, denoiser)
    problem, truth = problem_of(args, denoiser.image_shape, say)
    sampler = _sampler(args, chosen)
    grid = _grid(args, chosen, sampler, denoiser)
    jax.eval_shape(partial(sample, steps=grid), jax.random.key(0), denoiser, problem, sampler)  # refuses what cannot be
    folder = ResultsFolder(args.out or Path("out") / _folder_name(args, chosen.method))
    names = file_names(args.count, truth=truth is not None)
    folder.check(names, overwrite=args.overwrite, inputs=[args.image, args.mask, args.kernel, args.settings])
    folder.make()  # after all that can be wrong with the input, so that nothing is left behind
    if truth is not None:
        say(f"simulating {args.task} of {args.image}; add --measured if the picture is degraded already")
    noise = both_scales(float(problem.noise_std), problem.noise)
    say(f"{args.task} by {chosen.method}{chosen.why}, {len(grid.t)} steps, {noise}")
    draws = _draws(args, chosen.method, denoiser, problem, sampler, grid, folder)
    _write(args, folder, draws, problem, truth, _about(args, chosen.method, sampler, len(grid.t), noise))


def _folder_name(args: argparse.Namespace, method: str) -> str:
    return f"{Path(args.image).stem}-{args.task.replace('/', '-')}-{method}"


def _about(args: argparse.Namespace, method: str, sampler: Sampler, steps: int, noise: str) -> dict[str, str]:
    """The settings that the report tells."""
    what = {"command": args.command_line, "picture": Path(args.image).name, "task": args.task, "noise": noise}
    how = {"method": method, "sampler": sampler, "steps": steps, "seed": args.seed}
    return settings_of(**what, **how, prior=args.prior, network=args.dtype)


def _draws(
    args: argparse.Namespace,
    method: str,
    denoiser: Denoiser,
    problem: Problem,
    sampler: Sampler,
    grid: TimeGrid,
    folder: ResultsFolder,
) -> np.ndarray:
    """[n, H, W, C]."""
    calls = len(grid.t)
    with progress() as bar:
        outcome = restore_many(
            batch_keys(jax.random.fold_in(jax.random.key(args.seed), 1), args.count),
            denoiser,
            stack([problem] * args.count),
            sampler,
            steps=grid,
            batch_size=check_batch_size(args.batch_size),
            report=bar(f"{method}, {args.count} draws" if args.count > 1 else method, args.count * calls, calls),
            resume=folder.path / ".restore.npz",
        )
    if not np.isfinite(outcome.x).all():
        raise ValueError(f"{method} diverged; use a smaller step size or more steps.")
    return outcome.x


def _write(
    args: argparse.Namespace,
    folder: ResultsFolder,
    draws: np.ndarray,
    problem: Problem,
    truth: np.ndarray | None,
    about: dict[str, str],
) -> None:
    """Files, then the table of scores, then what the user has to know of them."""
    verdict = fit(draws, problem)
    if pastes(args, problem):
        before = max(row["misfit_rms"] for row in score_draws(draws, problem))
        draws = paste(draws, problem)
        say(f"known pixels are those of the picture, exactly; the draws missed them by {before:.3g} (RMS)")
    written = write_restored(folder, draws, problem, truth, about=about)
    for state in folder.path.glob(".restore-*.npz"):
        state.unlink(missing_ok=True)
    show(_table(written.rows))
    for note in [*written.notes, *([] if verdict is None else [f"warning: {verdict}"])]:
        say(note)
    say(f"{len(written.files)} files in {folder.path}")
    open_first(folder.path / written.files[0], browser=args.open)


def _method(args: argparse.Namespace) -> Default:
    """The method that is asked for, the one that the settings are for, or the best known for the task."""
    if args.method is not None:
        return Default(args.method, None, "")
    for option, method in IMPLIED.items():
        if getattr(args, option) is not None:
            return Default(method, None, "")
    task = recorded_as(args.task)
    if args.settings not in (None, "defaults", "recorded"):
        held = sorted(read_settings(args.settings).get(args.prior, {}).get(task, {}))
        if len(held) > 1:
            raise ValueError(
                f"{args.settings} holds settings of {', '.join(held)} for {task}; choose one with --method."
            )
        if held:
            return Default(held[0], None, " (the settings' method)")
    best = default_for(task, args.prior, args.steps or args.calls or LENGTH, noise=noise_of(args))
    return best._replace(why=f" ({best.why})")


def _named(args: argparse.Namespace) -> bool:
    """Whether the user named the method, by --method or by an option that only one method has."""
    return args.method is not None or any(getattr(args, option) is not None for option in IMPLIED)


def _sampler(args: argparse.Namespace, chosen: Default) -> Sampler:
    settings = args.settings or ("defaults" if _named(args) else "recorded")
    table: dict[str, Any] | None = None
    if settings == "defaults":
        table = defaults_of(chosen.method, args.prior)
    elif settings != "recorded":
        table = read_settings(settings)
    elif chosen.options is not None:  # these and no others: it won with them
        table = {args.prior: {"default": {chosen.method: chosen.options}}}
    options = {name: value for name in IMPLIED if (value := getattr(args, name)) is not None}
    task, noise = recorded_as(args.task), noise_of(args)
    return tasks.sampler(chosen.method, task, args.prior, table=table, noise=noise, **options)


def _grid(args: argparse.Namespace, chosen: Default, sampler: Sampler, denoiser: Denoiser) -> TimeGrid:
    """--steps are steps; --calls, and what is spent on the best known method, are network calls."""
    if args.steps is not None or (args.calls is None and _named(args)):
        steps = min(LENGTH, denoiser.schedule.num_steps) if args.steps is None else args.steps
        return grid_for(denoiser, sampler, steps, args.spacing)
    return grid_within(sampler, denoiser, chosen.calls or args.calls or LENGTH, args.spacing)


def _check(args: argparse.Namespace) -> None:
    at_least_one(args, "count", "calls")
    check_batch_size(args.batch_size)
    check_noise(args)
    check_operator(args)


def _check_lengths(args: argparse.Namespace, denoiser: Denoiser) -> None:
    if args.steps is not None:
        check_steps(denoiser, args.steps)
    total = denoiser.schedule.num_steps
    if args.start is not None and args.start > total:
        raise ValueError(f"--start {args.start} is beyond this prior's {total} forward steps; choose at most {total}.")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=None)
    columns = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3), "misfit_rms": ("misfit RMS", 4)}
    columns = {name: column for name, column in columns.items() if name in rows[0]}
    table.add_column("image")
    for title, _ in columns.values():
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(row["image"], *(rounded(row[name], digits) for name, (_, digits) in columns.items()))
    return table
