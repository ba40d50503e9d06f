"""One page over the restorations of several pictures, each of which has a report of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.evaluation.report import note_of, score_table
from jaxdiff.pages import REPORT, Page, Picture, Pictures, Section, write_page
from jaxdiff.photos import smaller

__all__ = ["Entry", "entry", "write_index"]

SIDE = 192
"""Longest side of a picture on the page, in pixels."""
MOST = 500
"""Pictures on the page."""


class Entry(NamedTuple):
    """A restored picture.

    Attributes:
        name: its file, as the user gave it.
        folder: where its own report is, within the folder of the page.
        shown: [h, w, C] in [-1, 1].
        row: its scores.
    """

    name: str
    folder: str
    shown: np.ndarray
    row: Mapping[str, Any]


def entry(name: str, folder: str, pixels: np.ndarray, row: Mapping[str, Any]) -> Entry:
    """An entry that keeps a small copy of the pixels [H, W, C]."""
    return Entry(name, folder, smaller(pixels, SIDE), row)


def write_index(
    folder: ResultsFolder, entries: Sequence[Entry], about: Mapping[str, str], lost: Sequence[str] = ()
) -> str:
    """Write the page.

    Args:
        folder: where; an earlier page goes first.
        entries: the pictures.
        about: the run's settings (``pages.settings_of``).
        lost: names of pictures that diverged.

    Returns:
        The name of the file.
    """
    folder.make()
    folder.begin([REPORT])
    write_page(folder.path / REPORT, _page(entries, about, lost))
    folder.wrote(REPORT)
    folder.finish()
    return REPORT


def _page(entries: Sequence[Entry], about: Mapping[str, str], lost: Sequence[str]) -> Page:
    links = [f"{found.folder}/{REPORT}" for found in entries]
    shown = [
        Picture(found.name, found.shown, note_of(found.row), link) for found, link in zip(entries, links, strict=True)
    ]
    table = score_table([{**found.row, "image": found.name} for found in entries], links)
    diverged = f" These diverged and have no results: {', '.join(lost)}." if lost else ""
    lead = (
        f"{len(entries)} pictures, restored by {about['method']}. A name leads to the report of its picture.{diverged}"
    )
    settings = {name: value for name, value in about.items() if name != "picture"}
    sections = [Section("Restored", [Pictures(shown, most=MOST)]), Section("Scores", [table])]
    return Page(f"Restored: {len(entries)} pictures", lead, sections, settings)
