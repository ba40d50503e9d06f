"""A small grid of the bench, and the rows that it gives."""

import csv
from dataclasses import replace

from jaxdiff.bench.job import Grid

GRID = Grid(
    tasks=("inpaint_random", "grayscale"), methods=("dps", "ddrm"), seeds=(0, 3), steps=12, prior="none", part=2
)
SMALL = replace(GRID, tasks=("grayscale",), methods=("ddrm",), seeds=(0,), pictures=False)


def rows_of(folder):
    """The rows of a job's table, without the times."""
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
