"""The method that ``jaxdiff restore`` takes for a task where none is named: the leaderboard's best within the calls at hand."""

import json
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

__all__ = ["FALLBACK", "Default", "default_for"]

FALLBACK = "dps"
"""Where the leaderboard says nothing of a task or a prior: DPS serves every differentiable operator."""


class Default(NamedTuple):
    """A method to use.

    Attributes:
        method: its name.
        options: all the settings it won with; None for those recorded for the task.
        why: a few words for the user.
        calls: the network calls to spend: more are not better for every method; None for all that there are.
    """

    method: str
    options: dict[str, Any] | None
    why: str
    calls: int | None = None


@cache
def _recorded() -> dict[str, Any]:
    return json.loads(resources.files("jaxdiff.tasks").joinpath("best.json").read_text("utf-8"))


def default_for(task: str, prior: str, calls: int, table: dict[str, Any] | None = None) -> Default:
    """The best method for a task within a number of network calls.

    ``defaults.json``, which ``python -m benchmarks.leaderboard --settle`` writes, holds by prior and task the best entry of
    each budget: {"calls", "method", "options", "network_calls"}, the last of which it took. Of those the largest budget within
    ``calls`` counts, or the smallest.

    Args:
        task: its name.
        prior: its name.
        calls: network calls that may be spent on an image.
        table: in place of the recorded one.
    """
    entries = (_recorded() if table is None else table).get(prior, {}).get(task, [])
    if not entries:
        return Default(FALLBACK, None, "")
    entries = sorted(entries, key=lambda entry: entry["calls"])
    best = next((entry for entry in reversed(entries) if entry["calls"] <= calls), entries[0])
    spent = min(calls, best["network_calls"])
    why = f" (of the leaderboard the best within {best['calls']} network calls; {spent} are made)"
    return Default(best["method"], best["options"], why, spent)
