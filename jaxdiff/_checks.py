"""Checks of parameters: each refuses a bad value with one sentence that says what to do."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, Shape

__all__ = [
    "check_corner",
    "check_divides",
    "check_factor",
    "check_image_shape",
    "check_key",
    "check_margin",
    "check_range",
    "check_side",
    "check_size",
    "choice",
    "concrete",
    "count",
    "flag",
    "leaf",
    "number",
    "numbers",
    "scheduled",
    "shown",
]


def check_image_shape(image_shape: Shape) -> Shape:
    """(H, W, C) as three positive ints, or a ValueError."""
    shape = _listed(image_shape)
    if len(shape) != 3 or not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
        raise ValueError(f"image_shape must be three positive integers (height, width, channels), got {shape}.")
    return tuple(int(n) for n in shape)


def _listed(value: Any) -> tuple[Any, ...]:
    """The entries of a list; a value that is none is its own only entry."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def concrete(value: Any) -> bool:
    """Whether the numbers in ``value`` are known now (not inside jit, vmap or grad), so that they can be checked."""
    return not isinstance(value, jax.core.Tracer)


def shown(value: Any) -> str:
    """A value in a sentence: one short line."""
    return " ".join(repr(value).split())[:60]


def leaf(name: str, value: Any, *, scalar: bool = False) -> Array:
    """A float32 array leaf, one number where asked; refuses NaN and infinity where the value is known."""
    array = numbers(name, value)
    if scalar and array.ndim:
        raise ValueError(f"{name} must be one number, got shape {array.shape}; for several, use jax.vmap.")
    if concrete(array) and not bool(np.all(np.isfinite(np.asarray(array)))):
        raise ValueError(f"{name} must be finite, but it holds NaN or infinity.")
    return array


def numbers(name: str, value: Any) -> Array:
    """``value`` as float32.

    Raises:
        ValueError: if it holds something else than numbers.
    """
    try:
        return jnp.asarray(value, jnp.float32)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number or an array of numbers, got {shown(value)}.") from None


def check_range(
    name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False, shape: Shape = ()
) -> None:
    """Refuse a value that is not a finite number in [low, high] (or ]low, high]). Traced values are not checked.

    ``shape`` is a further shape that it may have, such as (2,) for a pair.
    """
    if not concrete(value):
        return
    found = np.asarray(value)
    # By JAX's kinds, since numpy knows none for bfloat16.
    if not (found.dtype.kind in "biu" or jnp.issubdtype(found.dtype, jnp.floating)) or found.shape not in ((), shape):
        what = f"a number or {shape[0]} of them" if shape else "a number"
        raise ValueError(f"{name} must be {what}, got {shown(value)}.")
    if not np.all((found > low if open_low else found >= low) & (found <= high) & (found < math.inf)):
        left, right = ("]" if open_low else "["), ("[" if math.isinf(high) else "]")
        raise ValueError(f"{name} must lie in {left}{low:g}, {high:g}{right}, got {value!r}.")


def check_size(name: str, size: int | Shape, *, odd: bool = False) -> tuple[int, int]:
    """A size as (height, width), positive, odd where asked."""
    pair = (size, size) if isinstance(size, int | np.integer) else _listed(size)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in pair):
        raise ValueError(f"{name} must be a positive integer or a pair (height, width) of them, got {shown(size)}.")
    if odd and not all(n % 2 for n in pair):
        raise ValueError(f"{name} must be odd, to have a centre, got {size!r}; use {_next_odd(pair)}.")
    return int(pair[0]), int(pair[1])


def check_margin(name: str, width: int | Shape) -> tuple[int, int]:
    """Pixels on either side as (rows, columns), each zero or more."""
    pair = (width, width) if isinstance(width, int | np.integer) else _listed(width)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) and n >= 0 for n in pair):
        raise ValueError(
            f"{name} must be a whole number of pixels, zero or more, or a pair (rows, columns) of them, got {shown(width)}."
        )
    return int(pair[0]), int(pair[1])


def check_corner(name: str, corner: Shape) -> tuple[int, int]:
    """Row and column of an upper left corner, two ints."""
    pair = _listed(corner)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) for n in pair):
        raise ValueError(f"{name} must be two integers, row and column, got {shown(corner)}.")
    return int(pair[0]), int(pair[1])


def _next_odd(pair: Shape) -> int | Shape:
    odd = tuple(int(n) + (int(n) + 1) % 2 for n in pair)
    return odd[0] if odd[0] == odd[1] else odd


def check_side(name: str, size: int, *, odd: bool = False) -> int:
    """The side of a square, a positive int, odd where asked."""
    if not isinstance(size, int | np.integer):
        raise ValueError(f"{name} must be one positive integer, the side of a square, got {shown(size)}.")
    return check_size(name, size, odd=odd)[0]


def check_factor(factor: int) -> int:
    """A positive int."""
    if not isinstance(factor, int | np.integer) or factor < 1:
        raise ValueError(f"factor must be a positive integer, got {shown(factor)}.")
    return int(factor)


def check_divides(factor: int, image_shape: Shape) -> int:
    """A factor that divides both sides of the image."""
    factor = check_factor(factor)
    height, width = image_shape[:2]
    if height % factor or width % factor:
        raise ValueError(f"factor {factor} must divide the image's sides {height} and {width}; crop or pad it first.")
    return factor


def check_key(key: Any) -> None:
    """Refuse what is no key, such as a seed."""
    if not isinstance(key, jax.Array | np.ndarray):
        raise ValueError(f"key={shown(key)} is not a key; make one, as in jax.random.key(0).")


LARGEST = float(np.finfo(np.float32).max)
"""The largest float32, 3.4e38: a larger number would be infinite as a leaf."""


def number(
    name: str, value: float | Array, *, low: float = 0.0, high: float = float("inf"), open_low: bool = False
) -> Array:
    """A hyper-parameter as a float32 array; known numbers are checked against [low, high] (or ]low, high]).

    Raises:
        ValueError: if one lies outside, or is no number.
    """
    if value is None or isinstance(value, str | bytes | bool | dict):
        raise ValueError(f"{name} must be a number, got {value!r}.")
    single = isinstance(value, int | float | np.number)  # checked before float32 makes 1e39 infinite
    array = None if single else numbers(name, value)
    if array is not None and not array.size:
        raise ValueError(f"{name} must be a number, got an empty list.")
    known: Any = value if single else np.asarray(array) if concrete(array) else np.zeros(0)
    if not np.all((known > low if open_low else known >= low) & (known <= min(high, LARGEST))):
        above = "above" if open_low else "at least"
        below = " and finite" if high == float("inf") else f" and at most {high:g}"
        raise ValueError(f"{name} must be {above} {low:g}{below}, got {shown(value)}.")
    return jnp.asarray(value, jnp.float32) if array is None else array


def scheduled(
    name: str, value: float | Array, *, low: float = 0.0, high: float = float("inf"), open_low: bool = False
) -> Array:
    """As ``number``, or a schedule [T]: one value a training timestep, which ``Step.value`` reads.

    Raises:
        ValueError: if a number is out of range, or an array is empty or has more than one axis.
    """
    array = number(name, value, low=low, high=high, open_low=open_low)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{name} must be one number or one per training timestep, got shape {array.shape}.")
    return array


def count(name: str, value: int, *, low: int = 1) -> int:
    """A number of inner steps: part of the program's shape.

    Raises:
        ValueError: if it is not an integer of at least ``low``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"{name} must be an integer of at least {low}, got {shown(value)}.")
    return int(value)


def choice(name: str, value: str, options: tuple[str, ...]) -> str:
    """One of the named options.

    Raises:
        ValueError: if it is another.
    """
    if value not in options:
        raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(options)}.")
    return value


def flag(name: str, value: bool) -> bool:
    """A yes or no, which shapes the program.

    Raises:
        ValueError: if it is neither True nor False.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}.")
    return bool(value)
