"""The report of a training run: curves of loss and of held-out PSNR, and draws as they became better."""

import shlex
from pathlib import Path

import numpy as np

from jaxdiff.files import load_image
from jaxdiff.pages import REPORT, Page, Picture, Pictures, Plot, Section, Series, Table, settings_of, write_page
from jaxdiff.training.config import TrainConfig
from jaxdiff.training.folder import flat
from jaxdiff.training.report import Table as Log
from jaxdiff.training.report import smoothed

__all__ = ["write_report"]

POINTS = 1000
"""Of a curve, at most."""
SHEETS = 12
"""Sheets of samples, at most."""


def write_report(out: Path, config: TrainConfig, log: Log, evaluation: Log) -> Path:
    """Write the page of a run from its logs and sheets, so that a run that was stopped has the same one; returns its path."""
    done = max((int(row["images"]) for row in log.rows), default=0) // config.optimizer.batch_size
    sections = [_samples(out), _loss(log), *_denoising(config, evaluation)]
    lead = (
        f"{done:,} of {config.steps:,} updates of {config.optimizer.batch_size} images, {config.prior.prediction}-prediction, "
        f"prior in {config.dtype}. The first average of the weights ({config.ema[0]:g}) is measured and drawn from."
    )
    folder = shlex.quote(str(out))
    command = f"jaxdiff train --config {folder}/config.json --out ANOTHER"
    settings = settings_of(**{"to repeat it": command}, **flat(config.to_dict()))
    return write_page(out / REPORT, Page(f"Training: {out.name}", lead, [s for s in sections if s.parts], settings))


def _samples(out: Path) -> Section:
    sheets = sorted((out / "samples").glob("step_*.png"))
    chosen = (
        [sheets[i] for i in sorted({*np.linspace(0, len(sheets) - 1, SHEETS).round().astype(int)})] if sheets else []
    )
    pictures = [Picture(f"after {int(path.stem[5:]):,} updates", load_image(path).pixels) for path in chosen]
    compare = (0, len(pictures) - 1) if len(pictures) > 1 else None
    columns = 1 if len(pictures) == 1 else None
    return Section("Draws", [Pictures(pictures, columns, compare)] if pictures else [])


def _loss(log: Log) -> Section:
    seen, losses = np.asarray(log.column("images")), np.asarray(log.column("loss"))
    if not len(seen):
        return Section("Loss")
    means, width = smoothed(losses)
    keep = sorted({*np.linspace(0, len(seen) - 1, POINTS).round().astype(int)})
    curves = {"as logged": losses, f"mean of {width + 1} rows": np.asarray(means)}
    plot = Plot(
        "images seen",
        "loss",
        {name: Series([*seen[keep]], [*values[keep]]) for name, values in curves.items()},
        log_y=True,
    )
    last = log.rows[-1]
    names = {"step": "updates", "images": "images", "loss": "loss", "grad_norm": "gradient norm",
             "learning_rate": "learning rate", "images_per_second": "images/s", "seconds": "seconds"}  # fmt: skip
    return Section(
        "Loss",
        [plot, Table([*names.values()], [[last[name] for name in names]])],
        "The table has the last row of the log.",
    )


def _denoising(config: TrainConfig, evaluation: Log) -> list[Section]:
    """PSNR of x̂₀ by noise level: over the training, and at its end."""
    if not evaluation.rows:
        return []
    rows = [{name: float(value) for name, value in row.items()} for row in evaluation.rows]
    of = {t: [row for row in rows if row["t"] == t] for t in config.report.times}
    over = Plot(
        "images seen", "PSNR of x̂₀ [dB]",
        {f"t = {t}": Series([r["images"] for r in found], [r["psnr"] for r in found]) for t, found in of.items()},
        "Over the training",
    )  # fmt: skip
    steps = sorted({row["step"] for row in rows})
    chosen = dict.fromkeys([steps[0], steps[len(steps) // 2], steps[-1]])
    series = {}
    for step in chosen:
        there = sorted((row for row in rows if row["step"] == step), key=lambda row: row["t"])
        series[f"after {int(step):,} updates"] = Series([r["t"] for r in there], [r["psnr"] for r in there])
    by_level = Plot("timestep t", "PSNR of x̂₀ [dB]", series, "By noise level")
    last = [row for row in rows if row["step"] == steps[-1]]
    lines = [[f"{row['t']:.0f}", f"{row['psnr']:.2f}", f"{row['eps_mse']:.4g}"] for row in last]
    table = Table(["timestep t", "PSNR of x̂₀ dB", "squared error of ε̂"], lines)
    text = "Held-out images are noised to timestep t and denoised by one network call. The table has the last update."
    return [Section("Denoising of held-out images", [over, by_level, table], text)]
