"""What factories share: checked hyper-parameters as float32 arrays, and the sentences that refuse."""

import jax.numpy as jnp

from jaxdiff.numerics import is_key
from jaxdiff.operators.base import LinearOperator, SpectralOperator
from jaxdiff.problems import Problem
from jaxdiff.typing import Array, Key

__all__ = ["choice", "count", "need_key", "need_linear", "need_problem", "need_spectral", "number"]


def number(
    name: str, value: float | Array, *, low: float = 0.0, high: float = float("inf"), open_low: bool = False
) -> Array:
    """A hyper-parameter as a float32 array; Python numbers are checked against [low, high] (or ]low, high]).

    Raises:
        ValueError: if it lies outside.
    """
    if isinstance(value, int | float) and not (low < value <= high or (value == low and not open_low)):
        above = "above" if open_low else "at least"
        below = "" if high == float("inf") else f" and at most {high:g}"
        raise ValueError(f"{name} must be {above} {low:g}{below}, got {value}.")
    return jnp.asarray(value, jnp.float32)


def count(name: str, value: int, *, low: int = 1) -> int:
    """A number of inner steps: part of the program's shape.

    Raises:
        ValueError: if it is not an integer of at least ``low``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}.")
    return value


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


def need_spectral(problem: Problem | None, method: str, instead: str = "ddnm, diffpir or mmps") -> SpectralOperator:
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
