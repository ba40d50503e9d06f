"""Cells of a table: the number in a text, by which it is sorted, and where its error bar lies in its column."""

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Cell", "cells", "is_numeric"]

NUMBER = re.compile(
    r"\s*([-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*(?:±\s*(\d+(?:\.\d+)?(?:e[-+]?\d+)?))?\s*(?:%|×|s|dB)?\s*"
)


class Cell(NamedTuple):
    """A cell as it is drawn.

    Attributes:
        text: without marks.
        bold: whether it was between ``**``.
        number: its value; None for a text.
        bar: (low, value, high) in percent of the column's width; None for a number without an error.
    """

    text: str
    bold: bool
    number: float | None
    bar: tuple[float, float, float] | None


def cells(lines: Sequence[Sequence[str]]) -> list[list[Cell]]:
    """The cells of a table's lines."""
    texts = [[line[2:-2] if (line[:2], line[-2:]) == ("**", "**") else line for line in cells] for cells in lines]
    found = [[_number(text) for text in line] for line in texts]
    spans = [_span(column) for column in zip(*found, strict=True)]
    return [
        [
            Cell(text, text != line, None if known is None else known[0], _bar(known, span))
            for line, text, known, span in zip(marked, row, numbers, spans, strict=True)
        ]
        for marked, row, numbers in zip(lines, texts, found, strict=True)
    ]


def is_numeric(column: Sequence[Cell]) -> bool:
    """Whether a column holds numbers, and dashes or nothing in place of some."""
    found = [cell.number is not None for cell in column if cell.text not in ("", "–")]
    return bool(found) and all(found)


def _number(text: str) -> tuple[float, float | None] | None:
    """The value and the error that a text states, if it states nothing else."""
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    value, error = match.groups()
    return float(value.replace("−", "-")), None if error is None else float(error)


def _span(column: Sequence[tuple[float, float | None] | None]) -> tuple[float, float]:
    """From the lowest to the highest end of a column's error bars."""
    ends = [number[0] + sign * (number[1] or 0) for number in column if number is not None for sign in (-1, 1)]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _bar(known: tuple[float, float | None] | None, span: tuple[float, float]) -> tuple[float, float, float] | None:
    low, high = span
    value, error = known or (low, None)
    if error is None or high <= low:
        return None
    place = [round(100 * (at - low) / (high - low), 1) for at in (value - error, value, value + error)]
    return place[0], place[1], place[2]
