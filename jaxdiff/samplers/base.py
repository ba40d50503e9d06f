"""The contract of samplers, and the shared body of all guided ones."""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import normal, safe_norm
from jaxdiff.problems import Problem
from jaxdiff.samplers.transitions import DDPM, Transition
from jaxdiff.typing import Array, Image, Key, Scalar, Shape

__all__ = ["FromNoise", "GuidedSampler", "Info", "Sampler", "State", "image_shape_of", "pure_noise", "residual_norm"]


class State(NamedTuple):
    """What a sampler carries from step to step; ``x`` is the iterate, and the restored image after the last step."""

    x: Array


class Info(NamedTuple):
    """What a step reports: ``residual`` = ‖y − A(x̂₀)‖₂ (0 without a problem)."""

    residual: Scalar


class Sampler(Protocol):
    """A posterior sampler: a pytree whose hyper-parameters are leaves.

    ``start``: how many forward steps the run begins at; None begins at pure noise.
    """

    @property
    def start(self) -> int | None:
        """Forward steps at which the run begins."""
        ...

    def init(self, key: Key, problem: Problem | None, denoiser: DenoiserLike, t: Array) -> Any:
        """The state at the first timestep ``t``; it has a field ``x``."""
        ...

    def step(
        self, key: Key, state: Any, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Any, Any]:
        """Move from t to s; returns the new state and what to report."""
        ...


def image_shape_of(problem: Problem | None, denoiser: DenoiserLike) -> Shape:
    """(H, W, C) of the image to be restored: the operator's, or the prior's where nothing was measured.

    Raises:
        ValueError: if the operator's channels are not the prior's.
    """
    if problem is None:
        return tuple(denoiser.image_shape)
    shape, prior = tuple(problem.operator.image_shape), tuple(denoiser.image_shape)
    if shape[-1:] != prior[-1:]:
        raise ValueError(f"the operator acts on images {shape}, but this prior knows images {prior}.")
    return shape


def pure_noise(key: Key, problem: Problem | None, denoiser: DenoiserLike) -> Image:
    """x_T ~ N(0, I), in the precision of the prior's schedule, which is that of the whole run."""
    return normal(key, image_shape_of(problem, denoiser), denoiser.schedule.alpha_bar.dtype)


def residual_norm(problem: Problem | None, x0: Array) -> Scalar:
    """‖y − A(x₀)‖₂, 0 without a problem."""
    return jnp.zeros((), x0.dtype) if problem is None else safe_norm(problem.residual(x0))


@struct.dataclass
class FromNoise:
    """How most runs begin.

    Attributes:
        start: forward steps at which the run begins; None for pure noise.
    """

    start: int | None = struct.field(pytree_node=False, default=None, kw_only=True)

    def init(self, key: Key, problem: Problem | None, denoiser: DenoiserLike, t: Array) -> State:
        """Pure noise, x_T ~ N(0, I)."""
        del t
        return State(pure_noise(key, problem, denoiser))


@struct.dataclass
class GuidedSampler(FromNoise):
    """The body that guided samplers share: predict, move by a transition, correct.

    A method acts in one or both of two places: ``predict`` (on x̂₀, before the transition) and ``correct`` (on x_s,
    after it). With neither it is the unconditional sampler of its transition.

    Attributes:
        transition: the unconditional move, DDPM's by default.
    """

    transition: Transition = struct.field(default=DDPM(), kw_only=True)

    def predict(
        self, x_t: Array, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Prediction, Any, Scalar]:
        """The prediction that the transition uses, something for ``correct``, and ‖y − A(x̂₀)‖."""
        prediction = denoiser(x_t, t, s)
        return prediction, None, residual_norm(problem, prediction.x0)

    def correct(
        self, x_s: Array, x_t: Array, t: Array, s: Array, guidance: Any, problem: Problem | None, denoiser: DenoiserLike
    ) -> Array:
        """The guided x_s."""
        del x_t, t, s, guidance, problem, denoiser
        return x_s

    def step(
        self, key: Key, state: State, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[State, Info]:
        """One network call, one transition, one correction; ``key`` may be the step's recorded noise."""
        prediction, guidance, residual = self.predict(state.x, t, s, problem, denoiser)
        noise = normal(key, state.x.shape, state.x.dtype)
        x_s = self.transition(prediction, state.x, t, s, noise, denoiser.schedule)
        x_s = self.correct(x_s, state.x, t, s, guidance, problem, denoiser)
        return State(x_s), Info(residual)
