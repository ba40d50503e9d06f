"""The leaderboard: every method × task × number of network calls, with published and with tuned settings.

Run:     python -m benchmarks.leaderboard --images FOLDER [--num_images 10] [--calls 20 100 1000:2] [--methods …] [--tasks …]
         [--budget-minutes 60] [--settle]
         1000:2 takes the first two pictures only. Pictures are cropped and resized to the prior's size. σ is 0.05 on
         [-1, 1] for all tasks.
Shows:   one cell for each task, method, settings and number of network calls. Settings are "published", or "tuned":
         those that ``benchmarks.search`` or ``jaxdiff tune`` recorded for this prior. Methods with several calls a step
         get fewer steps. Calls are forward passes, counted in the traced program (``jaxdiff.network_calls``); backward
         passes have their own column. Seconds are run time an image, without compilation. "–" marks a method that cannot
         serve a task, or not in so few calls.
Writes:  ``leaderboard.csv`` in benchmarks/results, one row a cell, as soon as it is finished; then ``leaderboard.md``.
         The same command goes on with cells that are missing, or that other weights or other options measured.
         ``--settle`` writes the best of each task into ``jaxdiff/tasks/best.json``, which ``jaxdiff restore`` reads when
         no method is named.
Seen:    benchmarks/results/leaderboard.md.
"""

import argparse
import csv
import hashlib
import json
import math
import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

import jaxdiff as jd
from benchmarks.leaderboard_page import SENSE, Row, best_within, page
from jaxdiff import compilation_cache, network_calls, samplers, tasks
from jaxdiff.cli.console import progress
from jaxdiff.engine import batch_keys, forget, restore_many
from jaxdiff.engine.bookmark import fingerprint
from jaxdiff.evaluation.pictures import from_folder
from jaxdiff.evaluation.scores import SCORES, scores
from jaxdiff.files import atomic
from jaxdiff.metrics.lpips import SMALLEST
from jaxdiff.operators.base import Operator
from jaxdiff.tasks.choice import KINDS, kind_of
from jaxdiff.tune import search as tuning

ROOT = pathlib.Path(__file__).parent.parent
DEFAULTS = ROOT / "jaxdiff" / "tasks" / "best.json"
TASKS = (
    "inpaint_box",
    "inpaint_random",
    "gaussian_blur",
    "motion_blur",
    "super_resolution",
    "phase_retrieval",
    "high_dynamic_range",
    "jpeg",
    "grayscale",
)
CALLS = (20, 100, 1000)
TOGETHER = 8
"""Cells after which compiled programs are dropped: they fill the memory, but cells share those that measure and score."""
IDENTITY = ("prior", "pixels", "noise_std", "task", "method", "settings", "calls")
"""What makes a cell the same cell."""
STATE = ("weights", "options", "images")
"""What makes it out of date, if it changes."""
COLUMNS = (
    *IDENTITY,
    *STATE,
    *("steps", "network_calls", "backward_passes"),
    *(name for score in SCORES for name in (score, f"{score}_se")),
    *("seconds_per_image", "status"),
    *(f"{name}_each" for name in SENSE),
)
"""``_each``: picture by picture, so that a cell of more pictures can be compared with one of fewer; older rows lack it."""


def name_of(row: Row) -> tuple[str, ...]:
    """Which cell it is."""
    return tuple(row[name] for name in IDENTITY)


def read_rows(path: pathlib.Path) -> dict[tuple[str, ...], Row]:
    """The cells that are there."""
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = [{**dict.fromkeys(COLUMNS, ""), **row} for row in csv.DictReader(file)]
    return {name_of(row): row for row in rows}


def write_rows(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """All cells, whole or not at all."""
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def cells(args: argparse.Namespace, pixels: str, weights: str, recorded: dict[str, Any]) -> Iterator[Row]:
    """Identity and state of each cell: few calls first, so that a first look comes early."""
    for calls, most in args.calls:
        images = args.num_images if most is None else min(most, args.num_images)
        for task in args.tasks:
            for method in args.methods:
                published = tasks.settings(method, task)
                found = {"published": published}
                table = recorded.get(args.prior, {})
                tuned = table.get(task, {}).get(method, table.get("default", {}).get(method))
                if tuned is not None and tuned != published:
                    found["tuned"] = tuned
                for kind, options in found.items():
                    values = (args.prior, pixels, f"{args.noise_std:g}", task, method, kind, str(calls))
                    state = (weights, json.dumps(options), str(images))
                    yield dict(zip((*IDENTITY, *STATE), (*values, *state), strict=True))


def budget(text: str) -> tuple[int, int | None]:
    """Network calls, and pictures where fewer are asked for: 1000:2 is 1000 calls on the first two.

    >>> budget("100"), budget("1000:2")
    ((100, None), (1000, 2))
    """
    calls, _, pictures = text.partition(":")
    return int(calls), int(pictures) if pictures else None


def run_cell(cell: Row, denoiser: Any, images: np.ndarray, args: argparse.Namespace, bar: Any) -> Row:
    """One row: scores, or the reason why there are none."""
    method, task, images = cell["method"], cell["task"], images[: int(cell["images"])]
    row = {**dict.fromkeys(COLUMNS, ""), **cell}
    try:
        sampler = samplers.METHODS[method](**json.loads(cell["options"]))
        grid = network_calls.grid_within(sampler, denoiser, int(cell["calls"]))
        steps = len(grid.t)
        cost = network_calls.calls_of(sampler, steps)
        row |= {"steps": str(steps), "network_calls": str(cost.forward), "backward_passes": str(cost.backward)}
        problems = tasks.measure(task, jax.random.key(0), images, args.noise_std)
        keys = batch_keys(jax.random.fold_in(jax.random.key(0), 1), len(images))
        report = bar(f"{task}, {method} ({cell['settings']})", len(images) * steps, steps)
        outcome = restore_many(
            keys, denoiser, problems, sampler, steps=grid, batch_size=min(args.batch_size, len(images)), report=report
        )
    except (ValueError, NotImplementedError) as error:
        return row | {"status": "refused: " + " ".join(str(error).split())}
    row["seconds_per_image"] = f"{outcome.seconds / len(images):.3f}"
    found = scores(outcome.x, images, problems)
    if not all(np.isfinite(values).all() for values in found.values()):
        return row | {"status": f"diverged: {int(np.isnan(found['psnr']).sum())} of {len(images)} images"}
    for name in SENSE:
        row[f"{name}_each"] = " ".join(f"{value:.4f}" for value in found[name])
    for name, values in found.items():
        row[name] = f"{values.mean():.4f}"
        row[f"{name}_se"] = f"{values.std(ddof=1) / math.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    return row | {"status": "ok"}


def expected_seconds(cell: Row, rows: Iterable[Row]) -> float:
    """What a cell will take, from what this method (or the slowest of all) took a call; 0 where nothing is known."""
    timed = [row for row in rows if row["seconds_per_image"] and int(row["network_calls"] or 0) > 0]
    alike = [row for row in timed if row["method"] == cell["method"]] or timed
    per_call = max((float(row["seconds_per_image"]) / int(row["network_calls"]) for row in alike), default=0.0)
    return per_call * int(cell["calls"]) * int(cell["images"])


def fill(args: argparse.Namespace, record: pathlib.Path) -> list[Row]:
    """Run the cells that are missing or out of date, until the time is up; all cells of this run's pictures."""
    begun = time.monotonic()
    denoiser = jd.load_denoiser(args.prior)
    if min(denoiser.image_shape[:2]) < SMALLEST["alex"]:
        raise SystemExit(
            f"the leaderboard is scored by LPIPS, which needs {SMALLEST['alex']} pixels a side; use jaxdiff bench."
        )
    found = from_folder(args.images, denoiser.image_shape, in_distribution=True, most=args.num_images)
    images = np.stack([picture.pixels for picture in found])
    args.num_images = len(images)
    pixels = hashlib.sha256(images.tobytes()).hexdigest()[:12]
    recorded = tuning.read_settings(args.settings)
    weights = fingerprint(jax.tree.leaves(denoiser))[:12]  # the numbers alone: a class may get new fields
    rows = read_rows(record)
    todo = list(cells(args, pixels, weights, recorded))
    todo = [cell for cell in todo if any(rows.get(name_of(cell), {}).get(name) != cell[name] for name in STATE)]
    left = len(todo)
    with progress() as bar:
        for count, cell in enumerate(todo):
            spent = time.monotonic() - begun
            if spent + expected_seconds(cell, rows.values()) > 60 * args.budget_minutes:
                continue  # a cheaper cell may still fit
            rows[name_of(cell)] = run_cell(cell, denoiser, images, args, bar)
            write_rows(record, rows.values())
            if count % TOGETHER == TOGETHER - 1:
                forget()
            left -= 1
    if left:
        print(f"{left} cells are left for another time; the same command goes on from here.")
    here = (args.prior, pixels, f"{args.noise_std:g}")
    shown = [row for row in rows.values() if (row["prior"], row["pixels"], row["noise_std"]) == here]
    return [row | {"mark": "" if row["weights"] == weights else " †"} for row in shown]


def settle(rows: list[Row], prior: str, metric: str, path: pathlib.Path) -> None:
    """Write the best of each task and budget as the defaults of ``jaxdiff restore``; other tasks keep theirs.

    Under the prior's name is the best with any settings. Under "published" is the best with published settings: by task, and
    by kind of operator. Budgets that were measured on fewer pictures than others settle nothing.
    """
    most = max(int(row["images"]) for row in rows)
    rows = [row for row in rows if int(row["images"]) == most]
    published = [row for row in rows if row["settings"] == "published"]
    table = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name, found in ((prior, _by_task(rows, metric)), ("published", _by_task(published, metric))):
        table.setdefault(name, {}).update(found)
    table["published"].update(_by_kind(published, metric))
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def _by_task(rows: list[Row], metric: str) -> dict[str, list[dict[str, Any]]]:
    """Task → the best entry of each budget."""
    found: dict[str, list[dict[str, Any]]] = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        for calls in sorted({int(row["calls"]) for row in rows if row["task"] == task}):
            if best := best_within(rows, task, calls, metric):
                row = best[0]
                entry = _entry(calls, row["method"], json.loads(row["options"]), row["network_calls"])
                found.setdefault(task, []).append(entry)
    return found


def _by_kind(rows: list[Row], metric: str) -> dict[str, list[dict[str, Any]]]:
    """Kind of operator → of each budget, the method that is least behind the best on average over the tasks of that kind.

    Every spectral operator is linear too, so its tasks count among those of linear operators. A method without a figure on
    one of the tasks is left out.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    kinds = {task: kind_of(task) for task in dict.fromkeys(row["task"] for row in rows)}
    for kind in KINDS:
        linear = kind is not Operator
        names = [task for task, own in kinds.items() if (issubclass(own, kind) if linear else own is kind)]
        for calls in sorted({int(row["calls"]) for row in rows}):
            cells = {
                (row["method"], row["task"]): row
                for row in rows
                if row["status"] == "ok" and row["calls"] == str(calls) and row["task"] in names
            }
            methods = [m for m in dict.fromkeys(m for m, _ in cells) if all((m, task) in cells for task in names)]
            if not methods:
                continue
            method = max(methods, key=lambda m: sum(SENSE[metric] * float(cells[m, task][metric]) for task in names))
            spent = max(int(cells[method, task]["network_calls"]) for task in names)
            found.setdefault(kind.__name__, []).append(_entry(calls, method, tasks.settings(method), spent))
    return found


def _entry(calls: int, method: str, options: dict[str, Any], spent: str | int) -> dict[str, Any]:
    return {"calls": calls, "method": method, "options": options, "network_calls": int(spent)}


def main() -> None:
    """Fill, then write the page, and the defaults if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of pictures that nothing was tuned on")
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--num_images", type=int, default=10)
    parser.add_argument(
        "--calls", type=budget, nargs="*", default=[budget(str(calls)) for calls in CALLS], metavar="CALLS[:PICTURES]"
    )
    parser.add_argument(
        "--methods", nargs="*", default=list(samplers.METHODS), choices=list(samplers.METHODS), metavar="METHOD"
    )
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=tasks.names("default"), metavar="TASK")
    parser.add_argument("--noise_std", type=float, default=0.05, help="σ on [-1, 1]")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--budget-minutes", type=float, default=math.inf, help="start no cell that would end later")
    parser.add_argument("--settings", type=pathlib.Path, default=ROOT / "jaxdiff" / "tasks" / "settings.json")
    parser.add_argument("--metric", default="psnr", choices=list(SENSE), help="what the best is judged by")
    parser.add_argument("--settle", action="store_true", help="write the best of each task into the defaults")
    parser.add_argument("--defaults", type=pathlib.Path, default=DEFAULTS, help="the file that --settle writes")
    parser.add_argument(
        "--results", type=pathlib.Path, default=ROOT / "benchmarks" / "results", help="folder of the csv and the page"
    )
    args = parser.parse_args()
    with compilation_cache.enabled():
        rows = fill(args, args.results / "leaderboard.csv")
    if not rows:
        return
    with atomic(args.results / "leaderboard.md") as temporary:
        temporary.write_text(page(rows, args.metric), encoding="utf-8")
    if args.settle:
        settle(rows, args.prior, args.metric, args.defaults)


if __name__ == "__main__":
    main()
