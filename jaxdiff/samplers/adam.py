"""Adam for one array, as a state that a scan can carry."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxdiff.linalg import times
from jaxdiff.numerics import expand
from jaxdiff.typing import Array

__all__ = ["AdamState", "adam_init", "adam_step"]


class AdamState(NamedTuple):
    """First and second moments, and the number of steps taken."""

    first: Array
    second: Array
    steps: Array


def adam_init(x: Array) -> AdamState:
    """No history."""
    return AdamState(jnp.zeros_like(x), jnp.zeros_like(x), jnp.zeros((), x.dtype))


def adam_step(
    x: Array, gradient: Array, state: AdamState, rate: Array, *, betas: tuple[float, float] = (0.9, 0.999)
) -> tuple[Array, AdamState]:
    """The step x − rate · m̂/(√v̂ + 1e-8) with bias-corrected moments (Kingma & Ba 2015, Algorithm 1)."""
    first = betas[0] * state.first + (1 - betas[0]) * gradient
    second = betas[1] * state.second + (1 - betas[1]) * gradient**2
    steps = state.steps + 1
    m = first / expand(1 - betas[0] ** steps, x)
    v = second / expand(1 - betas[1] ** steps, x)
    # √ with a finite slope at 0, so that gradients can pass through the optimiser.
    root = jnp.sqrt(v + jnp.finfo(x.dtype).tiny)
    return x - times(rate, m) / (root + 1e-8), AdamState(first, second, steps)
