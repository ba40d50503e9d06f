"""The page of ``benchmarks.leaderboard``: which cell is best, and the tables, from rows that were measured."""

import math

import jax
import numpy as np

from jaxdiff.tables import markdown

SENSE = {"psnr": 1, "ssim": 1, "lpips": -1}
TITLES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS (lower is better)"}
Row = dict[str, str]
"""A cell's columns, as the csv holds them."""


def best_within(rows: list[Row], task: str, calls: int, metric: str) -> tuple[Row, float] | None:
    """The best cell of a task that took at most so many network calls, and its mean over the pictures that all share."""
    rows = [row for row in rows if row["task"] == task]
    # A larger budget's cell may have taken as few calls, but on fewer pictures it would decide by those.
    least = max((int(row["images"]) for row in rows if row["calls"] == str(calls)), default=0)
    able = [
        row
        for row in rows
        if row["status"] == "ok" and int(row["network_calls"]) <= calls and int(row["images"]) >= least
    ]
    shared = min((int(row["images"]) for row in able), default=0)
    means = [(row, mean) for row in able if (mean := mean_of(row, metric, shared)) is not None]
    return max(means, key=lambda pair: SENSE[metric] * pair[1], default=None)


def mean_of(row: Row, metric: str, images: int) -> float | None:
    """A cell's mean over the first so many pictures; None where that was not kept."""
    if int(row["images"]) == images:
        return float(row[metric])
    each = [float(value) for value in row[f"{metric}_each"].split()]
    return float(np.mean(each[:images])) if each else None


def page(rows: list[Row], metric: str) -> str:
    """The tables: the best within a number of calls, then each task and budget, best first."""
    names = list(dict.fromkeys(row["task"] for row in rows))
    budgets = sorted({int(row["calls"]) for row in rows})
    first = rows[0]
    parts = [
        "# Leaderboard\n\nThese tables compare all methods on nine tasks, with the same number of network calls.\n\n"
        f"Prior {first['prior']}, σ = {first['noise_std']} on [-1, 1], device {jax.devices()[0].device_kind}. Made by "
        "`python -m benchmarks.leaderboard --images FOLDER`. `leaderboard.csv` has every number.\n\n"
        "The tables have means over pictures, with standard errors; each picture is one draw. Calls are forward + backward "
        "passes through the network for one image. A budget limits forward passes. Misfit is the root mean square of "
        "y − A(x) where something was measured. A misfit of σ is as good as the noise allows. Bold is the best of a column. "
        "– means that the method cannot do the task within the budget, or diverged."
        + any(row["mark"] for row in rows)
        * " † marks results with earlier weights of this prior.",
        "## The best within a number of network calls\n\nThe brackets have the settings and the network calls. If a budget "
        "was measured on fewer pictures, its column compares all budgets on those pictures. Results without scores for "
        "each picture are left out of such a column. – means that nothing was measured. "
        f"`jaxdiff restore` uses what is best by {TITLES[metric]} on all pictures.",
        *(
            f"By {TITLES[name]}:\n\n{_best_table(rows, names, budgets, name)}"
            for name in dict.fromkeys((metric, "lpips"))
        ),
    ]
    parts.append(
        f"## Every method at a glance\n\n{TITLES[metric]} with the better of its settings; the best methods come first. The "
        "last column says how far a method is behind the best one, on average over its tasks."
    )
    parts += [f"{calls} calls:\n\n" + _overview(rows, names, calls, metric) for calls in budgets]
    for task in names:
        for calls in budgets:
            part = [row for row in rows if (row["task"], row["calls"]) == (task, str(calls))]
            if part:
                count = max(int(row["images"]) for row in part)
                parts.append(f"## {task}, {calls} calls, {count} pictures\n\n" + _cell_table(part, metric))
    return "\n\n".join(parts) + "\n"


def _best_table(rows: list[Row], names: list[str], budgets: list[int], metric: str) -> str:
    digits = 2 if metric == "psnr" else 3
    lines = []
    for task in names:
        line = [task]
        for calls in budgets:
            measured = any(row["task"] == task and row["calls"] == str(calls) for row in rows)
            best = best_within(rows, task, calls, metric) if measured else None
            if best is None:
                line.append("–")
                continue
            row, mean = best
            line.append(f"{row['method']}{row['mark']} ({row['settings']}, {row['network_calls']}) {mean:.{digits}f}")
        lines.append(line)
    return markdown(["task", *(f"{calls} calls" for calls in budgets)], lines)


def _overview(rows: list[Row], names: list[str], calls: int, metric: str) -> str:
    digits = 1 if metric == "psnr" else 3
    found: dict[str, dict[str, float]] = {}  # of each method, by task
    for row in rows:
        if row["status"] == "ok" and row["calls"] == str(calls):
            tasks_of = found.setdefault(row["method"], {})
            value = SENSE[metric] * float(row[metric])
            tasks_of[row["task"]] = max(value, tasks_of.get(row["task"], -math.inf))
    best = {task: max((of[task] for of in found.values() if task in of), default=math.nan) for task in names}
    behind = {method: float(np.mean([best[task] - of[task] for task in of])) for method, of in found.items()}
    lines = []
    for method in sorted(found, key=behind.__getitem__):
        line = [method]
        for task in names:
            value = found[method].get(task)
            text = "–" if value is None else f"{SENSE[metric] * value:.{digits}f}"
            line.append(f"**{text}**" if value == best[task] else text)
        lines.append([*line, f"{behind[method]:.{digits}f}"])
    return markdown(["method", *names, "behind"], lines)


def _cell_table(part: list[Row], metric: str) -> str:
    able = [row for row in part if row["status"] == "ok"]
    able.sort(key=lambda row: -SENSE[metric] * float(row[metric]))
    best = {name: max((SENSE[name] * float(row[name]) for row in able), default=math.nan) for name in SENSE}
    lines = []
    for row in able:
        line = [row["method"] + row["mark"], row["settings"]]
        for name, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3)):
            text = f"{float(row[name]):.{digits}f}" + (
                f" ± {float(row[f'{name}_se']):.{digits}f}" if row[f"{name}_se"] else ""
            )
            line.append(f"**{text}**" if SENSE[name] * float(row[name]) == best[name] else text)
        calls = f"{row['network_calls']} + {row['backward_passes']}"
        lines.append([*line, f"{float(row['misfit']):.3f}", calls, f"{float(row['seconds_per_image']):.2f}"])
    lines += [[row["method"] + row["mark"], row["settings"], *"–" * 6] for row in part if row["status"] != "ok"]
    return markdown(["method", "settings", "PSNR dB", "SSIM", "LPIPS", "misfit", "calls", "s/image"], lines)
