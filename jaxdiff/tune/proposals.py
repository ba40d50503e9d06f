"""Which settings ``jaxdiff tune`` tries, of the ranges that each method states."""

from typing import Any

import numpy as np

from jaxdiff.samplers.ranges import Range

__all__ = ["proposals"]


PRIMES = (2, 3, 5, 7, 11, 13)


def proposals(space: dict[str, Range], budget: int, seed: int, first: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings to try: ``first``, then a grid of one option, or a Halton sequence of several.

    Args:
        space: option → range.
        budget: how many settings in all, ``first`` included; fewer where a range has fewer.
        seed: shifts the sequence (Cranley & Patterson), so that another seed tries other settings.
        first: the settings in use today: the search never ends with worse ones.

    Raises:
        ValueError: if the budget is below 1.

    >>> from jaxdiff.samplers.ranges import Log
    >>> [trial["zeta"] for trial in proposals({"zeta": Log(1.0, 100.0)}, 4, 0, {"zeta": 0.5})]
    [0.5, 1.0, 10.0, 100.0]
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} settings is not possible: try at least one.")
    trials = [dict(first)]
    names = tuple(space)
    if len(names) == 1:
        points: list[tuple[float, ...]] = [(u,) for u in np.linspace(0, 1, budget - 1)] if budget > 2 else [(0.5,)]
    else:
        shift = np.random.default_rng(seed).random(len(names))
        # Twice as many as are needed: lists of choices repeat themselves.
        points = [tuple((halton(i, PRIMES[d]) + shift[d]) % 1 for d in range(len(names))) for i in range(2 * budget)]
    for point in points:
        trial = {**first, **{name: space[name].at(float(u)) for name, u in zip(names, point, strict=True)}}
        if trial not in trials and len(trials) < budget:
            trials.append(trial)
    return trials


def halton(index: int, base: int) -> float:
    """Element ``index`` of the van der Corput sequence: its digits in ``base``, mirrored at the point.

    >>> [halton(i, 2) for i in range(1, 5)]
    [0.5, 0.25, 0.75, 0.125]
    """
    value, unit = 0.0, 1.0
    while index > 0:
        unit /= base
        index, digit = divmod(index, base)
        value += digit * unit
    return value
