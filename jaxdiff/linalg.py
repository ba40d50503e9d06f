"""Small linear algebra: division that is safe at zero, damped division, conjugate gradients with their residual."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.numerics import expand, safe_norm
from jaxdiff.typing import Array, Scalar

__all__ = ["CGResult", "conjugate_gradient", "divide_or_zero", "shrink"]


def divide_or_zero(a: Array, b: Array) -> Array:
    """The quotient a / b, and 0 where b is 0 (with gradient 0 there).

    >>> divide_or_zero(jnp.array([1.0, 1.0]), jnp.array([4.0, 0.0])).tolist()
    [0.25, 0.0]
    """
    nonzero = b != 0
    return jnp.where(nonzero, a / jnp.where(nonzero, b, jnp.ones_like(b)), jnp.zeros_like(a))


def shrink(a: Array, s: Array, rho: float | Array) -> Array:
    """The quotient s a / (s² + ρ): division by s, damped by ρ > 0."""
    return s * a / (jnp.square(s) + expand(jnp.asarray(rho, s.dtype), s))


class CGResult(NamedTuple):
    """The solution and the relative residual ‖b − M x‖ / ‖b‖ that was reached."""

    x: Array
    residual: Scalar


def conjugate_gradient(
    matvec: Callable[[Array], Array],
    b: Array,
    *,
    x0: Array | None = None,
    maxiter: int = 50,
    tol: float = 1e-6,
) -> CGResult:
    """Solve M x = b for a symmetric positive (semi-)definite M given by its product.

    This is ``jax.scipy.sparse.linalg.cg``, and it reports the residual, which says how far to trust the solution.

    Args:
        matvec: v ↦ M v, shapes as ``b``.
        b: the right-hand side, any shape.
        x0: where to start; zeros by default.
        maxiter: most iterations.
        tol: stop at a relative residual of ``tol``.
    """
    x, _ = jax.scipy.sparse.linalg.cg(matvec, b, x0=x0, tol=tol, maxiter=maxiter)
    scale = jnp.maximum(safe_norm(b), jnp.finfo(b.real.dtype).tiny)
    return CGResult(x, safe_norm(b - matvec(x)) / scale)
