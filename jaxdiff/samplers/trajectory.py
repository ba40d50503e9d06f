"""The states that a run went through: x_t, and the clean image that the prior sees in it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._summary import summary
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.step import Step
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array, Image

__all__ = ["Keeping", "Kept", "Trajectory", "estimate", "keep", "trajectory_of"]


class Trajectory(NamedTuple):
    """States of a run, evenly spread over its steps; the last is the result.

    Attributes:
        t: [k], their timesteps; −1 at the end of a run.
        x: [k, H, W, C], the iterates.
        x0: [k, H, W, C], what the prior makes of each: x̂₀ = E[x₀ | x_t]. At t = −1, and for a method whose iterate is
            the image itself, x̂₀ is x.
    """

    t: Array
    x: Array
    x0: Array

    def __repr__(self) -> str:
        return summary(self)


class Kept(NamedTuple):
    """The state of a method, and those that were kept so far."""

    x: Image
    inner: Any
    step: Array
    states: Array


@struct.dataclass
class Keeping(Sampler):
    """A method that notes its iterate after some of its steps.

    Attributes:
        inner: the method.
        slots: [n], where the state after each step is kept; beyond the last place for those that are not.
    """

    inner: Sampler
    slots: Array

    @property
    def clips(self) -> bool:  # type: ignore[override]
        """As the method."""
        return self.inner.clips

    def advance(self, state: Kept, at: Step) -> tuple[Kept, Any]:
        """The method's step."""
        inner, info = self.inner.advance(state.inner, at)
        states = state.states.at[self.slots[state.step]].set(inner.x, mode="drop")
        return Kept(inner.x, inner, state.step + 1, states), info


def keep(sampler: Sampler, state: Any, grid: TimeGrid, count: int) -> tuple[Keeping, Kept, np.ndarray]:
    """The method and its state so that ``count`` states are kept, and the indices of the steps after which they are.

    Raises:
        ValueError: if the run has fewer steps.
    """
    total = len(grid.t)
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= total:
        raise ValueError(
            f"trajectory={count!r} is not possible: a whole number of states from 1 to the run's {total} steps."
        )
    kept = np.ceil(np.arange(1, count + 1) * (total / count) - 1e-9).astype(int) - 1
    slots = np.full(total, count)
    slots[kept] = np.arange(count)
    states = jnp.zeros((count, *state.x.shape), state.x.dtype)
    return Keeping(sampler, jnp.asarray(slots)), Kept(state.x, state, jnp.zeros((), jnp.int32), states), kept


def trajectory_of(denoiser: DenoiserLike, sampler: Sampler, t: Array, states: Array) -> Trajectory:
    """The trajectory of states [k, H, W, C] at timesteps [k]: one network call each."""
    t = jnp.asarray(t)
    return Trajectory(t, states, jax.lax.map(lambda one: estimate(denoiser, sampler, *one), (t, states)))


def estimate(denoiser: DenoiserLike, sampler: Sampler, t: Array, x: Image) -> Image:
    """x̂₀ of a method's iterate at timestep t; x itself at t = −1, or where the method's iterate is the image."""
    if not sampler.noisy:
        return x
    x0 = denoiser(x, jnp.maximum(t, 0), jnp.full_like(t, -1)).x0
    return jnp.where(t < 0, x, x0.astype(x.dtype))
