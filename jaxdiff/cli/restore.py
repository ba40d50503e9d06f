"""``jaxdiff restore``: measure a picture (or take it as the measurement) and restore it."""

import argparse
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

from jaxdiff import photos, tasks
from jaxdiff.cli.console import both_scales, open_first, progress, say, show
from jaxdiff.cli.measurement import (
    Measured,
    add_operator,
    check_operator,
    hole_of,
    noise_of,
    pastes,
    problem_of,
    recorded_as,
)
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
from jaxdiff.cli.pictures import add_frame, check_frame, collected, find, names_of, spelled_out
from jaxdiff.denoisers import Denoiser
from jaxdiff.engine import batch_keys, restore_many, stack
from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.evaluation.in_photo import photo_file_names, write_in_photo
from jaxdiff.evaluation.restored import file_names, fit, paste, score_draws, write_restored
from jaxdiff.files import load_image, out_folder
from jaxdiff.network_calls import grid_within
from jaxdiff.pages import settings_of
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for, sample
from jaxdiff.schedules import TimeGrid
from jaxdiff.tables import rounded
from jaxdiff.tasks.choice import Default, default_for
from jaxdiff.tasks.recorded import defaults_of
from jaxdiff.tune.search import read_settings

__all__ = [
    "ABOUT",
    "ALIASES",
    "EXAMPLES",
    "USAGE",
    "add_arguments",
    "check_finite",
    "drawn",
    "planned",
    "results_of",
    "run",
    "spelled_out",
]

USAGE = "PICTURE [PICTURE or FOLDER ...] --task TASK [options]"
ABOUT = (
    "Restore a picture. Without --measured the picture is degraded first, as --task says, and then restored, so that the "
    "result can be compared with the truth. With --measured the picture is taken as degraded already. Several pictures, or "
    "a folder, are restored together, each into a folder of its own; each with the same --seed, as if it were alone, so "
    "that neither their order nor their number matters."
)
EXAMPLES = (
    "jaxdiff restore face.png --task inpaint_box --count 8",
    "jaxdiff restore scratched.png --measured --task inpaint_mask --mask mask.png --resize",
    "jaxdiff restore photo.jpg --task super_resolution --align",
    "jaxdiff restore photo.jpg --measured --task inpaint_mask --mask scratches.png --frame 33,147,152",
    "jaxdiff restore a.png b.png photos/ --task inpaint_box --align --calls 100",
    "jaxdiff restore face.png --task gaussian_blur --method dps --steps 100 --out out/dps",
)
ALIASES = {"--samples": "--count"}

IMPLIED = {"zeta": "dps", "norm": "dps", "strength": "score_ald", "start": "sdedit"}
"""Options that belong to one method: naming them names it."""
LENGTH = 250
"""Network calls, or steps of a method that is named, where neither is given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", help="a picture, several, or folders of pictures")
    add_operator(parser)
    group = parser.add_argument_group("measurement")
    group.add_argument("--measured", action="store_true", help="the picture is the measurement already")
    add_frame(group)
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


class Job(NamedTuple):
    """A picture to restore: options (its path is ``image``), what was measured of it, where its results go, its settings."""

    args: argparse.Namespace
    measured: Measured
    folder: ResultsFolder
    about: Mapping[str, str] = {}


class Plan(NamedTuple):
    """All that a run needs, before anything runs."""

    args: argparse.Namespace
    chosen: Default
    denoiser: Denoiser
    jobs: list[Job]
    sampler: Sampler
    grid: TimeGrid


def planned(args: argparse.Namespace, denoiser: Denoiser | None = None, note: Callable[[str], Any] = say) -> Plan:
    """Measure, and settle what runs.

    Args:
        args: the options.
        denoiser: the prior, where it is loaded already.
        note: told what was done to the pictures.

    Raises:
        ValueError: if options, pictures, prior and method do not go together.
    """
    _check(args)
    chosen = _method(args)
    denoiser = load_prior(args) if denoiser is None else denoiser
    _check_lengths(args, denoiser)
    jobs = _jobs(args, chosen.method, denoiser, note)
    problem = jobs[0].measured.problem
    sampler = _sampler(args, chosen)
    grid = _grid(args, chosen, sampler, denoiser)
    jax.eval_shape(partial(sample, steps=grid), jax.random.key(0), denoiser, problem, sampler)  # refuses what cannot be
    noise = both_scales(float(problem.noise_std), problem.noise)
    about = partial(_about, method=chosen.method, sampler=sampler, steps=len(grid.t), noise=noise)
    jobs = [job._replace(about=about(job.args)) for job in jobs]
    return Plan(args, chosen, denoiser, jobs, sampler, grid)


def run(args: argparse.Namespace) -> None:
    """Measure, restore, score, write."""
    plan = planned(args)
    chosen, jobs, problem = plan.chosen, plan.jobs, plan.jobs[0].measured.problem
    collected(partial(_check_folder, job) for job in jobs)
    here = _root(args) if _several(args) else jobs[0].folder.path
    out_folder(here)  # after all that can be wrong with the input, so that nothing is left behind
    if jobs[0].measured.truth is not None:
        what = f"{len(jobs)} pictures" if _several(args) else jobs[0].args.image
        say(f"simulating {args.task} of {what}; add --measured if the picture is degraded already")
    noise = both_scales(float(problem.noise_std), problem.noise)
    say(f"{args.task} by {chosen.method}{chosen.why}, {len(plan.grid.t)} steps, {noise}")
    kept = here / (f".restore-{_run_name(args, chosen.method)}.npz" if _several(args) else ".restore.npz")
    draws = _draws(plan, kept)
    if _several(args):
        _write_all(jobs, draws, chosen.method)
    else:
        _write(jobs[0], draws[0], chosen.method)
    for state in here.glob(f"{kept.stem}-*.npz"):
        state.unlink(missing_ok=True)


def _jobs(args: argparse.Namespace, method: str, denoiser: Denoiser, note: Callable[[str], Any]) -> list[Job]:
    """What there is to restore; nothing is computed if any of it cannot be."""
    paths = find(args.pictures)
    each = [argparse.Namespace(**vars(args) | {"image": str(path)}) for path in paths]
    measured = collected(partial(problem_of, one, denoiser.image_shape, note) for one in each)
    folders = [_root(args) / f"{name}-{_run_name(args, method)}" for name in names_of(paths)]
    if not _several(args) and args.out is not None:
        folders = [Path(args.out)]
    return [Job(*job) for job in zip(each, measured, map(ResultsFolder, folders), strict=True)]


def _several(args: argparse.Namespace) -> bool:
    """Whether each picture has a folder of its own within --out."""
    return len(args.pictures) > 1 or os.path.isdir(args.pictures[0])


def _root(args: argparse.Namespace) -> Path:
    return Path(args.out or "out") if _several(args) else Path("out")


def _run_name(args: argparse.Namespace, method: str) -> str:
    return f"{args.task.replace('/', '-')}-{method}"


def _check_folder(job: Job) -> None:
    args, truth = job.args, job.measured.truth is not None
    names = file_names(args.count, truth=truth)
    if job.measured.photo.framing is not None:
        names += photo_file_names(measured=truth)
    inputs = [*find(args.pictures), args.mask, args.kernel, args.settings]
    job.folder.check(names, overwrite=args.overwrite, inputs=inputs)


def _about(args: argparse.Namespace, *, method: str, sampler: Sampler, steps: int, noise: str) -> dict[str, str]:
    """The settings that the report tells."""
    what = {"command": args.command_line, "picture": Path(args.image).name, "task": args.task, "noise": noise}
    how = {"method": method, "sampler": sampler, "steps": steps, "seed": args.seed}
    return settings_of(**what, **how, prior=args.prior, network=args.dtype)


def _draws(plan: Plan, kept: Path) -> np.ndarray:
    """``drawn``, with a progress bar and a file of the state."""
    count, jobs, calls = plan.args.count, len(plan.jobs), len(plan.grid.t)
    pictures = f", {jobs} pictures" if jobs > 1 else ""
    title = f"{plan.chosen.method}{pictures}, {count} draws" if count > 1 else f"{plan.chosen.method}{pictures}"
    with progress() as bar:
        return drawn(plan, report=bar(title, jobs * count * calls, calls), resume=kept)


def drawn(plan: Plan, **options: Any) -> np.ndarray:
    """[pictures, n, H, W, C]; each picture has the keys that it would have alone. ``options`` are of ``restore_many``."""
    count = plan.args.count
    keys = batch_keys(jax.random.fold_in(jax.random.key(plan.args.seed), 1), count)
    problems = [job.measured.problem for job in plan.jobs for _ in range(count)]
    outcome = restore_many(
        keys[np.arange(len(problems)) % count],
        plan.denoiser,
        stack(problems),
        plan.sampler,
        steps=plan.grid,
        batch_size=check_batch_size(plan.args.batch_size),
        **options,
    )
    return outcome.x.reshape(len(plan.jobs), count, *outcome.x.shape[1:])


def _write_all(jobs: list[Job], draws: np.ndarray, method: str) -> None:
    """A folder for each picture, then one table; a picture that diverged is named when the others are written."""
    rows, files, diverged = [], [], []
    for job, images in zip(jobs, draws, strict=True):
        if not np.isfinite(images).all():
            diverged.append(job.args.image)
            continue
        found, file = results_of(job, images, partial(_of, job.args.image))
        rows.append(found[-1] | {"image": job.args.image})
        files.append(file)
    if rows:
        scores = [name for name in rows[0] if name != "image"]
        mean = {name: float(np.mean([row[name] for row in rows])) for name in scores}
        show(_table([*rows, {"image": f"mean of {len(rows)} pictures"} | mean]))
        open_first(files[0], browser=jobs[0].args.open)
    if diverged:
        raise ValueError(f"{method} diverged on {', '.join(diverged)}; use a smaller step size or more steps.")


def _of(image: str, text: str) -> None:
    say(f"{image}: {text}")


def _write(job: Job, draws: np.ndarray, method: str) -> None:
    """Files, then the table of scores, then what the user has to know of them."""
    check_finite(draws, method)
    notes: list[str] = []
    rows, file = results_of(job, draws, notes.append)
    show(_table(rows))
    for note in notes:
        say(note)
    open_first(file, browser=job.args.open)


def check_finite(draws: np.ndarray, method: str) -> None:
    """Refuse draws that are not finite.

    Raises:
        ValueError: if there is one.
    """
    if not np.isfinite(draws).all():
        raise ValueError(f"{method} diverged; use a smaller step size or more steps.")


def results_of(job: Job, draws: np.ndarray, note: Callable[[str], Any]) -> tuple[list[dict[str, Any]], Path]:
    """Write the files of one picture: their scores, and the file to open first."""
    args, folder, (problem, truth, photo) = job.args, job.folder, job.measured
    verdict = fit(draws, problem)
    if pastes(args, problem):
        before = max(row["misfit_rms"] for row in score_draws(draws, problem))
        draws = paste(draws, problem)
        note(f"known pixels are those of the picture, exactly; the draws missed them by {before:.3g} (RMS)")
    written = write_restored(folder, draws, problem, truth, about=job.about)
    files = written.files
    if photo.framing is not None:
        view = None if truth is None else np.asarray(problem.operator.view(problem.y))
        whole, hole = load_image(args.image).pixels, hole_of(args, problem, photo)
        files = write_in_photo(folder, whole, photo.framing, draws[0], view=view, hole=hole) + files
        if hole is not None and (left_out := photos.outside(hole, photo.framing)) > 0:
            note(f"warning: {left_out:.0%} of the missing pixels are outside the frame and stay as they are")
        if photo.framing.side < draws.shape[1]:
            note(f"restored_1.png is larger than its frame in the photo, which has {photo.framing.side} pixels a side")
    for text in [*written.notes, *([] if verdict is None else [f"warning: {verdict}"])]:
        note(text)
    note(f"{len(files)} files in {folder.path}")
    return written.rows, folder.path / written.files[0]


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
    check_frame(args)


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
