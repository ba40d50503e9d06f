"""What methods ask of a measurement at a point: residual, derivative and its transpose, likelihood, proximal step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.linalg import cg_steps, dot, times
from jaxdiff.numerics import expand, normal_like, safe_norm
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.schedules import Level
from jaxdiff.typing import Image, Key, Measurement, Scalar

__all__ = [
    "Linearization",
    "distance",
    "linearize",
    "log_likelihood",
    "measurement_noise",
    "noised_projection",
    "proximal",
    "proximal_draw",
    "residual_at",
    "squared_misfit",
    "towards_data",
    "x0_variance",
]


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
    return problem.keep_observed(residual) if observed_only else residual


def distance(problem: Problem, x: Image, *, observed_only: bool = False) -> Scalar:
    """‖y − A(x)‖, or the norm of the noise model."""
    if problem.noise is None:
        return safe_norm(residual_at(problem, x, observed_only=observed_only))
    seen = jnp.ones_like(problem.y)
    return problem.noise.norm(problem.y, problem.operator(x), problem.keep_observed(seen) if observed_only else seen)


def squared_misfit(
    problem: Problem, x: Image, extra_variance: Scalar | float = 0.0, *, observed_only: bool = False
) -> Scalar:
    """‖y − A(x)‖², or under a noise model −2 (σ² + extra) log p(y | A(x)) of what is observed, up to a constant."""
    if problem.noise is None:
        return jnp.sum(jnp.square(jnp.abs(residual_at(problem, x, observed_only=observed_only))))
    scale = 2 * (problem.noise_variance() + extra_variance)
    return -scale.astype(x.dtype) * log_likelihood(problem, x, extra_variance)


def towards_data(problem: Problem, x: Image, extra_variance: Scalar | float = 0.0) -> Image:
    """Jᵀ(y − A(x)), or under a noise model (σ² + extra) ∇ log p(y | A(x))."""
    if problem.noise is None:
        local = linearize(problem, x)
        return local.pull(local.residual)
    return -jax.grad(lambda x: squared_misfit(problem, x, extra_variance))(x) / 2


def linearize(problem: Problem, x: Image) -> Linearization:
    """A and its transpose at x: itself where it is linear, its derivative where it is not."""
    operator = problem.operator
    if isinstance(operator, LinearOperator):
        return Linearization(operator.keep_observed(problem.y - operator(x)), operator.__call__, operator.adjoint)
    value, push = jax.linearize(operator.__call__, x)
    transpose = jax.linear_transpose(push, x)
    return Linearization(operator.keep_observed(problem.y - value), push, lambda u: transpose(jnp.conj(u))[0])


def log_likelihood(problem: Problem, x: Image, extra_variance: Scalar | float = 0.0) -> Scalar:
    """The logarithm of N(y; A(x), (σ² + extra) I) up to a constant, over what is observed; or of p(y | A(x))."""
    if problem.noise is not None:
        density = problem.noise.log_density(problem.y, problem.operator(x), extra_variance)
        return jnp.sum(problem.keep_observed(density))
    residual = problem.operator.keep_observed(problem.residual(x))
    return -dot(residual, residual) / (2 * (problem.noise_variance() + extra_variance))


def noised_projection(x: Image, problem: Problem, level: Level, noise: Image) -> Image:
    """The image x with its measured part replaced by that of y noised to ``level``.

    x + A⁺(√ᾱ y + √(1−ᾱ) A z − A x), for linear A.
    """
    operator = problem.operator
    y = operator.keep_observed(problem.y)
    change = times(level.signal, y) + operator(times(level.noise, noise) - x)
    return x + operator.pinv(change)  # type: ignore[attr-defined]


def x0_variance(level: Level, prior_std: Scalar) -> Scalar:
    """τ²(1−ᾱ)/(ᾱτ² + 1−ᾱ), the variance of each entry of x₀ given x_t if entries are independent, of deviation τ."""
    rest, tau2 = level.one_minus_alpha_bar, prior_std**2
    return tau2 * rest / (level.alpha_bar * tau2 + rest)


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


def proximal_draw(
    key: Key, problem: Problem, centre: Image, variance: Scalar, *, iterations: int = 5, rounds: int = 3
) -> Image:
    """x ~ exp(−‖y − A(x)‖²/2σ² − ‖x − centre‖²/2v): exact for linear A, with σ at least the floor of ``noise_level``.

    Perturb and minimise: the minimiser of a quadratic with noised centres is a draw from its Gaussian.
    """
    data_key, prior_key = jax.random.split(key)
    y = problem.y + measurement_noise(data_key, problem)
    noised = Problem(problem.operator, y, problem.noise_std)
    moved = centre + times(jnp.sqrt(variance).astype(centre.dtype), normal_like(prior_key, centre))
    return proximal(noised, moved, problem.noise_variance() / variance, iterations=iterations, rounds=rounds)


def measurement_noise(key: Key, problem: Problem) -> Measurement:
    """σ n as ``observe`` draws it, with σ at least the floor of ``noise_level``."""
    return times(problem.noise_level().astype(problem.y.real.dtype), normal_like(key, problem.y))
