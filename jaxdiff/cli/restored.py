"""What ``jaxdiff restore`` writes: pictures, scores, and what many draws say of what is certain."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdiff import plots
from jaxdiff.cli.console import console
from jaxdiff.engine import stack
from jaxdiff.evaluation.calibration import coverage
from jaxdiff.evaluation.scores import scores
from jaxdiff.files import save_image
from jaxdiff.problems import Problem
from jaxdiff.tables import rounded, write_rows

__all__ = ["CALIBRATED", "check", "write"]

CALIBRATED = 8
"""Fewest draws for a calibration curve: with n of them, coverage moves in steps of 2/(n + 1)."""
WRITTEN = re.compile(r"(measured|truth|restored_\d+|mean|std|calibration|overview)\.png|(metrics|calibration)\.csv")
"""Names of all that may be written; what an earlier run left of it goes."""
SHOWN = 3
"""Draws that the overview shows."""


def check(out: Path, inputs: Sequence[str | None]) -> None:
    """See that nothing but an earlier run's files is in the way of what will be written.

    Args:
        out: the folder, which need not be there.
        inputs: paths that the run reads.

    Raises:
        ValueError: if an input would be overwritten, or a folder has a name of these.
    """
    read = {Path(name).resolve() for name in inputs if name is not None}
    for file in _written(out):
        if file.resolve() in read:
            raise ValueError(f"{file} is read by this run, which would overwrite it; choose another --out.")
        if file.is_dir():
            raise ValueError(f"{file} is a folder, and a picture of this name is to be written; choose another --out.")


def write(out: Path, draws: np.ndarray, problem: Problem, truth: np.ndarray | None) -> None:
    """Write what n draws [n, H, W, C] are: each, their mean and standard deviation, scores, calibration, an overview.

    Args:
        out: folder.
        draws: the restorations.
        problem: what was measured.
        truth: [H, W, C], if it is known.
    """
    view = np.asarray(problem.operator.view(problem.y))
    rows = [] if truth is None else _scores(draws, truth, problem)
    if (out / "overview.png").exists():  # an earlier run into the same folder; else files of these names are the user's
        for file in sorted(_written(out), key=lambda file: file.stem == "overview"):  # last: where it is, all may go
            file.unlink()
    save_image(out / "measured.png", view)
    for i, image in enumerate(draws):
        save_image(out / f"restored_{i}.png", image)
    also = ""
    if truth is not None:
        save_image(out / "truth.png", truth)
        write_rows(out / "metrics.csv", rows)
        also += ", metrics.csv"
    if len(draws) > 1:
        save_image(out / "mean.png", draws.mean(0))
        also += ", mean.png, std.png"
    try:
        if len(draws) > 1:
            plots.save_figure(out / "std.png", plots.spread_figure([], [("standard deviation", _std(draws))], cell=3.0))
        if len(draws) >= CALIBRATED and truth is not None:
            _write_calibration(out, draws, truth)
            also += ", calibration.png, calibration.csv"
        plots.save_figure(out / "overview.png", _overview(view, draws, truth, rows))
    except ValueError as error:  # no matplotlib: pictures without titles and scale are better than none
        console.print(f"note: {error}")
        also = also.replace(", std.png", "").replace(", calibration.png, calibration.csv", "")
        shown = [
            view,
            *([] if truth is None else [truth]),
            *draws[:SHOWN],
            *([draws.mean(0)] if len(draws) > 1 else []),
        ]
        tiles = [_as_rgb(picture, draws.shape[1:]) for picture in shown]
        save_image(out / "overview.png", plots.sheet(tiles, columns=len(tiles)))
    if rows:
        Console(highlight=False).print(_table(rows))
    console.print(f"written to {out}: overview.png, restored_*.png{also}")


def _written(out: Path) -> list[Path]:
    """What a run wrote into a folder, or may overwrite there."""
    return [file for file in out.iterdir() if WRITTEN.fullmatch(file.name)] if out.is_dir() else []


def _std(draws: np.ndarray) -> np.ndarray:
    """[H, W]: the standard deviation of the draws, root mean square over colours, on the [-1, 1] scale."""
    return np.sqrt(np.mean(np.clip(draws, -1, 1).var(0, ddof=1), axis=-1))


def _overview(view: np.ndarray, draws: np.ndarray, truth: np.ndarray | None, rows: Sequence[dict[str, Any]]) -> Any:
    """Measured, truth, some draws, their mean; then standard deviation and, if it can be known, the mean's error."""

    def titled(name: str, row: int) -> str:
        return f"{name}\n{rows[row]['psnr']:.2f} dB, LPIPS {rounded(rows[row]['lpips'], 3)}" if rows else name

    shape, many = draws.shape[1:], len(draws) > 1
    images = [("measured", _as_rgb(view, shape))]
    if truth is not None:
        images.append(("truth", truth))
    images += [(titled(f"draw {i + 1}" if many else "restored", i), image) for i, image in enumerate(draws[:SHOWN])]
    maps = []
    if many:
        mean = np.clip(draws, -1, 1).mean(0)
        images.append((titled(f"mean of {len(draws)}", -1), mean))
        maps.append(("standard deviation\nof the draws", _std(draws)))
        if truth is not None:
            maps.append(("error of the mean\nsame scale", np.sqrt(np.mean((mean - truth) ** 2, axis=-1))))
    return plots.spread_figure(images, maps)


def _write_calibration(out: Path, draws: np.ndarray, truth: np.ndarray) -> None:
    levels = _levels(len(draws))
    of_level = jax.vmap(lambda level: coverage(jnp.asarray(draws), jnp.asarray(truth), level))
    covered = np.asarray(of_level(jnp.asarray(levels)))
    distance = float(np.abs(covered - levels).mean())
    figure = plots.calibration_figure(levels, covered, samples=len(draws), error=distance)
    plots.save_figure(out / "calibration.png", figure)
    pairs = zip(levels, covered, strict=True)
    write_rows(out / "calibration.csv", [{"level": f"{a:.3f}", "coverage": f"{b:.4f}"} for a, b in pairs])


def _levels(draws: int, most: int = 20) -> np.ndarray:
    """Levels that intervals of so many draws can have exactly: k/(n+1), k + n odd; others take ranks in part."""
    exact = np.arange(1 if draws % 2 == 0 else 2, draws + 1, 2, dtype=np.float32) / np.float32(draws + 1)
    return exact[:: -(-len(exact) // most)]


def _scores(restored: np.ndarray, truth: np.ndarray, problem: Problem) -> list[dict[str, Any]]:
    """A row a sample, and one for their mean: single sample and mean over samples are different things."""
    images = {f"sample {i}": image for i, image in enumerate(restored)}
    if len(restored) > 1:
        images["mean of the samples' images"] = restored.mean(0)
    count = len(images)
    found = scores(np.stack([*images.values()]), np.stack([truth] * count), stack([problem] * count))
    found["misfit_rms"] = found.pop("misfit")
    return [
        {"image": name} | {score: round(float(values[i]), 4) for score, values in found.items()}
        for i, name in enumerate(images)
    ]


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=None)
    columns = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3), "misfit_rms": ("misfit RMS", 4)}
    table.add_column("image")
    for title, _ in columns.values():
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(row["image"], *(rounded(row[name], digits) for name, (_, digits) in columns.items()))
    return table


def _as_rgb(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view in the size and channels of the image, nearest neighbour."""
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    rows = np.arange(shape[0]) * picture.shape[0] // shape[0]
    columns = np.arange(shape[1]) * picture.shape[1] // shape[1]
    return picture[rows][:, columns]
