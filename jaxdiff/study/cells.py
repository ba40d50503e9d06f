"""A cell of a table: the mean of some rows over images, with its standard error."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.tables import rounded

__all__ = ["TITLES", "Cell", "caption", "last_of_each_kind", "mean_and_error", "select"]

TITLES = {"sdedit": "SDEdit", "score_ald": "Score ALD", "dps": "DPS"}


class Cell(NamedTuple):
    """A mean over images (NaN if one of them diverged), its standard error, and how many images."""

    mean: float
    error: float
    images: int

    def text(self, digits: int) -> str:
        """Such as ``23.41±0.12``: narrow, for tables in a terminal."""
        return rounded(self.mean, digits, "±", self.error)


def mean_and_error(values: Iterable[float]) -> Cell:
    """Mean and standard error s/√n (n − 1 in the deviation)."""
    array = np.asarray(list(values), np.float64)
    if array.size == 0:
        return Cell(math.nan, math.nan, 0)
    error = float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else math.nan
    return Cell(float(array.mean()), error, array.size)


def select(rows: Sequence[dict[str, Any]], metric: str, **wanted: Any) -> Cell:
    """Over images; seeds of one image are averaged first, since they are not independent of each other."""
    by_image: dict[str, list[float]] = {}
    for row in rows:
        if all(row.get(k) == v for k, v in wanted.items()):
            by_image.setdefault(row["image"], []).append(row[metric])
    return mean_and_error(float(np.mean(values)) for values in by_image.values())


def caption(rows: Sequence[dict[str, Any]], **wanted: Any) -> str:
    """What stands under a restored image: PSNR and LPIPS of the last row with these values."""
    row = [row for row in rows if all(row.get(k) == v for k, v in wanted.items())][-1]
    return "diverged" if math.isnan(row["psnr"]) else f"{row['psnr']:.1f} dB, LPIPS {rounded(row['lpips'], 3)}"


def last_of_each_kind(rows: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """Place and name of the last image in distribution, and of the last one out of it where there is one."""
    kinds = {row["image"]: row["in_distribution"] for row in rows if row["table"] == 1}
    places = {inside: (place, name) for place, (name, inside) in enumerate(kinds.items())}
    return [places[inside] for inside in (True, False) if inside in places]
