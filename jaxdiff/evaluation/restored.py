"""The results for one picture: files of each draw, scores, the fit, and the uncertainty of many draws."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import plots
from jaxdiff.engine import stack
from jaxdiff.evaluation.calibration import Calibration, coverage
from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.evaluation.report import page_of
from jaxdiff.evaluation.scores import misfits, scores
from jaxdiff.files import save_image
from jaxdiff.pages import REPORT, Section, write_page
from jaxdiff.problems import Problem
from jaxdiff.tables import rounded, write_rows

__all__ = ["CALIBRATED", "Written", "as_rgb", "file_names", "fit", "paste", "score_draws", "write_restored"]

CALIBRATED = 8
"""Fewest draws for a calibration curve: with n of them, coverage moves in steps of 2/(n + 1)."""
SHOWN = 3
"""Draws that the overview shows."""
VISIBLE = 0.02
"""A misfit that no eye sees, on [-1, 1] (2.5 grey levels): less is never called a bad fit."""


class Written(NamedTuple):
    """What was written.

    Attributes:
        files: names, the one to open first at the front.
        rows: scores: one mapping a draw, and one for the mean of the draws.
        notes: sentences for the user.
    """

    files: list[str]
    rows: list[dict[str, Any]]
    notes: list[str]


def file_names(count: int, *, truth: bool) -> list[str]:
    """The names of the files that ``write_restored`` may write for so many draws."""
    names = [REPORT, "overview.png", "measured.png", *(f"restored_{i + 1}.png" for i in range(count)), "metrics.csv"]
    names += ["truth.png"] * truth + ["mean.png", "std.png"] * (count > 1)
    return names + ["calibration.png", "calibration.csv"] * (truth and count >= CALIBRATED)


def paste(draws: np.ndarray, problem: Problem) -> np.ndarray:
    """The draws [n, H, W, C] with the measured values of y in place of theirs, for a problem whose operator is a mask."""
    seen = np.asarray(problem.operator.keep_observed(jnp.ones_like(problem.y))) > 0
    return np.where(seen, np.asarray(problem.y), draws)


def score_draws(draws: np.ndarray, problem: Problem, truth: np.ndarray | None = None) -> list[dict[str, Any]]:
    """A row for each draw, and one for their mean image: the misfit, and with a truth PSNR, SSIM and LPIPS.

    Args:
        draws: [n, H, W, C].
        problem: what was measured.
        truth: [H, W, C], if it is known.
    """
    images = {f"draw {i + 1}": image for i, image in enumerate(draws)}
    if len(draws) > 1:
        images["mean of the draws"] = draws.mean(0)
    count, pixels = len(images), np.stack([*images.values()])
    problems = stack([problem] * count)
    if truth is None:
        found = {"misfit_rms": np.asarray(misfits(jnp.asarray(pixels), problems))}
    else:
        found = scores(pixels, np.stack([truth] * count), problems)
        found["misfit_rms"] = found.pop("misfit")
    return [
        {"image": name} | {score: round(float(values[i]), 4) for score, values in found.items()}
        for i, name in enumerate(images)
    ]


def fit(draws: np.ndarray, problem: Problem) -> str | None:
    """A sentence if draws [n, H, W, C] fit the measurement badly, or closer than its noise; else None."""
    std = float(problem.noise_std)
    found = np.asarray(misfits(jnp.asarray(draws), stack([problem] * len(draws))))
    far, near = found > 2 * max(std, VISIBLE / 2), found < 0.5 * std
    if far.any():
        who = f"{far.sum()} of {len(draws)} draws do" if len(draws) > 1 else "the restoration does"
        return (
            f"{who} not fit the measurement: misfit {found.max():.3g} for σ = {std:.3g}. Take more steps, other settings "
            "or another method."
        )
    if near.any() and std > VISIBLE / 2:
        who = f"{near.sum()} of {len(draws)} draws fit" if len(draws) > 1 else "the restoration fits"
        return f"{who} the noise: misfit {found.min():.3g} for σ = {std:.3g}."
    return None


def write_restored(
    folder: ResultsFolder,
    draws: np.ndarray,
    problem: Problem,
    truth: np.ndarray | None = None,
    *,
    about: Mapping[str, str] | None = None,
    photo: Mapping[str, np.ndarray] | None = None,
    sections: Sequence[Section] = (),
) -> Written:
    """Write what n draws [n, H, W, C] are: each, their mean and standard deviation, scores, calibration, a report.

    Args:
        folder: where; an earlier run's files go first.
        draws: the restorations.
        problem: what was measured.
        truth: [H, W, C], if it is known.
        about: the run's settings (``pages.settings_of``), for the report.
        photo: file name → [H', W', C], pictures of the photo that the image was cut from.
        sections: of the report, before all others.
    """
    view, rows = np.asarray(problem.operator.view(problem.y)), score_draws(draws, problem, truth)
    many, notes = len(draws) > 1, []
    pictures = {**(photo or {}), "measured.png": view}
    write: dict[str, Callable[..., Any]] = {name: partial(save_image, pixels=image) for name, image in pictures.items()}
    for i, image in enumerate(draws):
        write[f"restored_{i + 1}.png"] = partial(save_image, pixels=image)
    write["metrics.csv"] = partial(write_rows, rows=rows)
    if truth is not None:
        write["truth.png"] = partial(save_image, pixels=truth)
    if many:
        write["mean.png"] = partial(save_image, pixels=draws.mean(0))
    try:
        figures = _figures(view, draws, truth, rows)
        write |= {name: partial(plots.save_figure, figure=figure) for name, figure in figures.items()}
    except ValueError as error:  # no matplotlib: pictures without titles and scale are better than none
        notes.append(str(error))
        write["overview.png"] = partial(save_image, pixels=_sheet(view, draws, truth))
    if truth is not None and len(draws) >= CALIBRATED:
        write["calibration.csv"] = partial(write_rows, rows=_calibration_rows(draws, truth))
    calibration = _coverage(draws, truth) if truth is not None and len(draws) >= CALIBRATED else None
    deviation = _std(draws) if many else None
    page = page_of(view, draws, truth, rows, deviation=deviation, calibration=calibration, about=about or {})
    page = replace(page, sections=[*sections, *page.sections])
    write[REPORT] = partial(write_page, page=page)
    folder.make()
    folder.begin(write)
    for name, save in write.items():
        save(folder.path / name)
        folder.wrote(name)
    folder.finish()
    return Written(sorted(write, key=lambda name: name != REPORT), rows, notes)


def _figures(
    view: np.ndarray, draws: np.ndarray, truth: np.ndarray | None, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """File name → matplotlib figure."""
    figures = {"overview.png": _overview(view, draws, truth, rows)}
    if len(draws) > 1:
        figures["std.png"] = plots.spread_figure([], [("standard deviation", _std(draws))], cell=3.0)
    if truth is not None and len(draws) >= CALIBRATED:
        levels, covered = _coverage(draws, truth)
        found = Calibration(*map(jnp.asarray, (levels, covered, np.abs(covered - levels).mean())))
        figures["calibration.png"] = plots.calibration(found, samples=len(draws))
    return figures


def _sheet(view: np.ndarray, draws: np.ndarray, truth: np.ndarray | None) -> np.ndarray:
    """The overview without matplotlib: its pictures in a row."""
    mean = [draws.mean(0)] if len(draws) > 1 else []
    shown = [view, *([] if truth is None else [truth]), *draws[:SHOWN], *mean]
    return plots.sheet([as_rgb(picture, draws.shape[1:]) for picture in shown], columns=len(shown))


def _std(draws: np.ndarray) -> np.ndarray:
    """[H, W]: the standard deviation of the draws, root mean square over colours, on the [-1, 1] scale."""
    return np.sqrt(np.mean(np.clip(draws, -1, 1).var(0, ddof=1), axis=-1))


def _overview(view: np.ndarray, draws: np.ndarray, truth: np.ndarray | None, rows: Sequence[dict[str, Any]]) -> Any:
    """Measured, truth, some draws, their mean; then standard deviation and, if it can be known, the mean's error."""

    def titled(name: str, row: int) -> str:
        known = "psnr" in rows[row]
        return f"{name}\n{rows[row]['psnr']:.2f} dB, LPIPS {rounded(rows[row]['lpips'], 3)}" if known else name

    shape, count = draws.shape[1:], len(draws)
    images = [(f"measured\n{view.shape[1]}×{view.shape[0]}", as_rgb(view, shape))]
    if truth is not None:
        images.append((f"truth\n{shape[1]}×{shape[0]}", truth))
    for i, image in enumerate(draws[:SHOWN]):
        images.append((titled(f"draw {i + 1} of {count}" if count > 1 else "restored", i), image))
    maps = []
    if count > 1:
        mean = np.clip(draws, -1, 1).mean(0)
        images.append((titled(f"mean of {count} draws", -1), mean))
        maps.append(("standard deviation\nof the draws", _std(draws)))
        if truth is not None:
            maps.append(("error of the mean\nsame scale", np.sqrt(np.mean((mean - truth) ** 2, axis=-1))))
    return plots.spread_figure(images, maps)


def _coverage(draws: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    levels = _levels(len(draws))
    of_level = jax.vmap(lambda level: coverage(jnp.asarray(draws), jnp.asarray(truth), level))
    return levels, np.asarray(of_level(jnp.asarray(levels)))


def _calibration_rows(draws: np.ndarray, truth: np.ndarray) -> list[dict[str, str]]:
    return [{"level": f"{a:.3f}", "coverage": f"{b:.4f}"} for a, b in zip(*_coverage(draws, truth), strict=True)]


def _levels(draws: int, most: int = 20) -> np.ndarray:
    """Levels that intervals of so many draws can have exactly: k/(n+1), k + n odd; others take ranks in part."""
    exact = np.arange(1 if draws % 2 == 0 else 2, draws + 1, 2, dtype=np.float32) / np.float32(draws + 1)
    return exact[:: -(-len(exact) // most)]


def as_rgb(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view in the size and channels of the image, nearest neighbour."""
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    rows = np.arange(shape[0]) * picture.shape[0] // shape[0]
    columns = np.arange(shape[1]) * picture.shape[1] // shape[1]
    return picture[rows][:, columns]
