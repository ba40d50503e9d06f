"""What a restoration gave, in one call: triplets, draws, the way of a run, the spread of a posterior, its calibration."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff import metrics
from jaxdiff.plots.layout import image_table, pyplot, spread_figure
from jaxdiff.problems import Problem
from jaxdiff.samplers.posterior import Posterior
from jaxdiff.samplers.trajectory import Trajectory
from jaxdiff.typing import Image

__all__ = ["calibration", "draws", "spread", "trajectory", "triplets"]

Inset = tuple[int, int, int]


def triplets(
    problems: Problem | Sequence[Problem],
    restored: Any,
    truth: Any = None,
    *,
    titles: Sequence[str] = (),
    columns: int = 1,
    inset: Inset | None = None,
) -> Any:
    """Measurement, restoration and ground truth in a row for each problem, with the PSNR below the restoration.

    Args:
        problems: one or several, of one prior.
        restored: [H, W, C], or [n, H, W, C] for n problems, in [-1, 1].
        truth: the same shape; without it the rows are pairs.
        titles: left of the rows, e.g. names of the pictures.
        columns: triplets side by side in one row.
        inset: top, left and side of a square that each picture of full size shows enlarged, in pixels.

    Raises:
        ValueError: if there is no problem, not one restoration a problem, or less than one column, or if the inset lies
            outside.
    """
    _check_columns(columns)
    if isinstance(problems, Problem):
        problems, restored, truth = [problems], [restored], None if truth is None else [truth]
    restored = [np.asarray(x) for x in restored]
    if len(restored) != len(problems) or (truth is not None and len(truth) != len(problems)):
        raise ValueError(f"{len(problems)} problems need as many restorations and truths, got {len(restored)}.")
    width = 2 if truth is None else 3
    heads = ["measurement", "restoration", "ground truth"][:width]
    cells, notes = [], []
    for i, (problem, image) in enumerate(zip(problems, restored, strict=True)):
        cells.append([_seen(problem), image, *([] if truth is None else [np.asarray(truth[i])])])
        notes.append(["", "" if truth is None else _psnr(image, truth[i]), ""][:width])
    starts = range(0, len(cells), columns)
    return image_table(
        [list(chain(*cells[i : i + columns])) for i in starts],
        column_titles=heads * min(columns, len(cells)),
        row_titles=titles,
        captions=[list(chain(*notes[i : i + columns])) for i in starts],
        separators=tuple(range(width, width * columns, width)),
        inset=inset,
    )


def draws(
    found: Posterior | Any,
    truth: Any = None,
    *,
    problem: Problem | None = None,
    most: int = 8,
    columns: int = 6,
    inset: Inset | None = None,
) -> Any:
    """The measurement, the ground truth, and draws of the posterior, with the PSNR below each draw.

    Args:
        found: from ``jd.posterior``, or samples [n, H, W, C] in [-1, 1].
        truth: [H, W, C].
        problem: what was measured.
        most: draws to show.
        columns: pictures a row.
        inset: top, left and side of a square that each picture of full size shows enlarged, in pixels.

    Raises:
        ValueError: if there is nothing to draw, or less than one column, or if the inset lies outside.
    """
    _check_columns(columns)
    samples = np.asarray(found.samples if isinstance(found, Posterior) else found)
    shown = [] if problem is None else [("measurement", "", _seen(problem))]
    shown += [] if truth is None else [("ground truth", "", np.asarray(truth))]
    for i, image in enumerate(samples[:most]):
        shown.append((f"draw {i + 1}", "" if truth is None else _psnr(image, truth), image))
    columns = max(1, min(columns, len(shown)))
    lines = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    return image_table(
        [[image for _, _, image in line] for line in lines],
        captions=[[f"{name}\n{note}" if note else name for name, note, _ in line] for line in lines],
        inset=inset,
    )


def trajectory(path: Trajectory, *, inset: Inset | None = None) -> Any:
    """The iterates x_t of a run above the clean images x̂₀ that the prior sees in them, from noise to the result.

    Args:
        path: from ``jd.sample(..., trajectory=k)``.
        inset: top, left and side of a square that each picture of full size shows enlarged, in pixels.
    """
    times = [float(t) for t in np.asarray(path.t)]
    return image_table(
        [list(np.asarray(path.x)), list(np.asarray(path.x0))],
        column_titles=["result" if t < 0 else f"t = {t:.4g}" for t in times],
        row_titles=["$x_t$", r"$\hat{x}_0$"],
        inset=inset,
    )


def spread(found: Posterior, truth: Image | None = None, *, problem: Problem | None = None) -> Any:
    """The mean of the draws and their standard deviation; with the ground truth also the error of the mean, on one scale.

    Both are root mean squares over the colours. If the draws follow the posterior, the error is
    large only where the deviation is large.

    Args:
        found: from ``jd.posterior``.
        truth: [H, W, C].
        problem: what was measured.
    """
    mean, std = np.asarray(found.mean), np.asarray(found.std)
    note = "" if truth is None else f"\n{_psnr(mean, truth)}"
    images = [] if problem is None else [("measurement", _seen(problem))]
    images += [] if truth is None else [("ground truth", np.asarray(truth))]
    images.append((f"mean of {len(found.samples)} draws{note}", mean))
    maps = [("standard deviation", _rms(std))]
    if truth is not None:
        maps.append(("error of the mean", _rms(mean - np.asarray(truth))))
    return spread_figure(images, maps)


def calibration(found: Any, *, samples: int | None = None) -> Any:
    """The coverage of credible intervals against their nominal level; below the diagonal: over-confident.

    Args:
        found: what ``jaxdiff.evaluation.calibration`` gives: levels [n], coverage [n], and the mean distance between them.
        samples: how many draws the intervals are of, for the title.
    """
    plt, levels, coverage = pyplot(), np.asarray(found.levels), np.asarray(found.coverage)
    figure, axes = plt.subplots(figsize=(3.9, 3.7), dpi=150, layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.55", linewidth=1, linestyle="--", label="calibrated")
    axes.plot([0, *levels, 1], [0, *coverage, 1], color="tab:blue", linewidth=1.6, label="this run")
    axes.plot(levels, coverage, "o", color="tab:blue", markersize=3)
    axes.fill_between([0, *levels, 1], [0, *levels, 1], [0, *coverage, 1], color="tab:blue", alpha=0.12, linewidth=0)
    axes.text(0.96, 0.06, "over-confident", ha="right", fontsize=7.5, color="0.4", transform=axes.transAxes)
    axes.text(0.04, 0.62, "under-confident", ha="left", fontsize=7.5, color="0.4", transform=axes.transAxes)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("credible level", fontsize=9)
    axes.set_ylabel("share of pixels inside", fontsize=9)
    axes.tick_params(labelsize=8)
    count = "" if samples is None else f"{samples} draws, "
    axes.set_title(f"{count}mean distance {float(found.error):.3f}", fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _check_columns(columns: int) -> None:
    if columns < 1:
        raise ValueError(f"columns is {columns}; it must be at least 1.")


def _seen(problem: Problem) -> np.ndarray:
    """The measurement as a picture."""
    return np.asarray(problem.operator.view(problem.y))


def _psnr(image: np.ndarray, truth: Image) -> str:
    return f"{float(metrics.psnr(jnp.asarray(image), jnp.asarray(truth))):.1f} dB"


def _rms(values: np.ndarray) -> np.ndarray:
    """[H, W]: root mean square over colours."""
    return np.sqrt(np.mean(np.square(values), axis=-1))
