"""What methods ask of a measurement at a point: residual, derivative and its transpose, and short linear solves."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.numerics import expand, normal
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.schedules import Level
from jaxdiff.typing import Array, Image, Key, Measurement, Scalar

__all__ = [
    "SOLVERS",
    "Linearization",
    "cg_steps",
    "dot",
    "gcr_steps",
    "linearize",
    "log_likelihood",
    "measurement_noise",
    "noise_level",
    "noise_variance",
    "noised_projection",
    "observed_count",
    "proximal",
    "residual_at",
    "times",
]

NOISE_FLOOR = 1e-3
"""Smallest σ that a solve with σ² on its diagonal takes, as DiffPIR does: σ = 0 would divide by zero."""


def dot(a: Array, b: Array) -> Scalar:
    """Re⟨a, b⟩."""
    return jnp.sum(jnp.real(jnp.conj(a) * b))


def divide(a: Array, b: Array) -> Array:
    """The quotient a / b, and 0 where b is not positive."""
    positive = b > 0
    return jnp.where(positive, a / jnp.where(positive, b, jnp.ones_like(b)), jnp.zeros_like(a))


def times(scalar: Scalar, x: Array) -> Array:
    """scalar · x for a real scalar and a real or complex x, without promotion."""
    return expand(scalar, x).astype(x.dtype) * x


def noise_level(problem: Problem, *, floor: float = NOISE_FLOOR) -> Scalar:
    """σ of each *real* number measured (σ/√2 for complex measurements), with σ at least ``floor``."""
    sigma = jnp.asarray(problem.noise_std)
    sigma = jnp.maximum(sigma, floor) if floor > 0 else sigma
    return sigma / 2**0.5 if jnp.issubdtype(problem.y.dtype, jnp.complexfloating) else sigma


def noise_variance(problem: Problem, *, floor: float = NOISE_FLOOR) -> Scalar:
    """σ² per *real* number measured (half of it for complex measurements), with σ at least ``floor``."""
    return noise_level(problem, floor=floor) ** 2


class Linearization(NamedTuple):
    """A near x: A(x + d) ≈ A(x) + push(d), with pull the transpose of push.

    Attributes:
        residual: y − A(x), 0 where the measurement says nothing.
        push: d ↦ J d.
        pull: u ↦ Jᵀ u (Jᴴ for a complex measurement).
    """

    residual: Measurement
    push: Callable[[Image], Measurement]
    pull: Callable[[Measurement], Image]


def residual_at(problem: Problem, x: Image, *, observed_only: bool = False) -> Measurement:
    """y − A(x); with ``observed_only`` 0 where the measurement says nothing."""
    residual = problem.residual(x)
    return problem.operator.keep_observed(residual) if observed_only else residual


def observed_count(problem: Problem) -> Scalar:
    """How many entries of y say something of the image."""
    return jnp.sum(jnp.real(problem.operator.keep_observed(jnp.ones_like(problem.y))))


def linearize(problem: Problem, x: Image) -> Linearization:
    """A and its transpose at x: itself where it is linear, its derivative where it is not."""
    operator = problem.operator
    if isinstance(operator, LinearOperator):
        return Linearization(operator.keep_observed(problem.y - operator(x)), operator.__call__, operator.adjoint)
    value, push = jax.linearize(operator.__call__, x)
    transpose = jax.linear_transpose(push, x)
    return Linearization(operator.keep_observed(problem.y - value), push, lambda u: transpose(jnp.conj(u))[0])


def log_likelihood(problem: Problem, x: Image, extra_variance: Scalar | float = 0.0) -> Scalar:
    """The logarithm of N(y; A(x), (σ² + extra) I) up to a constant, over what is observed."""
    residual = problem.operator.keep_observed(problem.residual(x))
    return -dot(residual, residual) / (2 * (noise_variance(problem) + extra_variance))


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
        alpha = divide(rr, jnp.where(going, dot(p, q), 0.0))
        x, r = x + times(alpha, p), r - times(alpha, q)
        new = dot(r, r)
        return (x, r, r + times(divide(new, jnp.where(going, rr, 0.0)), p), new), None

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


def noised_projection(x: Image, problem: Problem, level: Level, noise: Image) -> Image:
    """The image x with its measured part replaced by that of y noised to ``level``.

    x + A⁺(√ᾱ y + √(1−ᾱ) A z − A x), for linear A.
    """
    operator = problem.operator
    y = operator.keep_observed(problem.y)
    change = times(level.signal, y) + operator(times(level.noise, noise) - x)
    return x + operator.pinv(change)  # type: ignore[attr-defined]


def proximal(problem: Problem, centre: Image, rho: Scalar, *, iterations: int = 5, rounds: int = 3) -> Image:
    """argmin_x ‖y − A(x)‖² + ρ ‖x − centre‖².

    Linear A: centre + (AᵀA + ρ I)⁻¹ Aᵀ (y − A centre), by ``ridge``. Others: ``rounds`` Gauss–Newton steps from the
    centre, each with ``iterations`` of conjugate gradients; of each round the better of old and new point is kept.
    """
    operator = problem.operator
    rho = jnp.asarray(rho, centre.dtype)
    if isinstance(operator, LinearOperator):
        return centre + operator.ridge(rho, operator.keep_observed(problem.residual(centre)))

    def objective(x: Image) -> Scalar:
        residual = operator.keep_observed(problem.residual(x))
        return dot(residual, residual) + rho * dot(x - centre, x - centre)

    def body(x: Image, _: None) -> tuple[Image, None]:
        local = linearize(problem, x)
        shift = expand(rho, x)
        downhill = local.pull(local.residual) - shift * (x - centre)
        move = cg_steps(lambda d: local.pull(local.push(d)) + shift * d, downhill, iterations)
        better = objective(x + move) <= objective(x)
        return jnp.where(better, x + move, x), None

    return jax.lax.scan(body, centre, length=rounds)[0]


def measurement_noise(key: Key, problem: Problem) -> Measurement:
    """σ n as ``observe`` draws it, with σ at least the floor of ``noise_level``."""
    y = problem.y
    std = noise_level(problem).astype(y.real.dtype)
    if jnp.issubdtype(y.dtype, jnp.complexfloating):
        parts = normal(key, (2, *y.shape), y.real.dtype)
        return times(std, jax.lax.complex(parts[0], parts[1]))
    return times(std, normal(key, y.shape, y.dtype))
