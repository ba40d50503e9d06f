"""The report of a job: a table and plots a task, then the first pictures, measured and by each method."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdiff.bench.job import Job, Outcome
from jaxdiff.bench.summary import TRUNK, table_of
from jaxdiff.files import load_image
from jaxdiff.pages import REPORT, Page, Part, Picture, Pictures, Plot, Section, Series, Table, settings_of, write_page
from jaxdiff.tables import counted

__all__ = ["write_report"]

SHOWN = 4
"""Images of each task that the page shows."""
WORDS = (
    "Numbers are means ± standard errors over images. The seeds of an image are averaged first. The 95 % interval is a "
    "bootstrap over images. The best method that never diverged is bold. The misfit is the RMS of y − A(x). For a good fit, "
    "it is about σ."
)


def write_report(job: Job, outcome: Outcome, command: str) -> Path:
    """Write the job's page into its folder; returns its path.

    Args:
        job: what was run.
        outcome: what came of it.
        command: the command line.
    """
    grid = job.grid
    tasks = [*dict.fromkeys(line["task"] for line in outcome.summary)]
    sections = [
        Section(task, _scores([line for line in outcome.summary if line["task"] == task]) + _pictures(job, task))
        for task in tasks
    ]
    if left_out := _left_out(outcome):
        sections.append(Section("Left out", text="\n\n".join(left_out)))
    length = f"{grid.steps} steps" if grid.calls is None else f"at most {grid.calls} network calls"
    count = len(job.names) - len(outcome.unreadable)
    numbers = f"{counted(count, 'image')}, {counted(len(grid.seeds), 'seed')} each, {counted(len(tasks), 'task')}"
    what = f"{numbers}, {length}, prior {Path(grid.prior).name}."
    about = settings_of(
        command=command, prior=grid.prior, network=grid.dtype, seeds=", ".join(map(str, grid.seeds)), noise=grid.noise,
        noise_std=grid.noise_std, spacing=grid.spacing, settings=grid.settings or "recorded", LPIPS=TRUNK[grid.lpips],
    )  # fmt: skip
    return write_page(job.out / REPORT, Page("Methods side by side", f"{what}\n\n{WORDS}", sections, about))


def _scores(lines: Sequence[dict[str, Any]]) -> list[Part]:
    plots = [
        Plot(
            title,
            "PSNR dB",
            {line["method"]: _point(line, name) for line in lines},
            f"Quality against {what}",
            log_x,
        )
        for name, title, what, log_x in (
            ("network_calls", "network calls for an image", "network calls", False),
            ("seconds_per_image", "seconds for an image, without compilation", "seconds", True),
        )
        if not name.startswith("seconds") or all(line[name] > 0 for line in lines)
    ]
    return [Table(*table_of(lines)), *plots]


def _point(line: dict[str, Any], across: str) -> Series:
    error = line["psnr_error"]
    return Series([line[across]], [line["psnr_mean"]], None if math.isnan(error) else [error], joined=False)


def _pictures(job: Job, task: str) -> list[Part]:
    """The first images, measured and by each method, first seed."""
    methods = [method for method in job.grid.methods if (task, method) not in job.refused]
    if not job.grid.pictures or not methods:
        return []
    height, width, _ = job.denoiser.image_shape
    shown: list[Picture] = []
    for place in range(min(SHOWN, len(job.images))):
        files = {name: job.picture(task, name, job.grid.seeds[0], place) for name in ("measured", *methods)}
        if not all(map(Path.exists, files.values())):  # not read, or diverged
            continue
        truth = load_image(job.images[place], size=(height, width), resize=True).pixels
        shown.append(Picture("truth", truth, job.names[place]))
        shown += [Picture(name, load_image(file).pixels, job.names[place]) for name, file in files.items()]
    return [] if not shown else [Pictures(shown, columns=2 + len(methods), compare=(1, 2))]


def _left_out(outcome: Outcome) -> list[str]:
    refused = [f"{method} cannot do {task}: {why}" for (task, method), why in outcome.refused.items()]
    return refused + [f"Not read: {why}" for why in outcome.unreadable.values()]
