"""The contract of samplers: what a method says of itself, how its run begins, and how it moves."""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from flax import struct

from jaxdiff._summary import Summarised
from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.noise import Gaussian, NoiseModel
from jaxdiff.numerics import normal, safe_norm
from jaxdiff.operators.base import Operator
from jaxdiff.problems import Problem
from jaxdiff.samplers.ranges import Range
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import DDPM, Transition
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array, Image, Key, Scalar, Shape

__all__ = ["Calls", "GuidedSampler", "Info", "Sampler", "State", "image_shape_of", "pure_noise", "residual_norm"]


class State(NamedTuple):
    """What a sampler carries from step to step; ``x`` is the iterate, and the restored image after the last step."""

    x: Array


class Info(NamedTuple):
    """What a step reports: ``residual`` = ‖y − A(x̂₀)‖₂ (0 without a problem)."""

    residual: Scalar


class Calls(NamedTuple):
    """Passes through the network of one step.

    Attributes:
        forward: network calls.
        backward: gradients through the network.
        at_end: further network calls of the last step.
    """

    forward: int
    backward: int = 0
    at_end: int = 0


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


def pure_noise(at: Step) -> Image:
    """x_T ~ N(0, I), in the precision of the prior's schedule, which is that of the whole run."""
    return normal(at.randomness, image_shape_of(at.problem, at.denoiser), at.denoiser.schedule.alpha_bar.dtype)


def residual_norm(problem: Problem | None, x0: Array, *, observed_only: bool = False) -> Scalar:
    """‖y − A(x₀)‖₂, 0 without a problem; with ``observed_only`` over what was measured."""
    if problem is None:
        return jnp.zeros((), x0.dtype)
    residual = problem.residual(x0)
    return safe_norm(problem.keep_observed(residual) if observed_only else residual)


@struct.dataclass
class Sampler(Summarised):
    """A method: a pytree whose hyper-parameters are leaves, and which states what it needs.

    A method of your own derives from this class, states its facts as class attributes, and writes ``advance``::

        @struct.dataclass
        class Mine(Sampler):
            title = "mine"

            def advance(self, state, at):
                prediction = at.predict(state.x)
                x_s = …
                return State(x_s), Info(residual_norm(at.problem, prediction.x0))

    Attributes:
        start: forward steps at which the run begins; None for pure noise.
    """

    title: ClassVar[str] = "this sampler"
    """Its name in sentences and tables."""
    needs: ClassVar[type[Operator] | None] = Operator
    """The least that its operator must be; None for samplers of the prior, which take no measurement."""
    wants: ClassVar[str] = ""
    """What it asks of the operator, in words, where ``needs`` is more than any operator."""
    instead: ClassVar[str] = "dps, mmps or daps"
    """Methods for operators that cannot serve it."""
    takes: ClassVar[type[NoiseModel]] = Gaussian
    """The noise that it can take; ``NoiseModel`` for a method that follows any likelihood."""
    spacing: ClassVar[str] = "dps"
    """How its steps are spread, see ``jd.schedules.timestep_grid``; or "karras", "log_snr", "flow"."""
    sigma_range: ClassVar[tuple[float, float] | None] = None
    """Ends of its Karras grid, for a method that neither begins at pure noise nor ends at the clean image."""
    clips: ClassVar[bool] = True
    """Whether x̂₀ may be clipped to [-1, 1]; False where derivatives of x̂₀ stand for its covariance."""
    noisy: ClassVar[bool] = True
    """Whether its iterate is a noisy image x_t; False where it is the restored image itself."""
    search: ClassVar[dict[str, Range]] = {}
    """Option → where its best value may lie, for ``jaxdiff tune``."""
    calls: ClassVar[Calls] = Calls(1)
    """What a step costs; a property where it depends on options."""

    start: int | None = struct.field(pytree_node=False, default=None, kw_only=True)

    def check(self, problem: Problem) -> None:
        """Raise a ValueError if the method cannot solve this problem, for a reason that ``needs`` cannot express."""

    def adapt_grid(self, grid: TimeGrid) -> TimeGrid:
        """The timesteps as the method goes through them."""
        return grid

    def begin(self, at: Step) -> Any:
        """The state at the first timestep, with a field ``x``: pure noise by default."""
        return State(pure_noise(at))

    def restart(self, state: Any, x: Image) -> Any:
        """The state with ``x`` in place of its iterate."""
        return state._replace(x=x)

    def advance(self, state: Any, at: Step) -> tuple[Any, Any]:
        """Move from t to s; returns the new state, and what to report."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say how to move; write its method advance(state, at)."
        )

    def init(self, key: Key, problem: Problem | None, denoiser: DenoiserLike, t: Array) -> Any:
        """``begin``, from its parts."""
        return self.begin(Step(key, t, t, problem, denoiser))  # type: ignore[arg-type]

    def step(
        self, key: Key, state: Any, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Any, Any]:
        """``advance``, from its parts; ``key`` may be the step's recorded noise."""
        return self.advance(state, Step(key, t, s, problem, denoiser))  # type: ignore[arg-type]


@struct.dataclass
class GuidedSampler(Sampler):
    """A method that guides an unconditional transition: in ``guide`` before it, or in ``advance`` around it.

    Attributes:
        transition: the unconditional move, DDPM's by default.
    """

    transition: Transition = struct.field(default=DDPM(), kw_only=True)

    def guide(self, x_t: Array, at: Step) -> tuple[Prediction, Scalar]:
        """The prediction that the transition is to use, and ‖y − A(x̂₀)‖ of the network's own."""
        prediction = at.predict(x_t)
        return prediction, residual_norm(at.problem, prediction.x0)

    def advance(self, state: Any, at: Step) -> tuple[Any, Any]:
        """One network call, one transition."""
        prediction, residual = self.guide(state.x, at)
        return State(self.move(prediction, state.x, at, at.normal(state.x))), Info(residual)

    def move(self, prediction: Prediction, x_t: Array, at: Step, noise: Array) -> Array:
        """x_s by the transition."""
        return self.transition(prediction, x_t, at.t, at.s, noise, at.denoiser.schedule)
