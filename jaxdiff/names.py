"""The known name that is nearest to a mistyped one."""

from collections.abc import Iterable

__all__ = ["closest"]


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name with the fewest edits from ``name``; None where even that one needs more than half its letters.

    An edit inserts, deletes or replaces a letter, or swaps two neighbours.

    >>> closest("restroe", ["restore", "tree"]), closest("dsp", ["dps", "tds"]), closest("x", ["restore"])
    ('restore', 'dps', None)
    """
    distances = {other: _edits(name.lower(), other.lower()) for other in known}
    best = min(distances, key=lambda other: (distances[other], other), default=None)
    return best if best is not None and distances[best] <= max(len(name), len(best)) / 2 else None


def _edits(a: str, b: str) -> int:
    """The optimal string alignment distance, row by row."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, before_above = row, before
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
            if i > 1 and j > 1 and (x, a[i - 2]) == (b[j - 2], y):
                row[-1] = min(row[-1], before_above[j - 2] + 1)
        before = above
    return row[-1]
