"""Rows of runs to a summary: means over images with standard errors and intervals, as CSV, Markdown and LaTeX."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff.bench.grid import Grid
from jaxdiff.bench.parts import COLUMNS, Row, typed
from jaxdiff.files import write_text
from jaxdiff.tables import counted, markdown, rounded, write_rows

__all__ = [
    "METRICS",
    "TRUNK",
    "Interval",
    "about",
    "interval",
    "latex",
    "markdown_tables",
    "summarise",
    "table_of",
    "write_tables",
]

METRICS = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3), "misfit": ("misfit", 4)}
"""Column → title and digits."""

TRUNK = {"alex": "AlexNet", "vgg": "VGG16"}
"""Network of LPIPS, by its short name."""

LOWER_IS_BETTER = {"lpips"}


class Interval(NamedTuple):
    """A mean over images.

    Attributes:
        mean: over images, each the mean of its seeds.
        error: standard error of the mean, s/√n over images; NaN for one.
        low: of the 95 % interval.
        high: of the 95 % interval.
        images: how many.
    """

    mean: float
    error: float
    low: float
    high: float
    images: int


def interval(rows: Iterable[dict[str, Any]], metric: str) -> Interval:
    """Mean, standard error and 95 % bootstrap interval over images (percentiles of 2000 resamples, a fixed seed).

    Seeds of one image are averaged first: they are not independent of each other.
    """
    by_image: dict[str, list[float]] = {}
    for row in rows:
        if row["status"] == "ok" and math.isfinite(float(row[metric])):
            by_image.setdefault(row["image"], []).append(float(row[metric]))
    values = np.asarray([np.mean(found) for _, found in sorted(by_image.items())])
    if not len(values):
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    if len(values) == 1:
        return Interval(float(values[0]), math.nan, math.nan, math.nan, 1)
    draws = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[draws].mean(1), (0.025, 0.975))
    error = values.std(ddof=1) / math.sqrt(len(values))
    return Interval(float(values.mean()), float(error), float(low), float(high), len(values))


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a (task, method), in the order in which they first appear."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["method"]), []).append(row)
    summary = []
    for (task, method), found in groups.items():
        line: dict[str, Any] = {"task": task, "method": method}
        for metric in METRICS:
            line |= {f"{metric}_{name}": value for name, value in interval(found, metric)._asdict().items()}
        line["images"] = line.pop("psnr_images")
        for metric in METRICS:
            line.pop(f"{metric}_images", None)
        line["runs"] = len(found)
        line["diverged"] = sum(row["status"] == "diverged" for row in found)
        line["network_calls"] = found[0]["network_calls"]
        line["seconds_per_image"] = float(np.mean([float(row["seconds"]) for row in found]))
        summary.append(line)
    return summary


def write_tables(out: Path, rows: Sequence[Row], summary: Sequence[dict[str, Any]], heading: str) -> None:
    """Write the rows as CSV and as JSON lines, and the summary as CSV, Markdown (below a heading) and LaTeX.

    Args:
        out: the job's folder.
        rows: of all parts.
        summary: from ``summarise``; nothing is written of an empty one.
        heading: from ``about``.
    """
    write_rows(out / "results.csv", rows, COLUMNS)
    write_text(out / "results.jsonl", "".join(json.dumps(typed(row)) + "\n" for row in rows))
    if summary:
        write_rows(out / "summary.csv", summary)
        write_text(out / "summary.md", heading + markdown_tables(summary))
        write_text(out / "summary.tex", latex(summary))


def about(grid: Grid, images: int, refused: Mapping[tuple[str, str], str], unreadable: Iterable[str]) -> str:
    """What was run and how to read its tables, as Markdown.

    Args:
        grid: what was run.
        images: how many could be read.
        refused: (task, method) → why the method cannot do it.
        unreadable: why the others could not be read.
    """
    length = f"{grid.steps} steps" if grid.calls is None else f"at most {grid.calls} network calls"
    title = (
        f"# {counted(images, 'image')}, {counted(len(grid.seeds), 'seed')} each, {length}, "
        f"prior {Path(grid.prior).name}, {grid.dtype}" + (f", noise {grid.noise}" if grid.noise else "")
    )
    words = (
        "Numbers are means ± standard errors over images. The seeds of an image are averaged first. The 95 % interval is a "
        "bootstrap over images. σ is on [-1, 1]. The misfit is the RMS of y − A(x) over observed entries. For a good fit, it "
        f"is about σ. LPIPS is by {TRUNK[grid.lpips]}. s/image does not include compilation. The device is "
        f"{jax.devices()[0].device_kind}."
    )
    left_out = [f"- {method} cannot do {task}: {why}\n" for (task, method), why in refused.items()]
    left_out += [f"- not read: {why}\n" for why in unreadable]
    return f"{title}\n\n{words}\n\n" + ("".join(left_out) + "\n" if left_out else "")


def markdown_tables(summary: Sequence[dict[str, Any]]) -> str:
    """A table a task, see ``table_of``."""
    parts = []
    for task in dict.fromkeys(line["task"] for line in summary):
        header, table = table_of([line for line in summary if line["task"] == task])
        parts.append(f"## {task}\n\n" + markdown(header, table))
    return "\n\n".join(parts) + "\n"


def table_of(lines: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of one task: mean ± standard error, the 95 % interval of PSNR; ``**``: the best that never diverged."""
    header = ["method", *(title for title, _ in METRICS.values()), "95 % of PSNR", "calls", "s/image", "diverged"]
    table: list[list[str]] = []
    best = {metric: _best(lines, metric) for metric in METRICS}
    for line in lines:
        cells = [line["method"]]
        for metric, (_, digits) in METRICS.items():
            text = rounded(line[f"{metric}_mean"], digits, error=line[f"{metric}_error"])
            cells.append(f"**{text}**" if line is best[metric] else text)
        low, high = line["psnr_low"], line["psnr_high"]
        cells.append("–" if math.isnan(low) else f"{low:.2f} … {high:.2f}")
        cells += [str(line["network_calls"]), f"{line['seconds_per_image']:.2f}"]
        cells.append(f"{line['diverged']} of {line['runs']}" if line["diverged"] else "–")
        table.append(cells)
    return header, table


def latex(summary: Sequence[dict[str, Any]]) -> str:
    """The same as one ``tabular`` (needs booktabs): methods down, tasks in groups."""
    metrics = ("psnr", "ssim", "lpips")
    lines = [r"\begin{tabular}{ll" + "r" * len(metrics) + "}", r"\toprule"]
    arrows = {metric: r"\downarrow" if metric in LOWER_IS_BETTER else r"\uparrow" for metric in metrics}
    titles = (f"{METRICS[metric][0]} ${arrows[metric]}$" for metric in metrics)
    lines += [" & ".join(["task", "method", *titles]) + r" \\"]
    for task in dict.fromkeys(line["task"] for line in summary):
        lines.append(r"\midrule")
        for line in (line for line in summary if line["task"] == task):
            lost = f" ({line['diverged']} of {line['runs']} diverged)" if line["diverged"] else ""
            cells = [_escape(task), _escape(line["method"]) + lost]
            for metric in metrics:
                mean, error, digits = line[f"{metric}_mean"], line[f"{metric}_error"], METRICS[metric][1]
                text = "--" if math.isnan(mean) else f"{mean:.{digits}f}"
                cells.append(text if math.isnan(error) else rf"${text} \pm {error:.{digits}f}$")
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _best(lines: Sequence[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    # What is left of a method that diverged on some images is no mean over the same images.
    known = [line for line in lines if not math.isnan(line[f"{metric}_mean"]) and not line["diverged"]]
    if metric == "misfit" or len(known) < 2:  # a misfit below σ is no merit
        return None
    return (min if metric in LOWER_IS_BETTER else max)(known, key=lambda line: line[f"{metric}_mean"])


def _escape(text: str) -> str:
    return text.replace("_", r"\_").replace("&", r"\&").replace("%", r"\%")
