"""Runs by what they cost: the network calls of a run, and the longest run within a budget of them."""

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.samplers.base import Calls, Sampler
from jaxdiff.samplers.loop import grid_for
from jaxdiff.schedules import RepeatedTimestepError, TimeGrid

__all__ = ["calls_of", "grid_within", "steps_within"]


def calls_of(sampler: Sampler, steps: int) -> Calls:
    """What a run of so many steps costs, by what the method states of a step."""
    each = sampler.calls
    return Calls(steps * each.forward + each.at_end, steps * each.backward)


def grid_within(sampler: Sampler, denoiser: DenoiserLike, calls: int, spacing: str | None = None) -> TimeGrid:
    """The timesteps of the longest run of at most ``calls`` forward passes of the network; see ``steps_within``."""
    return grid_for(denoiser, sampler, steps_within(sampler, denoiser, calls, spacing), spacing)


def steps_within(sampler: Sampler, denoiser: DenoiserLike, calls: int, spacing: str | None = None) -> int:
    """The largest ``steps`` whose run makes at most ``calls`` forward passes of the network.

    Raises:
        ValueError: if a single step needs more.
    """
    each, total = sampler.calls, denoiser.schedule.num_steps
    allowed = max(0, (calls - each.at_end) // each.forward)

    def length(steps: int) -> int:
        try:
            return len(grid_for(denoiser, sampler, steps, spacing).t)
        except RepeatedTimestepError:
            return allowed + 1
        except ValueError:  # so few steps that none lies below the sampler's start
            if steps == total:
                raise  # no number of steps would do
            return 0

    length(total)  # refuses what no number of steps can mend
    low, high = 0, total
    while low < high:  # the length grows with the number of steps
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(middle) <= allowed else (low, middle - 1)
    if low == 0 or length(low) == 0:
        raise ValueError(
            f"{sampler.title} with these settings needs more than {calls} network calls; allow more of them."
        )
    return low
