"""Any JAX function as an operator."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, concrete
from jaxdiff.operators.base import LinearOperator, Operator
from jaxdiff.typing import Array, Image, Measurement, PyTree, Shape

__all__ = ["Function", "LinearFunction", "from_function", "from_linear_function"]


@struct.dataclass(eq=False)
class Function(Operator):
    """y = f(x), or f(params, x)."""

    params: PyTree
    function: Callable[..., Array] = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: f."""
        return self.function(x) if self.params is None else self.function(self.params, x)


@struct.dataclass(eq=False)
class LinearFunction(Function, LinearOperator):
    """y = f(x), or f(params, x), linear in x. The adjoint is from ``jax.linear_transpose``."""


def from_function(function: Callable[..., Array], *, image_shape: Shape, params: PyTree = None) -> Function:
    """Make an operator from any differentiable JAX function of one image.

    Define the function once, outside of any loop. It is part of the compiled program, so another function object compiles
    again. For example, a lambda in a loop compiles in each iteration. Put numbers that vary into ``params``.

    Args:
        function: f(x), or f(params, x) if you give ``params``.
        image_shape: (H, W, C).
        params: pytree of arrays, which become leaves of the operator.

    Raises:
        ValueError: if the function cannot take an image of this shape.

    >>> squares = from_function(jnp.square, image_shape=(4, 4, 1))
    >>> squares(-jnp.ones((4, 4, 1))).sum().item()
    16.0
    """
    operator = Function(params, function, image_shape=check_image_shape(image_shape))
    _check_function(operator)
    return operator


def from_linear_function(
    function: Callable[..., Array], *, image_shape: Shape, params: PyTree = None
) -> LinearFunction:
    """Make a linear operator from any linear JAX function of one image. JAX derives its adjoint.

    Define the function once, as for :func:`from_function`. Another function object, such as a lambda in a loop, compiles
    again.

    Args:
        function: f(x), or f(params, x) if you give ``params``. It must be linear in x.
        image_shape: (H, W, C).
        params: pytree of arrays, which become leaves of the operator.

    Raises:
        ValueError: if the function cannot take an image of this shape, or is not linear in it.
    """
    operator = LinearFunction(params, function, image_shape=check_image_shape(image_shape))
    y = _check_function(operator)
    try:
        jax.eval_shape(operator.adjoint, y)
        at_zero = operator(jnp.zeros(operator.image_shape, jnp.float32))
        linear = not concrete(at_zero) or not np.asarray(at_zero).any()
    except (TypeError, ValueError, NotImplementedError, AssertionError):
        linear = False
    if not linear:
        raise ValueError("the function is not linear in the image, so it has no adjoint; use from_function.")
    return operator


def _check_function(operator: Operator) -> Any:
    x = jax.ShapeDtypeStruct(operator.image_shape, jnp.float32)
    try:
        y = jax.eval_shape(operator.__call__, x)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"the function does not take an image of shape {operator.image_shape}: {error}") from error
    if not isinstance(y, jax.ShapeDtypeStruct) or not jnp.issubdtype(y.dtype, jnp.inexact):
        raise ValueError(f"the function must return one array of real or complex numbers for an image, got {y}.")
    return y
