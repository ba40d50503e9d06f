"""The search for default hyper-parameters: methods × tasks × a short grid each, on faces that no table evaluates.

Run: ``python -m benchmarks.search --images FOLDER [--num_images 4] [--steps 100] [--tasks …] [--methods …]``. Writes the
best setting of each pair (highest mean PSNR; LPIPS is beside it) into ``jaxdiff/experiments/settings.json`` under the prior's
name, and every figure into ``docs/search.md``. Pairs that are recorded in docs/search.csv already are not run again, so
the search can be stopped and taken up.
"""

import argparse
import csv
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from jaxdiff.experiments import tasks
from jaxdiff.experiments.commands.common import progress
from jaxdiff.experiments.pictures import from_folder
from jaxdiff.experiments.report import markdown
from jaxdiff.engine import batch_keys, restore_many, stack
from jaxdiff.files import atomic

ROOT = pathlib.Path(__file__).parent.parent
SETTINGS = ROOT / "jaxdiff" / "experiments" / "settings.json"
RECORD = ROOT / "docs" / "search.csv"

GRIDS = {
    "sdedit": ("start", (100, 200, 300, 400)),
    # Below 2 the annealed guidance is stable at every noise level, so no larger one is tried.
    "score_ald": ("strength", (0.5, 1.0, 1.9)),
    "dps": ("zeta", (1.0, 2.0, 4.0, 8.0)),
}


def evaluate(
    denoiser: jd.Denoiser, images: np.ndarray, task: str, method: str, option: str, value: float, steps: int
) -> tuple[float, float]:
    """Mean PSNR and LPIPS of one setting; noise, masks and kernels are the same for all settings."""
    key = jax.random.key(2026)
    problems = []
    for i, image in enumerate(images):
        place, noise = jax.random.split(jax.random.fold_in(key, i))
        operator = tasks.make_operator(task, place, image.shape)
        problems.append(jd.observe(noise, operator, jnp.asarray(image), tasks.get_task(task).noise_std))
    sampler = tasks.METHODS[method](**{option: value})
    with progress() as bar:
        calls = len(jd.samplers.grid_for(denoiser, sampler, steps).t)
        report = bar(f"{task}, {method} {value:g}", len(images) * calls, calls)
        keys = batch_keys(key, len(images))
        x = restore_many(keys, denoiser, stack(problems), sampler, steps=steps, report=report).x
    truths = jnp.asarray(images)
    psnr = jax.vmap(jd.metrics.psnr)(jnp.asarray(x), truths)
    lpips = jax.vmap(jd.metrics.lpips)(jnp.asarray(x), truths)
    return float(psnr.mean()), float(lpips.mean())


def read_record() -> dict[tuple[str, ...], tuple[float, float]]:
    """What was run before: (prior, steps, task, method, option, value) → PSNR, LPIPS."""
    if not RECORD.exists():
        return {}
    with open(RECORD, encoding="utf-8", newline="") as file:
        return {tuple(row[:6]): (float(row[6]), float(row[7])) for row in list(csv.reader(file))[1:]}


def write_record(record: dict[tuple[str, ...], tuple[float, float]]) -> None:
    """All figures, whole or not at all."""
    with atomic(RECORD) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["prior", "steps", "task", "method", "option", "value", "psnr", "lpips"])
        writer.writerows([*key, f"{psnr:.3f}", f"{lpips:.4f}"] for key, (psnr, lpips) in record.items())


def _overall(record: dict[tuple[str, ...], tuple[float, float]], prior: str, method: str) -> dict[str, float]:
    """The setting with the highest PSNR on average over the tasks searched, for tasks that were not."""
    option, values = GRIDS[method]

    def mean(value: float) -> float:
        found = [v[0] for k, v in record.items() if (k[0], k[3], k[5]) == (prior, method, f"{value:g}")]
        return float(np.mean(found)) if found else -np.inf

    return {option: max(values, key=mean)}


def settle(record: dict[tuple[str, ...], tuple[float, float]], prior: str) -> None:
    """Write the best of each pair into the settings and a page of all."""
    settings = json.loads(SETTINGS.read_text("utf-8"))
    best: dict[tuple[str, str], tuple[float, str, float]] = {}
    for (name, _, task, method, option, value), (psnr, _) in record.items():
        if name == prior and psnr > best.get((task, method), (-np.inf,))[0]:
            best[task, method] = (psnr, option, float(value))
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    for (task, method), (_, option, value) in sorted(best.items()):
        chosen.setdefault(task, {})[method] = {option: int(value) if option == "start" else value}
    chosen["default"] = {method: _overall(record, prior, method) for method in GRIDS}
    settings[prior] = chosen
    with atomic(SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    lines = [
        [task, method, f"{option} = {float(value):g}", f"{psnr:.2f}", f"{lpips:.3f}"]
        + ["**chosen**" if best[task, method][2] == float(value) else ""]
        for (name, _, task, method, option, value), (psnr, lpips) in sorted(record.items())
        if name == prior
    ]
    steps = ", ".join(sorted({key[1] for key in record if key[0] == prior}))
    text = (
        f"# Search for default settings\n\nPrior {prior}, {steps} steps, σ of each task's default, faces that no table "
        f"evaluates: `python -m benchmarks.search --images FOLDER`. Criterion: highest mean PSNR.\n\n"
        + markdown(["task", "method", "setting", "PSNR dB", "LPIPS", ""], lines)
    )
    with atomic(ROOT / "docs" / "search.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Run what is not recorded yet, then settle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of faces that are not evaluated")
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--num_images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--tasks", nargs="*", default=["gaussian_blur", "inpaint_box", "inpaint_random", "motion_blur", "denoise"]
    )
    parser.add_argument("--methods", nargs="*", default=list(GRIDS))
    args = parser.parse_args()
    denoiser = jd.load_denoiser(args.prior)
    found = from_folder(args.images, denoiser.image_shape[:2], in_distribution=True, most=args.num_images)
    images = np.stack([picture.pixels for picture in found])
    record = read_record()
    for task in args.tasks:
        for method in args.methods:
            option, values = GRIDS[method]
            for value in values:
                key = (args.prior, str(args.steps), task, method, option, f"{value:g}")
                if key not in record:
                    record[key] = evaluate(denoiser, images, task, method, option, value, args.steps)
                    write_record(record)
    settle(record, args.prior)


if __name__ == "__main__":
    main()
