"""From the study's rows to tables with standard errors, claims that hold or do not, figures, and one readable report."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdiff import plots
from jaxdiff.files import write_text
from jaxdiff.study.cells import TITLES, caption, last_of_each_kind, select
from jaxdiff.study.claims import Claim
from jaxdiff.study.paper import INFERRED, Results, Study
from jaxdiff.tables import csv_text, markdown, write_rows
from jaxdiff.tasks import settings

__all__ = [
    "SETTINGS",
    "Results",
    "diverged",
    "run_time_ratios",
    "settings_of_methods",
    "table_1",
    "table_2",
    "table_3",
    "write_report",
]

STUDY_TABLE_1 = {10: (41.6, 0.012, 38.8, 0.008), 100: (32.5, 0.101, 27.6, 0.167), 500: (23.4, 0.323, 20.3, 0.701)}
"""Forward steps → in-distribution PSNR, LPIPS, out-of-distribution PSNR, LPIPS, as the study prints them."""

STUDY_TABLE_2 = {
    ("sdedit", 0.01): (20.052, 0.230, 20.322, 0.203),
    ("sdedit", 0.05): (20.542, 0.187, 20.186, 0.204),
    ("sdedit", 0.1): (20.108, 0.230, 20.579, 0.195),
    ("score_ald", 0.01): (22.404, 0.141, 27.031, 0.086),
    ("score_ald", 0.05): (22.100, 0.162, 28.148, 0.061),
    ("score_ald", 0.1): (21.953, 0.153, 28.188, 0.057),
    ("dps", 0.01): (28.213, 0.052, 35.032, 0.023),
    ("dps", 0.05): (28.828, 0.058, 34.730, 0.024),
    ("dps", 0.1): (28.066, 0.070, 34.034, 0.022),
}
"""(method, σ) → deconvolution PSNR, LPIPS, inpainting PSNR, LPIPS."""

INTRODUCTIONS = {
    1: "Numbers are means ± standard errors over images. The seeds of an image are averaged first. “study” is the number of "
    "the study. PSNR is in dB, and a higher PSNR is better. A lower LPIPS is better.",
    2: "The study does not give all of its settings. We inferred these from its figures:",
    3: "Each method has its best known settings for this prior. If Table 2 has the same settings, this table repeats its "
    "numbers. The last columns hide a box of half the side.",
}
"""What is said of a table."""
SETTINGS = "If nothing was recorded for a task and prior, a method keeps its own settings."

Table = tuple[list[str], list[list[str]]]
"""A header and lines."""


def table_1(results: Results, study: Study, where: Sequence[bool] = (True, False)) -> Table:
    """Table 1, the study's own numbers beside ours; ``where``: in distribution, out of it, or both side by side."""
    header = ["forward steps"]
    for inside in where:
        header += [f"{'in' if inside else 'out-of'}-dist. PSNR", "study", "LPIPS", "study"]
    lines = []
    for count in study.forward_steps:
        line, given = [str(count)], STUDY_TABLE_1.get(count)
        for inside in where:
            chosen = {"table": 1, "forward_steps": count, "in_distribution": inside}
            offset = 0 if inside else 2
            line += [
                select(results.rows, "psnr", **chosen).text(2),
                f"{given[offset]:.1f}" if given else "–",
                select(results.rows, "lpips", **chosen).text(3),
                f"{given[offset + 1]:.3f}" if given else "–",
            ]
        lines.append(line)
    return header, lines


def table_2(results: Results, study: Study, tasks: Sequence[str] | None = None) -> Table:
    """Table 2, the study's own numbers beside ours, for some tasks or all side by side."""
    chosen_tasks = list(study.tasks) if tasks is None else tasks
    header = ["method", "σ"]
    for task in chosen_tasks:
        header += [f"{task} PSNR", "study", "LPIPS", "study", "SSIM"]
    lines = []
    for method in study.methods:
        for std in study.noise_stds:
            line = [TITLES.get(method, method), f"{std:g}"]
            given = STUDY_TABLE_2.get((method, std))
            for task in chosen_tasks:
                chosen = {"table": 2, "method": method, "task": task, "noise_std": std}
                offset = 0 if task == "deconvolution" else 2
                line += [
                    select(results.rows, "psnr", **chosen).text(2),
                    f"{given[offset]:.2f}" if given else "–",
                    select(results.rows, "lpips", **chosen).text(3),
                    f"{given[offset + 1]:.3f}" if given else "–",
                    select(results.rows, "ssim", **chosen).text(3),
                ]
            lines.append(line)
    return header, lines


def table_3(results: Results, study: Study) -> Table:
    """Table 3: the best settings known and a harder mask; where a method has the settings of Table 2, that table's cell."""
    header = ["method", "σ"]
    for task in study.own:
        header += [f"{task} PSNR", "LPIPS"]
    lines = []
    for method in study.methods:
        for std in study.own_noise_stds:
            line = [TITLES.get(method, method), f"{std:g}"]
            for task in study.own:
                table = 3 if study.differs(task, method) else 2
                chosen = {"table": table, "method": method, "task": task, "noise_std": std}
                line += [
                    select(results.rows, name, **chosen).text(digits) for name, digits in (("psnr", 2), ("lpips", 3))
                ]
            lines.append(line)
    return header, lines


def run_time_ratios(results: Results, study: Study) -> Table:
    """Seconds and network calls an image by method, compilation apart, as multiples of the one before."""
    header = ["method", "s an image", "network calls", "ms a call", "× the one above", "study"]
    claimed = {"score_ald": "about 2", "dps": "2–3"}
    lines: list[list[str]] = []
    before = math.nan
    for method in study.methods:
        seconds = select(results.rows, "seconds", table=2, method=method).mean
        calls = select(results.rows, "network_calls", table=2, method=method).mean
        ratio = "–" if math.isnan(before) else f"{seconds / before:.2f}"
        lines.append(
            [TITLES.get(method, method), f"{seconds:.2f}", f"{calls:.0f}", f"{1000 * seconds / calls:.1f}", ratio]
            + [claimed.get(method, "–")]
        )
        before = seconds
    return header, lines


def settings_of_methods(study: Study) -> Table:
    """What each method was given in Tables 2 and 3, and the task whose recorded settings these are."""
    lines = []
    for table, column, task, method, _ in study.stages():
        chosen = ", ".join(f"{name} = {value:g}" for name, value in settings(method, task, study.prior).items())
        lines.append([f"Table {table}", column, TITLES.get(method, method), chosen or "the method's own", task])
    return ["table", "on", "method", "settings", "recorded for"], lines


def diverged(results: Results) -> str:
    """Which runs are not finite, in a sentence; empty if none."""
    lost = [row for row in results.rows if math.isnan(row["psnr"])]
    if not lost:
        return ""
    where = dict.fromkeys(f"{TITLES.get(row['method'], row['method'])} on {row['task']}" for row in lost)
    return (
        f"{len(lost)} of {len(results.rows)} runs diverged ({', '.join(where)}): they have no scores in runs.csv, means over "
        "them are –, and no claim that needs one holds."
    )


def write_report(out: Path, results: Results, study: Study, about: str, judged: Sequence[Claim]) -> list[Path]:
    """Write tables (CSV, Markdown), figures and ``report.md`` into ``out``; returns the paths."""
    first, second, third = table_1(results, study), table_2(results, study), table_3(results, study)
    times = run_time_ratios(results, study)
    written = [write_rows(out / "runs.csv", results.rows)]
    for name, (header, lines) in (("table1", first), ("table2", second), ("table3", third), ("run_times", times)):
        written.append(write_text(out / f"{name}.csv", csv_text(header, lines)))
    written += _figures(out, results, study)
    verdicts = [[c.sentence, c.seen, "holds" if c.holds else "does not hold"] for c in judged]
    text = "\n\n".join(
        [
            "# Diffusion Models for Inverse Problems, reproduced",
            about,
            *([lost] if (lost := diverged(results)) else []),
            "## Table 1: N forward steps, then N reverse steps",
            INTRODUCTIONS[1],
            markdown(*first),
            "## Table 2: deconvolution and inpainting",
            markdown(*second),
            INTRODUCTIONS[2],
            markdown(["setting", "taken to be, and why"], [[name, why] for name, why in INFERRED.items()]),
            "## Table 3: our best settings, and a harder mask",
            INTRODUCTIONS[3],
            markdown(*third),
            "## Settings of the methods",
            SETTINGS,
            markdown(*settings_of_methods(study)),
            "## Run time",
            "These times do not include compilation.",
            markdown(*times),
            "## The study's claims",
            markdown(["claim", "seen here", "verdict"], verdicts),
            "## Figures",
            "\n".join(f"![{path.stem}]({path.name})" for path in written if path.suffix == ".png"),
        ]
    )
    return [write_text(out / "report.md", text + "\n"), *written]


def _figures(out: Path, results: Results, study: Study) -> list[Path]:
    figures = {}
    if len(results.samples):
        figures["figure1"] = plots.image_table(
            [list(results.samples)], title=f"Figure 1. Unconditional samples, {study.steps} reverse steps"
        )
    figures["figure2"] = _denoising_figure(results, study)
    for number, method in enumerate(study.methods, start=3):
        figures[f"figure{number}"] = _method_figure(results, study, method, number)
    for name, figure in figures.items():
        plots.save_figure(out / f"{name}.png", figure)
    return [out / f"{name}.png" for name in figures]


def _denoising_figure(results: Results, study: Study) -> Any:
    """The last image of each kind at every N."""
    shown = last_of_each_kind(results.rows)
    rows, captions = [], []
    for count in study.forward_steps:
        triplets = [results.triplets[count][i] for i, _ in shown]
        rows.append([image for noisy, truth, restored in triplets for image in (truth, noisy, restored)])
        wanted = {"table": 1, "forward_steps": count, "seed": study.seeds[0]}
        captions.append([t for _, name in shown for t in ("", "", caption(results.rows, image=name, **wanted))])
    return plots.image_table(
        rows,
        column_titles=["truth", "noisy", "restored"] * len(shown),
        row_titles=[f"N = {n}" for n in study.forward_steps],
        captions=captions,
        separators=(3,),
        title="Figure 2. N forward steps, then N reverse steps. "
        + ". ".join(("Left: in distribution", "Right: out of distribution")[: len(shown)]),
    )


def _method_figure(results: Results, study: Study, method: str, number: int) -> Any:
    """The last image by a method, a row a noise level."""
    rows, captions = [], []
    for std in study.noise_stds:
        cells = [{"method": method, "task": task, "noise_std": std} for task in study.tasks]
        rows.append([image for cell in cells for image in results.triplets[2, *cell.values()][-1]])
        wanted = {"table": 2, "seed": study.seeds[0]}
        captions.append([text for cell in cells for text in ("", "", caption(results.rows, **wanted, **cell))])
    sides = zip(("Left", "Right"), study.tasks, strict=False)
    return plots.image_table(
        rows,
        column_titles=["measured", "truth", "restored"] * len(study.tasks),
        row_titles=[f"σ = {std:g}" for std in study.noise_stds],
        captions=captions,
        separators=tuple(range(3, 3 * len(study.tasks), 3)),
        title=f"Figure {number}. {TITLES.get(method, method)}. " + ". ".join(f"{side}: {task}" for side, task in sides),
    )
