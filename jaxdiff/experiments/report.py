"""From the study's rows to tables with standard errors, claims that hold or do not, figures, and one readable report."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff import plots
from jaxdiff.experiments.paper import Results, Study
from jaxdiff.files import write_text

__all__ = [
    "Cell",
    "Claim",
    "Results",
    "claims",
    "diverged",
    "face_drift",
    "mean_and_error",
    "rounded",
    "run_time_ratios",
    "table_1",
    "table_2",
    "write_report",
    "write_rows",
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

Table = tuple[list[str], list[list[str]]]
"""A header and lines."""

TITLES = {"sdedit": "SDEdit", "score_ald": "Score ALD", "dps": "DPS"}


class Cell(NamedTuple):
    """A mean over images (NaN if one of them diverged), its standard error, and how many images."""

    mean: float
    error: float
    images: int

    def text(self, digits: int) -> str:
        """Such as ``23.41±0.12``: narrow, for tables in a terminal."""
        return rounded(self.mean, digits, "±", self.error)


def rounded(value: float, digits: int, sign: str = " ± ", error: float = math.nan) -> str:
    """A figure with its error; "–" for what is not known: NaN, as the LPIPS of images too small for its network."""
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}" + ("" if math.isnan(error) else f"{sign}{error:.{digits}f}")


class Claim(NamedTuple):
    """A sentence of the study, what was seen, and whether it holds here."""

    sentence: str
    seen: str
    holds: bool


def mean_and_error(values: Iterable[float]) -> Cell:
    """Mean and standard error s/√n (n − 1 in the deviation)."""
    array = np.asarray(list(values), np.float64)
    if array.size == 0:
        return Cell(math.nan, math.nan, 0)
    error = float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else math.nan
    return Cell(float(array.mean()), error, array.size)


def _select(rows: Sequence[dict[str, Any]], metric: str, **wanted: Any) -> Cell:
    """Over images; seeds of one image are averaged first, since they are not independent of each other."""
    by_image: dict[str, list[float]] = {}
    for row in rows:
        if all(row.get(k) == v for k, v in wanted.items()):
            by_image.setdefault(row["image"], []).append(row[metric])
    return mean_and_error(float(np.mean(values)) for values in by_image.values())


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
                _select(results.rows, "psnr", **chosen).text(2),
                f"{given[offset]:.1f}" if given else "–",
                _select(results.rows, "lpips", **chosen).text(3),
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
                    _select(results.rows, "psnr", **chosen).text(2),
                    f"{given[offset]:.2f}" if given else "–",
                    _select(results.rows, "lpips", **chosen).text(3),
                    f"{given[offset + 1]:.3f}" if given else "–",
                    _select(results.rows, "ssim", **chosen).text(3),
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
        seconds = _select(results.rows, "seconds", table=2, method=method).mean
        calls = _select(results.rows, "network_calls", table=2, method=method).mean
        ratio = "–" if math.isnan(before) else f"{seconds / before:.2f}"
        lines.append(
            [TITLES.get(method, method), f"{seconds:.2f}", f"{calls:.0f}", f"{1000 * seconds / calls:.1f}", ratio]
            + [claimed.get(method, "–")]
        )
        before = seconds
    return header, lines


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


def claims(results: Results, study: Study, drift: dict[int, float] | None = None) -> list[Claim]:
    """Each claim of the study, judged by this run's means."""
    found = _claims_of_table_1(results, study, drift or {})
    if {"sdedit", "score_ald", "dps"} <= set(study.methods):
        found += _claims_of_table_2(results, study) + _claims_of_time(results)
    return found


def _claims_of_table_1(results: Results, study: Study, drift: dict[int, float]) -> list[Claim]:
    steps = sorted(study.forward_steps)

    def values(metric: str, inside: bool) -> list[float]:
        return [_select(results.rows, metric, table=1, forward_steps=n, in_distribution=inside).mean for n in steps]

    others = any(row["table"] == 1 and not row["in_distribution"] for row in results.rows)
    inside, outside = values("psnr", True), values("psnr", False)
    far_in, far_out = values("lpips", True), values("lpips", False)
    found = []
    falls = all(np.diff(inside) < 0) and (not others or all(np.diff(outside) < 0))
    rises = all(np.diff(far_in) > 0) and (not others or all(np.diff(far_out) > 0))
    found.append(
        Claim(
            "Fewer steps restore better (PSNR falls, LPIPS rises with N).",
            f"PSNR {_list(inside, 1)} in, {_list(outside, 1)} out; LPIPS {_list(far_in, 3)} in, {_list(far_out, 3)} out",
            bool(falls and rises),
        )
    )
    if others:
        found.append(
            Claim(
                "In distribution is better than out of distribution (PSNR at every N).",
                f"difference {_list(np.subtract(inside, outside), 1)} dB",
                bool(np.all(np.subtract(inside, outside) > 0)),
            )
        )
    if drift:
        ordered = [drift[n] for n in sorted(drift)]
        found.append(
            Claim(
                "At high noise the out-of-distribution image drifts towards a face.",
                "mean LPIPS from the restored out-of-distribution images to the in-distribution truths, less that of the "
                f"originals: {_list(ordered, 3)} at N = {', '.join(map(str, sorted(drift)))}",
                ordered[-1] < 0 and ordered[-1] == min(ordered),
            )
        )
    return found


def _claims_of_table_2(results: Results, study: Study) -> list[Claim]:
    def psnr(method: str, task: str, std: float | None = None) -> float:
        chosen = {"table": 2, "method": method, "task": task}
        return _select(results.rows, "psnr", **chosen, **({} if std is None else {"noise_std": std})).mean

    cells = [(task, std) for task in study.tasks for std in study.noise_stds]
    ordered = [c for c in cells if psnr("dps", *c) > psnr("score_ald", *c) > psnr("sdedit", *c)]
    means = "; ".join(
        f"{task} " + " > ".join(f"{psnr(method, task):.1f}" for method in ("dps", "score_ald", "sdedit"))
        for task in study.tasks
    )
    found = [
        Claim(
            "DPS > Score ALD > SDEdit in PSNR, on both tasks at every noise level.",
            f"in {len(ordered)} of {len(cells)} cells ({means} dB, if ordered)",
            len(ordered) == len(cells),
        )
    ]
    if {"deconvolution", "inpainting"} <= set(study.tasks):
        gaps = [psnr(m, "inpainting") - psnr(m, "deconvolution") for m in study.methods]
        found.append(
            Claim(
                "Inpainting is easier than deconvolution (PSNR, each method).",
                "difference "
                + ", ".join(f"{TITLES[m]} {g:+.1f}" for m, g in zip(study.methods, gaps, strict=True))
                + " dB",
                all(gap > 0 for gap in gaps),
            )
        )
    spreads = {
        (m, task): float(np.ptp([psnr(m, task, s) for s in study.noise_stds]))
        for m in study.methods
        for task in study.tasks
    }
    widest = max(spreads, key=lambda pair: math.inf if math.isnan(spreads[pair]) else spreads[pair])
    found.append(
        Claim(
            "The noise level has little effect (PSNR changes by less than 1.5 dB from σ = "
            f"{min(study.noise_stds):g} to {max(study.noise_stds):g}; the study's own largest change is 1.2).",
            f"largest change {rounded(spreads[widest], 1)} dB, {TITLES[widest[0]]} on {widest[1]}",
            spreads[widest] < 1.5,
        )
    )
    return found


def _claims_of_time(results: Results) -> list[Claim]:
    seconds = {m: _select(results.rows, "seconds", table=2, method=m).mean for m in ("sdedit", "score_ald", "dps")}
    first, second = seconds["score_ald"] / seconds["sdedit"], seconds["dps"] / seconds["score_ald"]
    return [
        Claim("Score ALD takes about 2× SDEdit (1.5–2.5).", f"{first:.2f}×", 1.5 <= first <= 2.5),
        Claim("DPS takes 2–3× Score ALD.", f"{second:.2f}×", 2.0 <= second <= 3.0),
    ]


def _list(values: Iterable[float], digits: int) -> str:
    return ", ".join(rounded(value, digits) for value in values)


def face_drift(
    results: Results, study: Study, distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> dict[int, float]:
    """By N: mean distance of restored out-of-distribution images to the in-distribution truths, less the originals'.

    Args:
        results: of a run.
        study: its settings.
        distance: [n, H, W, C] × [n, H, W, C] → [n].
    """
    names = {row["image"]: row["in_distribution"] for row in results.rows if row["table"] == 1}
    inside = list(names.values())
    drift = {}
    for count in study.forward_steps:
        triplets = results.triplets[count]
        faces = [t[1] for t, here in zip(triplets, inside, strict=True) if here]
        others = [t for t, here in zip(triplets, inside, strict=True) if not here]
        if not faces or not others:
            return {}
        pairs = [(other, face) for other in others for face in faces]
        targets = np.stack([face for _, face in pairs])
        restored, original = (np.stack([pair[0][k] for pair in pairs]) for k in (2, 1))
        drift[count] = float(np.mean(distance(restored, targets) - distance(original, targets)))
    return drift


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, columns padded so that it reads as plain text too."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    render = lambda line: "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"  # noqa: E731
    return "\n".join([render(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(render, lines)])


def write_report(out: Path, results: Results, study: Study, about: str, judged: Sequence[Claim]) -> list[Path]:
    """Write tables (CSV, Markdown), figures and ``report.md`` into ``out``; returns the paths."""
    first, second, times = table_1(results, study), table_2(results, study), run_time_ratios(results, study)
    written = [write_rows(out / "runs.csv", results.rows)]
    for name, (header, lines) in (("table1", first), ("table2", second), ("run_times", times)):
        written.append(write_text(out / f"{name}.csv", _csv(header, lines)))
    written += _figures(out, results, study)
    verdicts = [[c.sentence, c.seen, "holds" if c.holds else "does not hold"] for c in judged]
    text = "\n\n".join(
        [
            "# Diffusion Models for Inverse Problems, reproduced",
            about,
            *([lost] if (lost := diverged(results)) else []),
            "## Table 1: N forward steps, then N reverse steps",
            "Mean ± standard error over images, each the mean of its seeds; “study” is the number that the study prints.",
            markdown(*first),
            "## Table 2: deconvolution and inpainting",
            markdown(*second),
            "## Run time",
            "Warm: compilation is not counted.",
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
    names = {row["image"]: row["in_distribution"] for row in results.rows if row["table"] == 1}
    inside = [i for i, here in enumerate(names.values()) if here][-1:]
    outside = [i for i, here in enumerate(names.values()) if not here][-1:]
    rows = [[part for i in inside + outside for part in results.triplets[n][i]] for n in study.forward_steps]
    figures["figure2"] = plots.image_table(
        _order(rows, (1, 0, 2)),
        column_titles=["truth", "noisy", "restored"] * 2,
        row_titles=[f"N = {n}" for n in study.forward_steps],
        separators=(3,),
        title="Figure 2. Denoising: in distribution | out of distribution",
    )
    for number, method in enumerate(study.methods, start=3):
        figures[f"figure{number}"] = _method_figure(results, study, method, number)
    for name, figure in figures.items():
        plots.save_figure(out / f"{name}.png", figure)
    return [out / f"{name}.png" for name in figures]


def _method_figure(results: Results, study: Study, method: str, number: int) -> Any:
    rows, captions = [], []
    for std in study.noise_stds:
        row: list[np.ndarray] = []
        caption: list[str] = []
        for task in study.tasks:
            row += list(results.triplets[method, task, std][-1])
            wanted = {"table": 2, "method": method, "task": task, "noise_std": std, "seed": 0}
            scores = [r for r in results.rows if all(r.get(k) == v for k, v in wanted.items())][-1]
            shown = f"{scores['psnr']:.1f} dB, LPIPS {rounded(scores['lpips'], 3)}"
            caption += ["", "", "diverged" if math.isnan(scores["psnr"]) else shown]
        rows.append(row)
        captions.append(caption)
    return plots.image_table(
        rows,
        column_titles=["measured", "truth", "restored"] * len(study.tasks),
        row_titles=[f"σ = {std:g}" for std in study.noise_stds],
        captions=captions,
        separators=tuple(range(3, 3 * len(study.tasks), 3)),
        title=f"Figure {number}. {TITLES.get(method, method)}: " + " | ".join(study.tasks),
    )


def _order(rows: list[list[np.ndarray]], order: tuple[int, ...]) -> list[list[np.ndarray]]:
    return [[row[base + i] for base in range(0, len(row), 3) for i in order] for row in rows]


def _csv(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()


def write_rows(path: Path, rows: Sequence[dict[str, Any]], header: Sequence[str] | None = None) -> Path:
    """Write mappings as CSV, whole or not at all; without ``header``, the columns as they first appear."""
    if header is None:
        header = list(dict.fromkeys(name for row in rows for name in row))
    return write_text(path, _csv(header, [[row.get(name, "") for name in header] for row in rows]))
