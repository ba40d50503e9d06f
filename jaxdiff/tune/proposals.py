"""What ``jaxdiff tune`` tries: each method's options and where their best values may lie."""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["SPACES", "Choice", "Linear", "Log", "Range", "proposals"]


class Log(NamedTuple):
    """A number, its logarithm evenly spread; whole numbers where ``whole``."""

    low: float
    high: float
    whole: bool = False

    def at(self, u: float) -> float | int:
        """The value at a share ``u`` in [0, 1] of the range."""
        return _rounded(self.low * (self.high / self.low) ** u, self.whole)


class Linear(NamedTuple):
    """A number, evenly spread."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """The value at a share ``u`` in [0, 1] of the range."""
        return _rounded(self.low + (self.high - self.low) * u, False)


class Choice(NamedTuple):
    """One of a few values."""

    values: tuple[Any, ...]

    def at(self, u: float) -> Any:
        """The value at a share ``u`` in [0, 1] of the list."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


Range = Log | Linear | Choice

SPACES: dict[str, dict[str, Range]] = {
    "sdedit": {"start": Log(50, 700, whole=True)},
    # Below 2 the annealed guidance is stable at every noise level, so no larger one is tried.
    "score_ald": {"strength": Log(0.1, 1.9)},
    "dps": {"zeta": Log(0.2, 20.0)},
    "mcg": {"zeta": Log(0.05, 10.0)},
    "dsg": {"rate": Log(0.01, 0.5)},
    "lgd_mc": {"zeta": Log(0.2, 20.0), "spread": Log(0.01, 1.0)},
    "pigdm": {"zeta": Log(0.3, 3.0), "prior_std": Log(0.1, 1.0)},
    "tmpd": {"zeta": Log(0.3, 3.0), "diagonal": Choice(("measurement", "image"))},
    "mmps": {"zeta": Log(0.3, 3.0), "iterations": Choice((1, 2, 3, 5))},
    "ddnm": {"eta": Linear(0.0, 1.0)},
    "ddrm": {"eta": Linear(0.0, 1.0), "eta_b": Linear(0.3, 1.0)},
    "repaint": {"jump_length": Choice((1, 5, 10)), "jump_samples": Choice((1, 2, 4, 10))},
    "diffpir": {"lam": Log(0.05, 20.0), "zeta": Linear(0.0, 1.0)},
    "reddiff": {"lam": Log(0.01, 3.0), "rate": Log(0.01, 0.7)},
    "sitcom": {"rate": Log(0.003, 0.3), "iterations": Choice((3, 5, 10, 20, 30))},
    "pnp_dm": {"rho_min": Log(0.02, 0.5), "rho_max": Log(1.0, 10.0), "prior_steps": Choice((5, 10, 20))},
    "fast_dips": {"epsilon": Log(0.05, 10.0), "rho": Log(1.0, 1000.0), "descents": Choice((1, 2, 5))},
    "annealed_langevin": {"step_size": Log(0.02, 1.0), "weight": Log(0.1, 10.0), "inner_steps": Choice((1, 2, 3))},
    "daps": {"step_size": Log(1e-5, 3e-3), "ode_steps": Choice((1, 2, 5)), "mcmc_steps": Choice((20, 50, 100))},
    "tds": {"twist": Log(0.1, 10.0), "particles": Choice((4, 8, 16))},
    "fps": {"threshold": Linear(0.2, 1.0), "particles": Choice((4, 8, 16))},
}
"""Method → option → range. Options that are arrays of the sampler are tried side by side in one program; those that shape
the program (numbers of steps, forms) cost a compilation each."""

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


def _rounded(value: float, whole: bool) -> float | int:
    return round(value) if whole else float(f"{value:.4g}")
