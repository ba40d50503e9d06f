"""The study "Diffusion Models for Inverse Problems": its runs, as rows of one table.

Table 1 noises clean images by N forward steps and denoises them by N reverse steps. Table 2 restores blurred and masked
images at three noise levels by SDEdit, Score ALD and DPS, set up as the study's figures suggest (``INFERRED``). Table 3 is
ours: the best settings known, and a harder mask. Figure 1 draws from the prior. ``report`` turns the rows into tables,
figures and claims.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import operators, samplers
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.engine import Outcome, batch_keys, restore_many, stack
from jaxdiff.engine.batches import Report
from jaxdiff.evaluation.pictures import Picture
from jaxdiff.evaluation.scores import scores
from jaxdiff.metrics.lpips import SMALLEST
from jaxdiff.problems import Problem, observe
from jaxdiff.samplers.loop import grid_for
from jaxdiff.schedules import TimeGrid, timestep_grid
from jaxdiff.tasks import get_task, sampler, settings
from jaxdiff.typing import Key

__all__ = ["INFERRED", "Results", "Study", "plan", "run_study"]

INFERRED = {
    "mask": "A centred box of a quarter of the side. The study's DPS has 35 dB. A box of half the side hides four times as "
    "many pixels, and no method comes near 35 dB with it (Table 3).",
    "blur": "A Gaussian of 61×61 pixels and standard deviation 3 at 256×256, as in the DPS paper. For other sizes, the "
    "standard deviation is proportional to the square root of the side.",
    "SDEdit": "It starts at half of the schedule. The study's Score ALD uses the whole schedule, and takes twice as long as "
    "SDEdit. The study's SDEdit has 20 dB on both tasks at every σ, so it keeps little of the measurement.",
    "σ": "On the [-1, 1] scale. The study's DPS loses 1 dB on inpainting from σ = 0.01 to 0.1. On the [0, 1] scale, the noise "
    "would be twice as strong.",
    "step sizes": "With the embedded prior, the step sizes of DPS and Score ALD are from recorded searches on other faces, "
    "with this blur and this box. With another prior, they are the published ones.",
}
"""Settings of Table 2 that the study does not give: what we take them to be, and why."""


@dataclass(frozen=True)
class Study:
    """What to run.

    Attributes:
        steps: network calls of a whole reverse process (Table 2 and Figure 1).
        forward_steps: N of Table 1.
        noise_stds: σ of Table 2.
        tasks: columns of Table 2: the study's name of a task → ours.
        own: columns of Table 3: its name of a task → ours.
        own_noise_stds: σ of Table 3.
        methods: the rows of Tables 2 and 3.
        seeds: each is a run of every image.
        samples: draws of Figure 1.
        seed: of everything random.
        batch_size: runs at a time.
        prior: name under which settings were recorded.
    """

    steps: int = 100
    forward_steps: tuple[int, ...] = (10, 100, 500)
    noise_stds: tuple[float, ...] = (0.01, 0.05, 0.1)
    tasks: dict[str, str] = field(
        default_factory=lambda: {"deconvolution": "study/deconvolution", "inpainting": "study/inpainting"}
    )
    own: dict[str, str] = field(
        default_factory=lambda: {
            "deconvolution": "gaussian_blur",
            "inpainting": "jaxdiff/inpaint_small_box",
            "half the side": "inpaint_box",
        }
    )
    own_noise_stds: tuple[float, ...] = (0.05,)
    methods: tuple[str, ...] = ("sdedit", "score_ald", "dps")
    seeds: tuple[int, ...] = (0,)
    samples: int = 3
    seed: int = 0
    batch_size: int | str = "auto"
    prior: str = "faces64"

    def stages(self) -> "list[_Stage]":
        """The stages of Tables 2 and 3, in order."""
        theirs = [_Stage(2, task, ours, m, self.noise_stds) for task, ours in self.tasks.items() for m in self.methods]
        return theirs + [
            _Stage(3, task, ours, m, self.own_noise_stds)
            for task, ours in self.own.items()
            for m in self.methods
            if self.differs(task, m)
        ]

    def differs(self, column: str, method: str) -> bool:
        """Whether a cell of Table 3 is none of Table 2: no column there, or other settings with this prior."""
        theirs = self.tasks.get(column)
        known = [] if theirs is None else [settings(method, task, self.prior) for task in (self.own[column], theirs)]
        return not known or known[0] != known[1]


class _Stage(NamedTuple):
    """A method on a task at some noise levels."""

    table: int
    column: str
    task: str
    method: str
    noise_stds: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.column}, {self.method}" + (", our settings" if self.table == 3 else "")


class Results(NamedTuple):
    """What came out.

    Attributes:
        rows: one mapping a run: table, method, task (the column), forward_steps or noise_std, image, in_distribution, seed,
            psnr, ssim, lpips, seconds, network_calls.
        samples: [n, H, W, C], Figure 1.
        triplets: N of table 1, or (table, method, task, σ) → list of (measured, truth, restored) by image, first seed.
    """

    rows: list[dict[str, Any]]
    samples: np.ndarray
    triplets: dict[Any, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]


def plan(study: Study, denoiser: DenoiserLike, faces: int, others: int) -> dict[str, tuple[int, int]]:
    """By stage: its (image × network call)s, what a progress bar counts to, and the calls of one image."""
    total = denoiser.schedule.num_steps
    stages = {"Figure 1": (study.samples * study.steps, study.steps)}
    for count in study.forward_steps:
        calls = min(count, total)
        stages[f"Table 1, {count} steps"] = (calls * (faces + others) * len(study.seeds), calls)
    for stage in study.stages():
        calls = len(grid_for(denoiser, sampler(stage.method, stage.task, study.prior), study.steps).t)
        stages[stage.name] = (calls * faces * len(study.seeds) * len(stage.noise_stds), calls)
    return stages


def run_study(
    study: Study,
    denoiser: DenoiserLike,
    pictures: Sequence[Picture],
    *,
    report: Any = None,
    resume: Path | None = None,
) -> Results:
    """Run every stage; ``report(stage)`` gives the callback that a stage's chunks call.

    Args:
        study: what to run.
        denoiser: the prior.
        pictures: truths, all of one shape; Tables 2 and 3 use those in distribution.
        report: stage name → callback with the number of (image × network call)s done, or None.
        resume: folder for the state of unfinished stages.

    Returns:
        Rows, samples and triplets.

    Raises:
        ValueError: if two pictures have one name, or the prior's images are too small for LPIPS.
    """
    if len({picture.name for picture in pictures}) < len(pictures):
        raise ValueError("two pictures have the same name; each needs its own.")
    if min(denoiser.image_shape[:2]) < SMALLEST["alex"]:
        raise ValueError(
            f"the study is scored by LPIPS, which needs images of at least {SMALLEST['alex']} pixels a side; use jaxdiff bench."
        )
    key = jax.random.key(study.seed)
    run = _Runner(study, denoiser, report or (lambda stage: None), resume)
    draws = run("Figure 1", batch_keys(jax.random.fold_in(key, 0), study.samples), None, samplers.ddpm(), study.steps)
    results = Results([], np.asarray(draws.x), {})
    for count in study.forward_steps:
        _table_1(run, jax.random.fold_in(key, 1), pictures, count, results)
    faces = [picture for picture in pictures if picture.in_distribution]
    for stage in study.stages():
        _restorations(run, jax.random.fold_in(key, 2), faces, stage, results)
    return results


class _Runner:
    """``restore_many`` with the study's options filled in."""

    def __init__(self, study: Study, denoiser: DenoiserLike, report: Any, resume: Path | None) -> None:
        self.study, self.denoiser, self.report, self.resume = study, denoiser, report, resume

    def __call__(self, stage: str, keys: Any, problems: Problem | None, sampler: Any, steps: int | TimeGrid) -> Outcome:
        name = "".join(c if c.isalnum() else "_" for c in stage)
        callback: Report | None = self.report(stage)
        return restore_many(
            keys,
            self.denoiser,
            problems,
            sampler,
            steps=steps,
            batch_size=self.study.batch_size,
            report=callback,
            resume=None if self.resume is None else self.resume / f"{name}.npz",
        )


def _table_1(run: _Runner, key: Key, pictures: Sequence[Picture], count: int, results: Results) -> None:
    study, denoiser = run.study, run.denoiser
    total = denoiser.schedule.num_steps
    shape = pictures[0].pixels.shape
    identity = operators.denoise(image_shape=shape)
    runs = [(picture, seed) for seed in study.seeds for picture in pictures]
    problems = stack(
        [Problem(identity, jnp.asarray(picture.pixels), jnp.asarray(0.0, jnp.float32)) for picture, _ in runs]
    )
    # A grid cut by hand rather than by sdedit(start=N), so that all N share one compiled program.
    grid = timestep_grid(total, total).below(count)
    sdedit = samplers.sdedit(start=total)
    keys = batch_keys(key, len(runs))
    outcome = run(f"Table 1, {count} steps", keys, problems, sdedit, grid)
    noisy = jax.vmap(lambda key, problem: sdedit.init(key, problem, denoiser, jnp.asarray(grid.t[0])).x)(
        jax.vmap(jax.random.split)(keys)[:, 0], problems
    )
    shared = {"table": 1, "method": "sdedit", "task": "denoising", "forward_steps": count}
    _score(results, shared, runs, problems, outcome, len(grid.t))
    results.triplets[count] = [
        (np.asarray(noisy[i]), picture.pixels, outcome.x[i]) for i, picture in enumerate(pictures)
    ]


def _restorations(run: _Runner, key: Key, pictures: Sequence[Picture], stage: _Stage, results: Results) -> None:
    study = run.study
    shape = pictures[0].pixels.shape
    chosen = sampler(stage.method, stage.task, study.prior)
    names = [picture.name for picture in pictures]
    runs = [(picture, seed, std) for std in stage.noise_stds for seed in study.seeds for picture in pictures]
    problems = []
    for picture, seed, std in runs:
        # Noise and mask depend on image and seed alone: every method and every σ meets the same ones.
        place = jax.random.fold_in(jax.random.fold_in(key, seed), names.index(picture.name))
        operator_key, noise_key = jax.random.split(place)
        operator = get_task(stage.task).make(operator_key, shape)
        problems.append(observe(noise_key, operator, jnp.asarray(picture.pixels), std))
    outcome = run(stage.name, batch_keys(key, len(runs)), stack(problems), chosen, study.steps)
    calls = len(grid_for(run.denoiser, chosen, study.steps).t)
    for std in stage.noise_stds:
        index = [i for i, entry in enumerate(runs) if entry[2] == std]
        part = Outcome(outcome.x[index], outcome.residual[index], outcome.seconds * len(index) / len(runs))
        shared = {"table": stage.table, "method": stage.method, "task": stage.column, "noise_std": std}
        _score(results, shared, [runs[i][:2] for i in index], stack([problems[i] for i in index]), part, calls)
        results.triplets[stage.table, stage.method, stage.column, std] = [
            (np.asarray(problems[i].operator.view(problems[i].y)), runs[i][0].pixels, outcome.x[i])
            for i in index
            if runs[i][1] == study.seeds[0]
        ]


def _score(
    results: Results,
    shared: dict[str, Any],
    runs: Sequence[tuple[Picture, int]],
    problems: Problem,
    outcome: Outcome,
    calls: int,
) -> None:
    """Append a row a run: PSNR, SSIM and LPIPS against the truth, NaN where it diverged."""
    found = scores(outcome.x, np.stack([picture.pixels for picture, _ in runs]), problems)
    for i, (picture, seed) in enumerate(runs):
        row = {**shared, "image": picture.name, "in_distribution": picture.in_distribution, "seed": seed}
        row |= {name: float(found[name][i]) for name in ("psnr", "ssim", "lpips")}
        row |= {"seconds": outcome.seconds / len(runs), "network_calls": calls}
        results.rows.append(row)
