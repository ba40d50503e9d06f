"""The parts of a job on disk: a few rows each, whole or not at all, and believed only if they fit.

The last line of a file is a checksum of the lines before it. Files of older jobs have none; their rows are checked alone.
"""

import csv
import hashlib
import io
import math
import re
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxdiff.evaluation.scores import SCORES
from jaxdiff.files import write_text
from jaxdiff.tables import csv_text

__all__ = ["COLUMNS", "Part", "Row", "read_part", "slug", "typed", "write_part"]

COLUMNS = ("task", "method", "seed", "image", "status", *SCORES, "noise_std", "steps", "network_calls", "seconds")
"""Of the table of rows. ``status``: "ok", or "diverged" where not finite; ``seconds``: the part's run time by its images."""
WHOLE = ("seed", "steps", "network_calls")
"""Columns of whole numbers."""
FINITE = ("noise_std", "seconds")
"""Columns of finite numbers that are at least 0; scores may be NaN."""
CHECKSUM = "#sha256,"

Row = dict[str, Any]


def slug(name: str) -> str:
    """A name of a task or method as a part of file names."""
    return re.sub("[/:]", "-", name)


class Part(NamedTuple):
    """A task, method and seed on the images ``first`` … ``last − 1`` of the list."""

    task: str
    method: str
    seed: int
    first: int
    last: int

    @property
    def file(self) -> str:
        """The name of its rows."""
        return f"{slug(self.task)}--{slug(self.method)}--s{self.seed}--{self.first:06d}.csv"


def write_part(path: Path, rows: Sequence[Row]) -> Path:
    """Write the rows of a part and their checksum."""
    text = csv_text(COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
    return write_text(path, f"{text}{CHECKSUM}{_checksum(text)}\n")


def read_part(path: Path, part: Part, images: Container[str]) -> list[Row]:
    """The rows of a part, as text.

    Args:
        path: the file.
        part: which part it is.
        images: the names that its images may have.

    Raises:
        ValueError: if the checksum, the header, or a row does not fit; the sentence says which.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        rows_text, mark, checksum = text.rpartition(f"\n{CHECKSUM}")
        if mark:
            text = f"{rows_text}\n"
            if checksum != f"{_checksum(text)}\n":
                raise ValueError("the checksum does not fit")
        header, *lines = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read: {error}") from None
    if tuple(header) != COLUMNS:
        raise ValueError("the header is another")
    if any(len(line) != len(COLUMNS) for line in lines):
        raise ValueError("a row is cut off")
    rows = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
    for number, row in enumerate(rows, start=1):
        if (fault := _fault_of(row, part, images)) is not None:
            raise ValueError(f"row {number} has {fault} = {row[fault]!r:.40}")
    if len({row["image"] for row in rows}) < len(rows):
        raise ValueError("an image has two rows")
    return rows


def typed(row: Row) -> Row:
    """A row as JSON can hold it: numbers as numbers, and null for what is not finite."""
    numbers = {name: int(row[name]) for name in WHOLE}
    for name in (*SCORES, *FINITE):
        value = float(row[name])
        numbers[name] = value if math.isfinite(value) else None  # type: ignore[assignment]
    return row | numbers


def _fault_of(row: Row, part: Part, images: Container[str]) -> str | None:
    """The first column whose value cannot be; None where all can."""
    expected = {"task": part.task, "method": part.method, "seed": str(part.seed)}
    for name, value in expected.items():
        if row[name] != value:
            return name
    if row["image"] not in images:
        return "image"
    if row["status"] not in ("ok", "diverged"):
        return "status"
    for name in WHOLE:
        if not re.fullmatch(r"\d{1,18}", row[name], re.ASCII):
            return name
    for name in (*SCORES, *FINITE):
        number = _number(row[name])
        if number is None or (name in FINITE and not 0 <= number < math.inf):
            return name
    scored = math.isfinite(float(row["psnr"]))
    return "psnr" if scored != (row["status"] == "ok") else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
