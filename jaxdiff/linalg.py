"""Linear algebra: safe division, damped division, and conjugate gradients with their residual."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.numerics import expand, safe_norm
from jaxdiff.typing import Array, Scalar

__all__ = [
    "SOLVERS",
    "CGResult",
    "cg_steps",
    "conjugate_gradient",
    "divide_or_zero",
    "dot",
    "gcr_steps",
    "largest_eigenvalue",
    "shrink",
    "times",
]


def dot(a: Array, b: Array) -> Scalar:
    """Re⟨a, b⟩."""
    return jnp.sum(jnp.real(jnp.conj(a) * b))


def largest_eigenvalue(matvec: Callable[[Array], Array], like: Array, count: int = 20) -> Scalar:
    """The largest eigenvalue of a symmetric, positive semi-definite matrix by ``count`` power iterations, from below.

    >>> float(largest_eigenvalue(lambda v: jnp.array([4.0, 1.0]) * v, jnp.zeros(2)))
    4.0
    """

    def body(v: Array, _: None) -> tuple[Array, None]:
        w = matvec(v)
        return divide_or_zero(w, expand(safe_norm(w), w)), None

    start = jax.random.normal(jax.random.key(0), like.shape, like.dtype)
    v, _ = jax.lax.scan(body, start, length=count)
    return dot(v, matvec(v))


def times(scalar: Scalar, x: Array) -> Array:
    """scalar · x for a real scalar and a real or complex x, without promotion."""
    return expand(scalar, x).astype(x.dtype) * x


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


def least_squares(
    apply: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    y: Array,
    *,
    maxiter: int = 50,
    tol: float = 1e-6,
) -> CGResult:
    """The x of smallest norm that minimises ‖A x − y‖, by conjugate gradients on Aᵀ A x = Aᵀ y.

    The gradient in y comes from (A⁺)ᵀ = (A Aᵀ)⁺ A. Conjugate gradients on Aᵀ A would not converge there if A has a null space,
    because a gradient in x need not lie in the range of Aᵀ.

    Args:
        apply: x ↦ A x.
        adjoint: y ↦ Aᵀ y.
        y: the right-hand side.
        maxiter: most iterations of a solve.
        tol: stop at a relative residual of ``tol``.
    """

    def normal(x: Array) -> Array:
        return adjoint(apply(x))

    def solve(matvec: Callable[[Array], Array], b: Array) -> Array:
        return conjugate_gradient(matvec, b, maxiter=maxiter, tol=tol).x

    def transpose_solve(matvec: Callable[[Array], Array], gradient: Array) -> Array:
        return solve(matvec, adjoint(solve(lambda v: apply(adjoint(v)), apply(gradient))))

    b = adjoint(y)
    x = jax.lax.custom_linear_solve(normal, b, solve, transpose_solve)
    scale = jnp.maximum(safe_norm(b), jnp.finfo(b.dtype).tiny)
    return CGResult(x, safe_norm(b - normal(x)) / scale)


def cg_steps(matvec: Callable[[Array], Array], b: Array, iterations: int) -> Array:
    """Conjugate gradients for M u = b from 0, exactly ``iterations`` of them.

    A fixed count costs the same at every step, and gradients through it are those of the answer that was used, not of
    the converged one. Once the residual is nothing but rounding the answer stays as it is: quotients of rounding errors
    change it little, but their derivatives are infinite.
    """
    rounding = _rounding(b)

    def body(carry: tuple[Array, Array, Array, Scalar], _: None) -> tuple[tuple[Array, Array, Array, Scalar], None]:
        x, r, p, rr = carry
        q = matvec(p)
        going = rr > rounding
        curvature = dot(p, q)
        alpha = divide_or_zero(rr, jnp.where(going & (curvature > 0), curvature, 0.0))
        x, r = x + times(alpha, p), r - times(alpha, q)
        new = dot(r, r)
        return (x, r, r + times(divide_or_zero(new, jnp.where(going, rr, 0.0)), p), new), None

    carry, _ = jax.lax.scan(body, (jnp.zeros_like(b), b, b, dot(b, b)), length=iterations)
    return carry[0]


def gcr_steps(matvec: Callable[[Array], Array], b: Array, iterations: int) -> Array:
    """Generalised conjugate residuals for M u = b from 0: GMRES's iterates, for M not symmetric too.

    Reference:
        Eisenstat, Elman & Schultz 1983: equal to GMRES as long as the symmetric part of M is positive definite.
    """
    rounding = _rounding(b)

    def body(carry: tuple[Array, Array, Array, Array], i: Array) -> tuple[tuple[Array, Array, Array, Array], None]:
        x, r, ps, qs = carry
        p, q = r, matvec(r)
        along = jax.vmap(lambda old: dot(old, q))(qs)
        weights = along.reshape(-1, *(1,) * b.ndim).astype(b.dtype)
        p, q = p - jnp.sum(weights * ps, axis=0), q - jnp.sum(weights * qs, axis=0)
        squared = dot(q, q)
        going = (dot(r, r) > rounding) & (squared > 0)
        scale = jnp.where(going, jax.lax.rsqrt(jnp.where(going, squared, 1.0)), 0.0)
        p, q = times(scale, p), times(scale, q)
        step = dot(q, r)
        return (x + times(step, p), r - times(step, q), ps.at[i].set(p), qs.at[i].set(q)), None

    basis = jnp.zeros((iterations, *b.shape), b.dtype)
    carry, _ = jax.lax.scan(body, (jnp.zeros_like(b), b, basis, basis), jnp.arange(iterations))
    return carry[0]


def _rounding(b: Array) -> Scalar:
    """The square of a residual that is rounding alone."""
    return jax.lax.stop_gradient(jnp.finfo(b.real.dtype).eps ** 2 * dot(b, b))


SOLVERS = {"cg": cg_steps, "gmres": gcr_steps}
"""Krylov methods of a fixed number of steps, by name."""
