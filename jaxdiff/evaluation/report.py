"""The report of the restorations of one picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff import pages
from jaxdiff.pages import Page, Picture, Pictures, Plot, Section, Series, Table
from jaxdiff.tables import rounded

__all__ = ["note_of", "page_of", "score_table"]

COLUMNS = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3), "misfit_rms": ("misfit RMS", 4)}
"""Score → title and digits."""


def page_of(
    view: np.ndarray,
    draws: np.ndarray,
    truth: np.ndarray | None,
    rows: Sequence[Mapping[str, Any]],
    *,
    deviation: np.ndarray | None,
    calibration: tuple[np.ndarray, np.ndarray] | None,
    about: Mapping[str, str],
) -> Page:
    """The page of n draws.

    Args:
        view: of the measurement, [h, w, C].
        draws: [n, H, W, C].
        truth: [H, W, C], if it is known.
        rows: scores of each draw, and of their mean.
        deviation: of the draws, [H, W], where there are several.
        calibration: credible levels and the shares of pixels inside, where they are known.
        about: the run's settings.
    """
    sections = [_pictures(view, draws, truth, rows), *_spread(draws, truth, deviation)]
    sections.append(Section("Scores", [score_table(rows)], _words(rows)))
    if calibration is not None:
        sections.append(_calibrated(*calibration))
    count = f"{len(draws)} restorations" if len(draws) > 1 else "A restoration"
    known = "the truth is known" if truth is not None else "the truth is not known"
    lead = f"{count} of one measurement by {about['method']}; {known}." if "method" in about else f"{count}; {known}."
    return Page(f"Restored: {about.get('picture', 'a picture')}", lead, sections, about)


def _pictures(
    view: np.ndarray, draws: np.ndarray, truth: np.ndarray | None, rows: Sequence[Mapping[str, Any]]
) -> Section:
    shown = [Picture("measured", view, f"{view.shape[1]}×{view.shape[0]}")]
    if truth is not None:
        shown.append(Picture("truth", truth))
    first = len(shown)
    if len(draws) > 1:
        shown.append(Picture("mean of the draws", draws.mean(0), note_of(rows[-1])))
    shown += [
        Picture(f"draw {i + 1}" if len(draws) > 1 else "restored", image, note_of(rows[i]))
        for i, image in enumerate(draws)
    ]
    after = first + (len(draws) > 1)  # a draw looks like a picture; their mean is smoother than any
    return Section("Measured and restored", [Pictures(shown, compare=(0, after))])


def note_of(row: Mapping[str, Any]) -> str:
    """Scores as a line under a picture; empty where the truth is not known."""
    return f"{row['psnr']:.2f} dB, LPIPS {rounded(row['lpips'], 3)}" if "psnr" in row else ""


def _spread(draws: np.ndarray, truth: np.ndarray | None, values: np.ndarray | None) -> list[Section]:
    """Mean and deviation side by side, and the mean's error on the same scale."""
    if values is None:
        return []
    mean = np.clip(draws, -1, 1).mean(0)
    top = max(float(np.percentile(values, 99.5)), 1e-6)
    shown = [Picture("mean", mean), pages.deviation("standard deviation", values, top)]
    if truth is not None:
        shown.append(pages.deviation("error of the mean", np.sqrt(np.mean((mean - truth) ** 2, axis=-1)), top))
    text = (
        "This is the standard deviation of the draws at each pixel, on [-1, 1]. Where it is bright, the draws differ."
    )
    return [Section("What is certain", [Pictures(shown, columns=len(shown))], text)]


def _words(rows: Sequence[Mapping[str, Any]]) -> str:
    misfit = "The misfit is the RMS of y − A(x) over observed entries. For a good fit, it is about σ."
    return f"A higher PSNR and SSIM and a lower LPIPS are better. {misfit}" if "psnr" in rows[0] else misfit


def score_table(rows: Sequence[Mapping[str, Any]], links: Sequence[str] = ()) -> Table:
    """Scores, a row a picture; ``links`` has the file that each picture's name leads to."""
    columns = {name: column for name, column in COLUMNS.items() if name in rows[0]}
    lines = [[row["image"], *(rounded(row[name], digits) for name, (_, digits) in columns.items())] for row in rows]
    return Table(["picture", *(title for title, _ in columns.values())], lines, links)


def _calibrated(levels: np.ndarray, covered: np.ndarray) -> Section:
    series = {"this run": Series([0.0, *levels, 1.0], [0.0, *covered, 1.0])}
    plot = Plot("credible level", "share of pixels inside", series, diagonal=True)
    text = (
        "A credible interval of level p should hold the truth in a share p of the pixels. Below the dashed line the draws "
        "are over-confident."
    )
    return Section("Calibration", [plot], text)
