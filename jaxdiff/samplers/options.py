"""What factories share: checked hyper-parameters as float32 arrays, and the sentences that refuse."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.numerics import is_key
from jaxdiff.operators.base import LinearOperator, SpectralOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, Sampler
from jaxdiff.samplers.transitions import DDIM, DDPM, Transition, ddpm
from jaxdiff.typing import Array, Key, Scalar

__all__ = [
    "check_arguments",
    "check_finite",
    "choice",
    "count",
    "move_of",
    "need_key",
    "need_linear",
    "need_problem",
    "need_spectral",
    "number",
    "schedule",
    "value_at",
]


LARGEST = float(np.finfo(np.float32).max)
"""What is beyond it, 3.4e38, would be infinite once it is float32."""


def number(
    name: str, value: float | Array, *, low: float = 0.0, high: float = float("inf"), open_low: bool = False
) -> Array:
    """A hyper-parameter as a float32 array; single numbers are checked against [low, high] (or ]low, high]).

    Raises:
        ValueError: if it lies outside, or is no number.
    """
    if value is None or isinstance(value, str | bytes | bool | dict):
        raise ValueError(f"{name} must be a number, got {value!r}.")
    known = isinstance(value, int | float | np.number)  # what is traced, or one of many, is not looked at
    if known and not (-LARGEST <= value <= LARGEST and (low < value <= high or (value == low and not open_low))):
        above = "above" if open_low else "at least"
        below = " and finite" if high == float("inf") else f" and at most {high:g}"
        raise ValueError(f"{name} must be {above} {low:g}{below}, got {str(value)[:40]}.")
    return jnp.asarray(value, jnp.float32)


def schedule(
    name: str, value: float | Array, *, low: float = 0.0, high: float = float("inf"), open_low: bool = False
) -> Array:
    """As ``number``, or a schedule [T]: one value a training timestep, which ``value_at`` reads.

    Raises:
        ValueError: if a number is out of range, or an array is empty or has more than one axis.
    """
    array = number(name, value, low=low, high=high, open_low=open_low)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{name} must be one number or one per training timestep, got shape {array.shape}.")
    return array


def check_arguments(denoiser: DenoiserLike, problem: Problem | None, sampler: Sampler) -> None:
    """See that a run is possible: of the right kinds, with a measurement as the operator makes them.

    Values are looked at where they are known, outside of ``jit``, ``vmap`` and ``grad``.

    Raises:
        ValueError: if not.
    """
    if isinstance(sampler, type) or not (hasattr(sampler, "init") and hasattr(sampler, "step")):
        raise ValueError(f"{_shown(sampler)} is not a sampler; make one, as in jd.samplers.dps().")
    if isinstance(denoiser, type) or not (callable(denoiser) and hasattr(denoiser, "schedule")):
        raise ValueError(f"{_shown(denoiser)} is not a prior; load one, as in jd.load_denoiser('faces64').")
    if problem is None:
        return
    if not isinstance(problem, Problem):
        raise ValueError(
            f"{_shown(problem)} is not a problem; make one with jd.observe(...) or jd.Problem(A, y, sigma)."
        )
    y, operator = problem.y, problem.operator
    if tuple(y.shape) != tuple(operator.measurement_shape):
        raise ValueError(
            f"y has shape {tuple(y.shape)}, but {type(operator).__name__} measures {tuple(operator.measurement_shape)} of an "
            f"image {tuple(operator.image_shape)}; for several measurements use jd.restore, or vmap."
        )
    own, given = denoiser.schedule.alpha_bar.dtype, y.real.dtype
    if jnp.promote_types(own, given) != own:
        raise ValueError(f"the measurement is {given} and the prior {own}; give y as {own}, or the prior as {given}.")
    check_finite(y)


def check_finite(y: Array) -> None:
    """See that a measurement, or many, has no NaN, where its values are known.

    Raises:
        ValueError: if it has.
    """
    if not isinstance(y, jax.core.Tracer) and not np.isfinite(np.asarray(y)).all():
        raise ValueError("the measurement y holds NaN or infinite values; repair it first, or mask those entries.")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float) else getattr(value, "__name__", type(value).__name__)


def value_at(name: str, value: Array, t: Array, denoiser: DenoiserLike) -> Scalar:
    """The hyper-parameter at timestep ``t``: itself, or its schedule's entry (a fraction lies between two).

    Raises:
        ValueError: if a schedule is not as long as the prior's.
    """
    if value.ndim == 0:
        return value
    total = denoiser.schedule.num_steps
    if value.shape != (total,):
        raise ValueError(
            f"{name} has shape {value.shape}, but a schedule has one entry per training timestep, ({total},) here; "
            "to try several values at once, vmap over the sampler."
        )
    t = jnp.asarray(t)
    if jnp.issubdtype(t.dtype, jnp.floating):
        return jnp.interp(t.astype(value.dtype), jnp.arange(total, dtype=value.dtype), value)
    return value[t]


def move_of(transition: Transition | GuidedSampler | None, default: Transition | None = None) -> Transition:
    """The transition that a method is to use; an unconditional sampler (``jd.samplers.ddim(eta=1.0)``) lends its own.

    Args:
        transition: what the caller gave.
        default: in place of None; DDPM where None too.

    Raises:
        ValueError: if it is neither.
    """
    if transition is None:
        return ddpm() if default is None else default
    if type(transition) is GuidedSampler:  # methods are its subclasses: what they add to the move would be lost
        return transition.transition
    if isinstance(transition, types.FunctionType | type):
        name = transition.__name__
        raise ValueError(f"transition={name} is not a transition yet; call it, as in transition={name}().")
    if not callable(transition):
        raise ValueError(
            f"{type(transition).__name__} is not a transition; give jd.samplers.ddpm(...), jd.samplers.ddim(...) or an "
            "object called with (prediction, x_t, t, s, noise, schedule)."
        )
    return transition


def noisy_move_of(
    transition: Transition | GuidedSampler | None, method: str, default: Transition | None = None
) -> Transition:
    """The transition of a method that steers through its noise.

    Args:
        transition: what the caller gave.
        method: the method's name, for the sentence.
        default: as in ``move_of``.

    Raises:
        ValueError: if it is no transition, or adds no noise.
    """
    move = move_of(transition, default)
    silent = isinstance(move, DDPM) and move.noise == "none"
    if isinstance(move, DDIM) and not isinstance(move.eta, jax.core.Tracer):
        silent = not bool(jnp.any(move.eta > 0))
    if silent:
        raise ValueError(
            f"{method} steers by the transition's noise, but this one adds none; use ddim(eta=1.0) or ddpm()."
        )
    return move


def count(name: str, value: int, *, low: int = 1) -> int:
    """A number of inner steps: part of the program's shape.

    Raises:
        ValueError: if it is not an integer of at least ``low``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}.")
    return int(value)


def choice(name: str, value: str, options: tuple[str, ...]) -> str:
    """One of the named options.

    Raises:
        ValueError: if it is another.
    """
    if value not in options:
        raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(options)}.")
    return value


def need_problem(problem: Problem | None, method: str) -> Problem:
    """The problem.

    Raises:
        ValueError: if there is none.
    """
    if problem is None:
        raise ValueError(f"{method} restores a measurement; give a problem, or sample with jd.samplers.ddpm().")
    return problem


def need_linear(problem: Problem | None, method: str, what: str, instead: str = "dps, mmps or daps") -> LinearOperator:
    """The problem's operator, if it is linear.

    Args:
        problem: what was measured.
        method: the method's name, for the sentence.
        what: what it asks of the operator: "a pseudo-inverse", …
        instead: methods that can serve.

    Raises:
        ValueError: if it is not linear.
    """
    operator = need_problem(problem, method).operator
    if not isinstance(operator, LinearOperator):
        raise ValueError(
            f"{method} needs {what}, and {type(operator).__name__} is not linear and has none; use {instead}."
        )
    return operator


def need_spectral(problem: Problem | None, method: str, instead: str = "diffpir or mmps") -> SpectralOperator:
    """The problem's operator, if its singular value decomposition is known.

    Raises:
        ValueError: if it is not.
    """
    operator = need_problem(problem, method).operator
    if not isinstance(operator, SpectralOperator):
        raise ValueError(
            f"{method} needs a singular value decomposition (a SpectralOperator), which {type(operator).__name__} "
            f"does not have; use {instead}."
        )
    return operator


def need_key(key: Key, method: str) -> Key:
    """The key of a step that draws more than one array.

    Raises:
        ValueError: if it is recorded noise.
    """
    if not is_key(key):
        raise ValueError(f"{method} draws more than one array a step, so it cannot replay recorded noise; give a key.")
    return key
