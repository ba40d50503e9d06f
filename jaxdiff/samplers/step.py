"""What a method is given in each step: where the run is, the prior, what was measured, and the step's own randomness."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import is_key, normal
from jaxdiff.problems import Problem
from jaxdiff.schedules import Level
from jaxdiff.typing import Array, Image, Key, Scalar

__all__ = ["Step"]


class Step(NamedTuple):
    """The move from time t to time s.

    Attributes:
        randomness: the step's key, or its recorded noise where a reference run is replayed.
        t: timestep of the iterate.
        s: the next timestep, −1 for the clean image.
        problem: what was measured; None for samplers of the prior.
        denoiser: the prior.
    """

    randomness: Key
    t: Array
    s: Array
    problem: Problem
    denoiser: DenoiserLike

    @property
    def level_t(self) -> Level:
        """The noise level at t."""
        return self.denoiser.schedule.at(self.t)

    @property
    def level_s(self) -> Level:
        """The noise level at s."""
        return self.denoiser.schedule.at(self.s)

    @property
    def last(self) -> Array:
        """Whether this step ends at the clean image."""
        return self.s < 0

    @property
    def operator(self) -> Any:
        """A."""
        return self.problem.operator

    def predict(self, x_t: Array) -> Prediction:
        """D(x_t, t): one network call."""
        return self.denoiser(x_t, self.t, self.s)

    def predict_vjp(self, x_t: Array) -> tuple[Prediction, Callable[[Array], Array]]:
        """D(x_t, t) and u ↦ Jᵀ u with J = ∂x̂₀/∂x_t: one network call, and a backward pass for each product."""

        def x0_of(x_t: Array) -> tuple[Array, Prediction]:
            prediction = self.predict(x_t)
            return prediction.x0, prediction

        _, pull, prediction = jax.vjp(x0_of, x_t, has_aux=True)
        return prediction, lambda u: pull(u)[0]

    def misfit_gradient(self, x_t: Array, misfit: Callable[[Image], Scalar]) -> tuple[Array, Prediction, Scalar]:
        """∇_{x_t} misfit(x̂₀(x_t)), D(x_t, t) and the misfit: one network call and one backward pass."""

        def misfit_of(x_t: Array) -> tuple[Scalar, Prediction]:
            prediction = self.predict(x_t)
            return misfit(prediction.x0), prediction

        (value, prediction), gradient = jax.value_and_grad(misfit_of, has_aux=True)(x_t)
        return gradient, prediction, value

    def normal(self, like: Array) -> Array:
        """z ~ N(0, I) of the shape of ``like``; the recorded noise where there is some. For methods that draw once a step."""
        return normal(self.randomness, like.shape, like.dtype)

    def keys(self, count: int, method: str) -> Array:
        """Keys for a method that draws ``count`` times a step.

        Raises:
            ValueError: if the step has recorded noise in place of a key.
        """
        if not is_key(self.randomness):
            raise ValueError(
                f"{method} draws more than one array a step, so it cannot replay recorded noise; give a key."
            )
        return jax.random.split(self.randomness, count)

    def value(self, name: str, value: Array) -> Scalar:
        """A hyper-parameter at t: itself, or the entry of its schedule [T] (a fraction lies between two).

        Raises:
            ValueError: if a schedule is not as long as the prior's.
        """
        if value.ndim == 0:
            return value
        total, t = self.denoiser.schedule.num_steps, jnp.asarray(self.t)
        if value.shape != (total,):
            raise ValueError(
                f"{name} has shape {value.shape}, but a schedule has one entry per training timestep, ({total},) here; "
                "to try several values at once, vmap over the sampler."
            )
        if jnp.issubdtype(t.dtype, jnp.floating):
            return jnp.interp(t.astype(value.dtype), jnp.arange(total, dtype=value.dtype), value)
        return value[t]
