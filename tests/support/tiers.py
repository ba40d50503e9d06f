"""The two tiers: a table of tests of which a few rows are fast."""

import pytest


def fast_only(fast, rows, ids=None):
    """The rows for ``parametrize``, of which all but ``fast`` are slow.

    Rows are values, or tuples of them. ``fast`` has rows, or names of rows where ``ids`` names each.
    """
    names = list(rows) if ids is None else list(ids)
    assert set(fast) <= set(names), f"no row of the table: {set(fast) - set(names)}"
    return [_row(row, name in fast, ids and name) for row, name in zip(rows, names, strict=True)]


def _row(row, fast, name):
    values = row if isinstance(row, tuple) else (row,)
    return pytest.param(*values, id=name or None, marks=() if fast else pytest.mark.slow)
