"""Grids of timesteps: which of a schedule's times a run visits."""

from typing import NamedTuple

import numpy as np

from jaxdiff._checks import count

__all__ = ["SPACINGS", "RepeatedTimestepError", "TimeGrid", "longest_grid", "timestep_grid", "whole_steps"]


class TimeGrid(NamedTuple):
    """Transitions t → s of one run, first to last: ``t`` decreasing, ``s`` the next t, −1 (clean) at the end."""

    t: np.ndarray
    s: np.ndarray

    def __len__(self) -> int:  # type: ignore[override]
        return len(self.t)

    def below(self, start: int | None) -> "TimeGrid":
        """The part of the grid that a run started at ``start`` forward steps goes through (t < start)."""
        if start is None:
            return self
        keep = self.t < start
        if not keep.any():
            raise ValueError(
                f"no timestep of this {len(self.t)}-step grid lies below start={start}; "
                f"use more steps, or a start above {int(self.t.min())}."
            )
        return TimeGrid(self.t[keep], self.s[keep])


SPACINGS = ("dps", "uniform", "ddim", "trailing", "quad")


class RepeatedTimestepError(ValueError):
    """The spacing does not have this many different timesteps."""


def timestep_grid(num_train_steps: int, steps: int | str, spacing: str = "dps") -> TimeGrid:
    """The timesteps that a run of ``steps`` network calls visits.

    Spacings (T = ``num_train_steps``, N = ``steps``), always ending in the clean image; a single step is from T−1:

    - ``dps``: guided-diffusion's fractional stride, 0 … T−1 inclusive, rounded half to even; N may also be its string form:
      ``"ddimN"`` or sections such as ``"10,15,20"``, where no other spacing may be named.
    - ``uniform``: the same end points, plain rounding half up.
    - ``ddim``: 0, k, 2k … with the integer stride k = T // N, so the run begins at (N−1) k. Take an N that divides T: far
      below T−1 x is not pure noise.
    - ``trailing``: T−1 down in strides of T/N (Lin et al. 2024).
    - ``quad``: dense at low noise, t = T−1−⌊√(linspace(0, T², N))⌋, as DiffPIR runs it.

    Raises:
        ValueError: if N is not between 1 and T, or the spacing is unknown.
        RepeatedTimestepError: if the spacing visits a timestep twice.

    >>> timestep_grid(1000, 4).t.tolist()
    [999, 666, 333, 0]
    >>> timestep_grid(1000, "ddim4", "dps").t.tolist()
    [750, 500, 250, 0]
    """
    count("num_train_steps", num_train_steps)
    if isinstance(steps, str):
        if spacing != "dps":
            raise ValueError(f"steps={steps!r} says how they are spread itself; leave spacing={spacing!r} out.")
        ascending = _guided_diffusion_spacing(num_train_steps, steps)
    else:
        ascending = _spaced(num_train_steps, whole_steps(steps), spacing)
    if len(np.unique(ascending)) != len(ascending):
        raise RepeatedTimestepError(
            f"spacing {spacing!r} with {steps} steps visits a timestep twice; use fewer steps, or another spacing."
        )
    t = np.sort(ascending)[::-1].astype(np.int32)
    return TimeGrid(t, np.append(t[1:], np.int32(-1)))


def longest_grid(num_train_steps: int, spacing: str) -> TimeGrid:
    """The run of most steps that a spacing can place without visiting a timestep twice."""
    for steps in range(num_train_steps, 1, -1):
        try:
            return timestep_grid(num_train_steps, steps, spacing)
        except RepeatedTimestepError:
            continue
    return timestep_grid(num_train_steps, 1, spacing)


def whole_steps(steps: int) -> int:
    """``steps`` if it is a whole number.

    Raises:
        ValueError: if not.
    """
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer):
        raise ValueError(f"steps={steps!r} is not possible: give a whole number, a string such as 'ddim50', or a grid.")
    return int(steps)


def _spaced(total: int, steps: int, spacing: str) -> np.ndarray:
    if not 1 <= steps <= total:
        raise ValueError(f"steps={steps} is not possible: choose between 1 and {total}, the steps of the schedule.")
    if steps == 1 and spacing in SPACINGS:  # the rules of "dps" and "ddim" would put the one step at t = 0
        return np.array([total - 1])
    if spacing == "dps":
        return _section(0, total, steps)
    if spacing == "uniform":
        return np.floor(np.linspace(0, total - 1, steps) + 0.5)
    if spacing == "ddim":
        return np.arange(steps) * (total // steps)
    if spacing == "trailing":
        return np.round(total - np.arange(steps) * (total / steps)) - 1
    if spacing == "quad":
        sequence = np.sqrt(np.linspace(0, total**2, steps)).astype(np.int64)
        return total - 1 - np.minimum(sequence, total - 1)
    raise ValueError(f"unknown spacing {spacing!r}; choose one of {', '.join(SPACINGS)}.")


def _section(start: int, size: int, wanted: int) -> np.ndarray:
    # Python's round is half to even on an accumulated float, which is what the original's grids depend on.
    stride = (size - 1) / (wanted - 1) if wanted > 1 else 1.0
    position, out = 0.0, []
    for _ in range(wanted):
        out.append(start + round(position))
        position += stride
    return np.array(out)


def _guided_diffusion_spacing(total: int, text: str) -> np.ndarray:
    """Grids from guided-diffusion's ``timestep_respacing`` strings."""
    if text.startswith("ddim"):
        wanted = _count(text[4:], text)
        for stride in range(1, total):
            if len(range(0, total, stride)) == wanted:
                return np.arange(0, total, stride)
        raise ValueError(f"no integer stride through {total} steps keeps exactly {wanted}; use another {text!r}.")
    counts = [_count(part, text) for part in text.split(",")]
    base, extra = divmod(total, len(counts))
    out, start = [], 0
    for i, taken in enumerate(counts):
        size = base + (i < extra)
        if not 1 <= taken <= size:
            raise ValueError(f"cannot take {taken} steps from a section of {size}; lower the counts in {text!r}.")
        out.append(_section(start, size, taken))
        start += size
    return np.concatenate(out)


def _count(part: str, text: str) -> int:
    if not part.strip().isdigit():
        raise ValueError(f"steps {text!r} is not understood; write a number, 'ddimN', or counts such as '10,15,20'.")
    return int(part)
