"""``jaxdiff restore``: measure a picture (or take it as the measurement) and restore it."""

import argparse
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

from jaxdiff import photos
from jaxdiff.cli.console import both_scales, open_first, progress, say, show
from jaxdiff.cli.measurement import (
    Measured,
    add_operator,
    check_operator,
    hole_of,
    pastes,
    problem_of,
)
from jaxdiff.cli.method import LENGTH, check_lengths, grid_of, method_of, sampler_of, settings_note
from jaxdiff.cli.options import (
    add_general,
    add_length,
    add_noise,
    add_open,
    add_prior,
    add_run,
    at_least_one,
    check_batch_size,
    check_count,
    check_noise,
    load_prior,
)
from jaxdiff.cli.pictures import add_frame, check_frame, collected, find, names_of, spelled_out
from jaxdiff.denoisers import Denoiser
from jaxdiff.engine import batch_keys, restore_many, stack
from jaxdiff.engine.batches import chunk_size
from jaxdiff.engine.bookmark import fingerprint, states
from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.evaluation.in_photo import RESTORED, in_photo, photo_file_names, section_of
from jaxdiff.evaluation.index import Entry, entry, write_index
from jaxdiff.evaluation.restored import file_names, fit, paste, score_draws, write_restored
from jaxdiff.files import load_image, out_folder
from jaxdiff.pages import REPORT, Section, settings_of
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import chunks, sample
from jaxdiff.schedules import TimeGrid
from jaxdiff.tables import rounded
from jaxdiff.tasks.choice import Default

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
    "Restore a picture. Without --measured the picture is degraded first, as --task says, and then restored. So you can "
    "compare the result with the truth. With --measured the picture is already degraded. You can give several pictures, or a "
    "folder. Each picture then gets its own folder of results. It is restored as if it were alone, with the same --seed. So "
    "the order and the number of pictures do not matter."
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", help="pictures, or folders of pictures")
    add_operator(parser)
    group = parser.add_argument_group("measurement")
    group.add_argument("--measured", action="store_true", help="the picture is already degraded")
    add_frame(group)
    add_noise(group, "default: the task's own, or that of 8 bits for --measured with a mask")
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method", default=None, help="a method that jaxdiff info lists (default: the best known for the task)"
    )
    group.add_argument(
        "--settings",
        default=None,
        help="defaults: the method's own, as in Python (default with --method); recorded: those found for the task and "
        "prior (default without --method); or a file of jaxdiff tune",
    )
    add_length(group, f"default: {LENGTH} with --method, else --calls {LENGTH}")
    add_run(group)
    group.add_argument("--zeta", type=float, default=None, help="DPS: step size ζ")
    group.add_argument("--norm", default=None, help="DPS: residual, gradient or squared")
    group.add_argument("--strength", type=float, default=None, help="Score ALD: strength of the guidance")
    group.add_argument("--start", type=int, default=None, help="SDEdit: forward steps")
    group = parser.add_argument_group("output")
    group.add_argument("--count", type=int, default=1, help="number of restorations to draw (default 1)")
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
    chosen = method_of(args)
    denoiser = load_prior(args) if denoiser is None else denoiser
    check_lengths(args, denoiser)
    jobs = _jobs(args, chosen.method, denoiser, note)
    check_count(args.count, denoiser.image_shape, len(jobs))
    problem = jobs[0].measured.problem
    sampler = sampler_of(args, chosen)
    grid = grid_of(args, chosen, sampler, denoiser)
    _, *stretch = chunks(grid, chunk_size(len(grid.t), math.prod(denoiser.image_shape[:2])))[-1]
    # This refuses what cannot be. It is as long as a part of the run, for which JAX uses the trace again.
    jax.eval_shape(partial(sample, steps=TimeGrid(*stretch)), jax.random.key(0), denoiser, problem, sampler)
    noise = both_scales(float(problem.noise_std), problem.noise)
    about = partial(_about, method=chosen.method, sampler=sampler, steps=len(grid.t), noise=noise)
    jobs = [job._replace(about=about(job.args)) for job in jobs]
    return Plan(args, chosen, denoiser, jobs, sampler, grid)


def run(args: argparse.Namespace) -> None:
    """Measure, restore, score, write."""
    plan = planned(args)
    chosen, jobs, problem = plan.chosen, plan.jobs, plan.jobs[0].measured.problem
    here = _root(args) if _several(args) else jobs[0].folder.path
    kept = here / (f".restore-{_run_name(args, chosen.method)}.npz" if _several(args) else ".restore.npz")
    same = fingerprint((plan.denoiser, plan.sampler, plan.grid, args.seed, args.count))
    collected(partial(_check_folder, job, run=same, goes_on=bool(states(kept))) for job in jobs)
    if _several(args):
        _check_index(args)
    out_folder(here)  # after all that can be wrong with the input, so that nothing is left behind
    if jobs[0].measured.truth is not None:
        what = f"{len(jobs)} pictures" if _several(args) else jobs[0].args.image
        say(f"simulating {args.task} of {what}; add --measured if the picture is already degraded")
    noise = both_scales(float(problem.noise_std), problem.noise)
    say(f"{args.task} by {chosen.method}{chosen.why or settings_note(args)}, {len(plan.grid.t)} steps, {noise}")
    draws = _draws(plan, kept)
    if _several(args):
        _write_all(args, jobs, draws, chosen.method)
    else:
        _write(jobs[0], draws[0], chosen.method)
    for state in states(kept):
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


def _check_folder(job: Job, *, run: str, goes_on: bool) -> None:
    args, truth = job.args, job.measured.truth is not None
    names = file_names(args.count, truth=truth)
    if job.measured.photo.framing is not None:
        names += photo_file_names(measured=truth)
    inputs = [*find(args.pictures), args.mask, args.kernel, args.settings]
    run += fingerprint(job.measured.problem)
    job.folder.check(names, overwrite=args.overwrite, inputs=inputs, run=run, goes_on=goes_on)


def _check_index(args: argparse.Namespace) -> None:
    """See that the page over all pictures may be written; one of an earlier command is replaced."""
    folder = ResultsFolder(_root(args))
    only = folder.ours() <= {REPORT}
    folder.check([REPORT], overwrite=args.overwrite or only, inputs=find(args.pictures))


def _about(args: argparse.Namespace, *, method: str, sampler: Sampler, steps: int, noise: str) -> dict[str, str]:
    """The settings that the report tells."""
    what = {"command": args.command_line, "picture": Path(args.image).name, "task": args.task, "noise": noise}
    how = {"method": method, "sampler": sampler, "steps": steps, "seed": args.seed}
    return settings_of(**what, **how, prior=args.prior, network=args.dtype)


def _draws(plan: Plan, kept: Path) -> np.ndarray:
    """``drawn``, with a progress bar and a file of the state."""
    count, jobs, steps = plan.args.count, len(plan.jobs), len(plan.grid.t)
    pictures = f", {jobs} pictures" if jobs > 1 else ""
    title = f"{plan.chosen.method}{pictures}, {count} draws" if count > 1 else f"{plan.chosen.method}{pictures}"
    with progress() as bar:
        return drawn(plan, report=bar(title, jobs * count * steps, steps), resume=kept)


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


def _write_all(args: argparse.Namespace, jobs: list[Job], draws: np.ndarray, method: str) -> None:
    """A folder for each picture, then one page and one table; what diverged is named when the others are written."""
    entries: list[Entry] = []
    diverged = []
    for job, images in zip(jobs, draws, strict=True):
        if not np.isfinite(images).all():
            diverged.append(job.args.image)
            continue
        found = results_of(job, images, partial(_of, job.args.image))
        _of(job.args.image, found.place)
        entries.append(entry(job.args.image, job.folder.path.name, found.shown, found.rows[-1]))
    if entries:
        rows = [{**found.row, "image": found.name} for found in entries]
        scores = [name for name in rows[0] if name != "image"]
        mean = {name: float(np.mean([row[name] for row in rows])) for name in scores}
        show(_table([*rows, {"image": f"mean of {len(rows)} pictures"} | mean]))
        page = write_index(ResultsFolder(_root(args)), entries, jobs[0].about, diverged)
        open_first(_root(args) / page, browser=args.open)
    if diverged:
        raise ValueError(f"{method} diverged on {', '.join(diverged)}; use a smaller step size or more steps.")


def _of(image: str, text: str) -> None:
    say(f"{image}: {text}")


def _write(job: Job, draws: np.ndarray, method: str) -> None:
    """Files, then the table of scores, then what the user has to know of them."""
    check_finite(draws, method)
    notes: list[str] = []
    found = results_of(job, draws, notes.append)
    show(_table(found.rows))
    for note in [*notes, found.place]:
        say(note)
    open_first(found.file, browser=job.args.open)


def check_finite(draws: np.ndarray, method: str) -> None:
    """Refuse draws that are not finite.

    Raises:
        ValueError: if there is one.
    """
    if not np.isfinite(draws).all():
        raise ValueError(f"{method} diverged; use a smaller step size or more steps.")


class Results(NamedTuple):
    """What was written of a picture: the scores, the file to open first, the picture to show, [H, W, C], and where it is."""

    rows: list[dict[str, Any]]
    file: Path
    shown: np.ndarray
    place: str


def results_of(job: Job, draws: np.ndarray, note: Callable[[str], Any]) -> Results:
    """Write the files of one picture."""
    args, folder, (problem, truth, _) = job.args, job.folder, job.measured
    verdict = fit(draws, problem)
    if pastes(args, problem):
        before = max(row["misfit_rms"] for row in score_draws(draws, problem))
        draws = paste(draws, problem)
        note(f"known pixels are those of the picture, exactly; the draws missed them by {before:.3g} (RMS)")
    pictures, sections = _in_photo(job, draws[0], note)
    written = write_restored(folder, draws, problem, truth, about=job.about, photo=pictures, sections=sections)
    for text in [*written.notes, *([] if verdict is None else [f"warning: {verdict}"])]:
        note(text)
    place = f"{len(written.files)} files in {folder.path}"
    return Results(written.rows, folder.path / written.files[0], pictures.get(RESTORED, draws[0]), place)


def _in_photo(job: Job, draw: np.ndarray, note: Callable[[str], Any]) -> tuple[dict[str, np.ndarray], list[Section]]:
    """Pictures of the photo that the square was cut from, by file name, and their part of the report; none without."""
    args, (problem, truth, photo) = job.args, job.measured
    if photo.framing is None:
        return {}, []
    view = None if truth is None else np.asarray(problem.operator.view(problem.y))
    whole, hole = load_image(args.image).pixels, hole_of(args, problem, photo)
    if hole is not None and (left_out := photos.outside(hole, photo.framing)) > 0:
        note(f"warning: {left_out:.0%} of the missing pixels are outside the frame and stay as they are")
    if photo.framing.side < draw.shape[0]:
        note(f"restored_1.png is larger than its frame in the photo, which has {photo.framing.side} pixels a side")
    pictures = in_photo(whole, photo.framing, draw, view=view, hole=hole)
    return pictures, [section_of(whole, pictures)]


def _check(args: argparse.Namespace) -> None:
    at_least_one(args, "count", "calls")
    check_batch_size(args.batch_size)
    check_noise(args)
    check_operator(args)
    check_frame(args)


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
