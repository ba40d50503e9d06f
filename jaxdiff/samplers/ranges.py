"""Where the best value of a hyper-parameter may lie."""

from typing import Any, NamedTuple

__all__ = ["Choice", "Linear", "Log", "Range"]


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


def _rounded(value: float, whole: bool) -> float | int:
    return round(value) if whole else float(f"{value:.4g}")
