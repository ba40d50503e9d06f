"""Tables as text: rounded figures with errors, Markdown, CSV."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdiff.files import write_text

__all__ = ["counted", "csv_text", "markdown", "rounded", "write_rows"]


def counted(number: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "seed"), counted(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


def rounded(value: float, digits: int, sign: str = " ± ", error: float = math.nan) -> str:
    """A figure with its error; "–" for what is not known: NaN, as the LPIPS of images too small for its network."""
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}" + ("" if math.isnan(error) else f"{sign}{error:.{digits}f}")


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, columns padded so that it reads as plain text too."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    render = lambda line: "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"  # noqa: E731
    return "\n".join([render(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(render, lines)])


def csv_text(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """A CSV table as text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()


def write_rows(path: Path, rows: Sequence[dict[str, Any]], header: Sequence[str] | None = None) -> Path:
    """Write mappings as CSV, whole or not at all; without ``header``, the columns as they first appear."""
    if header is None:
        header = list(dict.fromkeys(name for row in rows for name in row))
    return write_text(path, csv_text(header, [[row.get(name, "") for name in header] for row in rows]))
