"""Figures of results, as matplotlib figures."""

from jaxdiff.plots.layout import curves, image_table, save_figure, sheet, spread_figure
from jaxdiff.plots.results import calibration, draws, spread, trajectory, triplets

__all__ = [
    "calibration",
    "curves",
    "draws",
    "image_table",
    "save_figure",
    "sheet",
    "spread",
    "spread_figure",
    "trajectory",
    "triplets",
]
