"""What a report holds: sections of pictures, tables and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Page", "Part", "Picture", "Pictures", "Plot", "Section", "Series", "Table", "deviation"]


@dataclass(frozen=True)
class Picture:
    """A picture with its caption.

    Attributes:
        title: the caption's first line.
        pixels: [H, W, 1 or 3] in [-1, 1].
        note: a second, smaller line, such as scores.
        link: a file that the title leads to, beside or below the page.
    """

    title: str
    pixels: np.ndarray
    note: str = ""
    link: str = ""


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side, each of which can be enlarged.

    Attributes:
        pictures: in reading order.
        columns: how many a row; as many as fit by default.
        compare: places of two of the pictures that a slider shows over each other; None for no slider.
        most: how many are shown, in whole rows; the others are counted below.
    """

    pictures: Sequence[Picture]
    columns: int | None = None
    compare: tuple[int, int] | None = None
    most: int = 24


@dataclass(frozen=True)
class Table:
    """A table as ``tables.markdown`` takes it, which can be sorted by each column.

    A cell such as "23.4 ± 0.1" is drawn with an error bar; ``**`` around a cell makes it bold.

    Attributes:
        header: of the columns.
        lines: cells as text.
        links: a file for each line, which its first cell leads to; none by default.
    """

    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    links: Sequence[str] = ()


@dataclass(frozen=True)
class Series:
    """Points of a plot.

    Attributes:
        x: numbers, or names.
        y: numbers; NaN leaves a gap.
        error: of each y.
        joined: whether a line joins them.
    """

    x: Sequence[float] | Sequence[str]
    y: Sequence[float]
    error: Sequence[float] | None = None
    joined: bool = True


@dataclass(frozen=True)
class Plot:
    """A plot that can be zoomed and read off, with its figures as a table below.

    Attributes:
        x: title of the horizontal axis.
        y: title of the vertical axis.
        series: by name.
        title: over the plot.
        log_x: logarithmic axis.
        log_y: likewise.
        diagonal: draw y = x for comparison, on the unit square.
    """

    x: str
    y: str
    series: Mapping[str, Series]
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    diagonal: bool = False


Part = Pictures | Table | Plot


@dataclass(frozen=True)
class Section:
    """Parts under a heading, after some text (paragraphs are apart by an empty line)."""

    title: str
    parts: Sequence[Part] = ()
    text: str = ""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: over all.
        lead: the first paragraph.
        sections: in order.
        settings: what was run, with which versions, at the end.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    settings: Mapping[str, str] = field(default_factory=dict)


RAMP = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]]) / 127.5 - 1
"""Five colours of matplotlib's magma, evenly spaced."""


def deviation(title: str, values: np.ndarray, top: float | None = None) -> Picture:
    """A map of zero or positive values as a picture from black to yellow.

    Args:
        title: its caption.
        values: [H, W].
        top: the brightest value; the 99.5th percentile by default.
    """
    top = max(float(np.percentile(values, 99.5)), 1e-6) if top is None else top
    places = np.clip(values / top, 0, 1)
    pixels = np.stack([np.interp(places, np.linspace(0, 1, len(RAMP)), channel) for channel in RAMP.T], -1)
    return Picture(title, pixels.astype(np.float32), f"black 0, yellow {top:.2g} or more")
