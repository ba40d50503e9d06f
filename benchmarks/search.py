"""The search for default hyper-parameters: methods × tasks, on faces that no table evaluates.

Run:     python -m benchmarks.search --images FOLDER [--num_images 4] [--calls 100] [--budget 9] [--tasks …] [--methods …]
Writes:  every figure, as it is measured, into ``search.json`` in benchmarks/results; the same command goes on from there
         after a kill. Then ``search.csv`` (one row a setting), ``search.md`` (a table of all), and the best setting of
         each pair into ``jaxdiff/tasks/settings.json`` under the prior's name.
         ``jaxdiff/tune/proposals.py`` holds the ranges that each method's options may take.
Seen:    benchmarks/results/search.md.
"""

import argparse
import csv
import json
import pathlib
from typing import Any

import jax
import numpy as np

import jaxdiff as jd
from jaxdiff import tasks
from jaxdiff.cli.console import progress
from jaxdiff.engine import forget
from jaxdiff.evaluation.pictures import from_folder
from jaxdiff.files import atomic
from jaxdiff.tables import markdown
from jaxdiff.tune import search as tuning

ROOT = pathlib.Path(__file__).parent.parent
SETTINGS = ROOT / "jaxdiff" / "tasks" / "settings.json"
KEY = 2026
"""Of masks, kernels and noise, the same for all settings."""


def search(args: argparse.Namespace, record: pathlib.Path) -> None:
    """Run what is not recorded yet; a method that cannot serve a task is passed over."""
    denoiser = jd.load_denoiser(args.prior)
    found = from_folder(args.images, denoiser.image_shape, in_distribution=True, most=args.num_images)
    images = np.stack([picture.pixels for picture in found])
    with progress() as bar:
        for task in args.tasks:
            std = tasks.get_task(task).noise_std if args.noise_std is None else args.noise_std
            problems = tasks.measure(task, jax.random.key(KEY), images, std)
            for method in args.methods:
                trials = tuning.Search(method, problems, images, calls=args.calls, seed=KEY)
                try:
                    tuning.tune(
                        record,
                        trials,
                        denoiser,
                        task=task,
                        prior=args.prior,
                        budget=args.budget,
                        metric=args.metric,
                        noise_std=std,
                        source="folder",
                        report=bar(f"{task}, {method}", args.budget, 1),
                    )
                except ValueError as error:
                    print(f"{method} on {task}: {error}")
                forget()


def settle(record: pathlib.Path, prior: str, metric: str, settings: pathlib.Path, results: pathlib.Path) -> None:
    """Write the best of each pair into the settings, and all figures as a page and as rows."""
    held = tuning.read_settings(record)
    trail = held["provenance"][prior]
    recorded = json.loads(settings.read_text("utf-8"))
    table = recorded.setdefault(prior, {})
    for task, found in {**held[prior], "default": _overall(trail, metric)}.items():
        table[task] = {**table.get(task, {}), **found}  # what was not searched again stays
    with atomic(settings) as temporary:
        temporary.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
    rows = list(_rows(held, prior))
    with atomic(results / "search.csv") as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["prior", "network_calls", "noise_std", "images", "task", "method", "setting", *tuning.METRICS])
        writer.writerows(row[:-1] for row in rows)
    lines = [[row[4], row[5], row[6], *row[7:10], "**chosen**" if row[10] else ""] for row in rows]
    text = (
        f"# Search for default settings\n\nFor each task and method, several settings were tried, and the one with the best "
        f"mean of {metric} was chosen. The prior is {prior}. The faces are in no table of results. The first row of each "
        "pair is the setting used before. – means that the run diverged or is not possible. `search.json` has all details. "
        "SDEdit's settings, and Score ALD's on Gaussian blur, are from "
        "[an earlier search](../../docs/results.md#where-the-settings-come-from).\n\n```\n"
        + "\n".join(_commands(trail))
        + "\n```\n\n"
        + markdown(["task", "method", "setting", "PSNR dB", "SSIM", "LPIPS", ""], lines)
    )
    with atomic(results / "search.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _commands(trail: dict[str, Any]) -> list[str]:
    """What makes the record: a command for each number of pictures and network calls."""
    groups: dict[tuple[int, int], set[str]] = {}
    for methods in trail.values():
        for method, entry in methods.items():
            groups.setdefault((entry["images"], entry["network_calls"]), set()).add(method)
    program = "python -m benchmarks.search --images FOLDER"
    return [
        f"{program} --num_images {images} --calls {calls} --tasks … --methods {' '.join(sorted(names))}"
        for (images, calls), names in sorted(groups.items())
    ]


def _rows(held: dict[str, Any], prior: str) -> Any:
    """One row a trial: prior, calls, σ, images, task, method, setting, figures, whether chosen."""
    for task, methods in sorted(held["provenance"][prior].items()):
        for method, entry in sorted(methods.items()):
            chosen = held.get(prior, {}).get(task, {}).get(method)
            for trial in entry["trials"]:
                setting = ", ".join(f"{k} = {v}" for k, v in trial["options"].items()) or "defaults"
                figures = ["–" if trial[name] is None else f"{trial[name]:.4g}" for name in tuning.METRICS]
                about = [prior, entry.get("network_calls", ""), entry["noise_std"], entry["images"]]
                yield [*about, task, method, setting, *figures, trial["options"] == chosen]


def _overall(trail: dict[str, Any], metric: str) -> dict[str, dict[str, Any]]:
    """By method, the setting with the best figure on average over the tasks that tried it, for tasks that were not."""
    chosen = {}
    for method in sorted({method for methods in trail.values() for method in methods}):
        figures: dict[str, list[float]] = {}
        entries = [methods[method] for methods in trail.values() if method in methods]
        for entry in entries:
            for trial in entry["trials"]:
                if trial[metric] is not None:
                    figures.setdefault(json.dumps(trial["options"]), []).append(trial[metric])
        most = max((len(values) for values in figures.values()), default=0)
        common = {name: np.mean(values) for name, values in figures.items() if len(values) == most}
        if common:
            chosen[method] = json.loads(max(common, key=lambda name: tuning.METRICS[metric] * common[name]))
    return chosen


def main() -> None:
    """Run what is not recorded yet, then settle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of faces that are not evaluated")
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--num_images", type=int, default=4)
    parser.add_argument("--calls", type=int, default=100, help="network calls of a run")
    parser.add_argument("--budget", type=int, default=9, help="settings a pair")
    parser.add_argument("--metric", default="psnr", choices=list(tuning.METRICS))
    parser.add_argument("--noise_std", type=float, default=None, help="σ of all tasks; each task's default without it")
    parser.add_argument(
        "--tasks", nargs="*", default=["gaussian_blur", "inpaint_box", "inpaint_random", "motion_blur", "denoise"]
    )
    parser.add_argument("--methods", nargs="*", default=["sdedit", "score_ald", "dps"])
    parser.add_argument(
        "--results", type=pathlib.Path, default=ROOT / "benchmarks" / "results", help="folder of the record and page"
    )
    parser.add_argument("--settings", type=pathlib.Path, default=SETTINGS, help="the settings file to update")
    args = parser.parse_args()
    record = args.results / "search.json"
    search(args, record)
    settle(record, args.prior, args.metric, args.settings, args.results)


if __name__ == "__main__":
    main()
