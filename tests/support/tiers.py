"""The two tiers: a table of tests of which a few rows are fast."""

import pytest


def fast_only(fast, rows):
    """The rows for ``parametrize``, of which all but ``fast`` are slow. Rows are names or tuples."""
    assert set(fast) <= set(rows), f"no row of the table: {set(fast) - set(rows)}"
    return [row if row in fast else _slow(row) for row in rows]


def _slow(row):
    values = row if isinstance(row, tuple) else (row,)
    return pytest.param(*values, marks=pytest.mark.slow)
