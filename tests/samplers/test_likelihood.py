"""Linearisation, short solvers and the proximal step against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxdiff import operators
from jaxdiff.linalg import cg_steps, dot, gcr_steps
from jaxdiff.operators.base import LinearOperator, SpectralOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers import ddnm, ddrm, diffpir, karras_grid, sample, score_ald
from jaxdiff.samplers.likelihood import linearize, noised_projection, proximal
from jaxdiff.typing import Array
from tests.support.tiers import fast_only


@pytest.mark.parametrize("kind", fast_only(["cubic", "spectrum"], ["mask", "blur", "dense", "cubic", "spectrum"]))
def test_pull_is_the_transpose_of_push_and_push_the_derivative(world, x_t, kind):
    problem = world(kind).problem
    local = linearize(problem, x_t)
    d = jax.random.normal(jax.random.key(1), x_t.shape)
    u = jax.random.normal(jax.random.key(2), local.residual.shape, local.residual.dtype)
    np.testing.assert_allclose(dot(local.push(d), u), dot(d, local.pull(u)), rtol=2e-5)
    h = 1e-2
    difference = (problem.operator(x_t + h * d) - problem.operator(x_t - h * d)) / (2 * h)
    np.testing.assert_allclose(local.push(d), difference, atol=2e-3)
    assert local.pull(u).dtype == x_t.dtype


def test_the_adjoint_of_a_complex_matrix_is_the_real_part_of_its_conjugate_transpose(x_t):
    """Images are real: Re⟨A x, u⟩ = ⟨x, Aᴴ u⟩ over real x."""
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(5, 16)) + 1j * rng.normal(size=(5, 16))).astype(np.complex64)
    u = (rng.normal(size=5) + 1j * rng.normal(size=5)).astype(np.complex64)
    operator = Complex(jnp.asarray(matrix), image_shape=(4, 4, 1))
    found = operator.adjoint(jnp.asarray(u))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found.ravel(), (matrix.conj().T @ u).real, atol=1e-5)
    y = operator(x_t)
    rows = np.concatenate([matrix.real, matrix.imag])
    expected = np.linalg.pinv(rows.astype(np.float64)) @ np.concatenate([np.asarray(y).real, np.asarray(y).imag])
    np.testing.assert_allclose(operator.pinv(y).ravel(), expected, atol=1e-3)
    solved = np.linalg.solve(rows.T @ rows + 0.5 * np.eye(16), (matrix.conj().T @ u).real)
    np.testing.assert_allclose(operator.ridge(0.5, jnp.asarray(u)).ravel(), solved, atol=1e-4)


def test_a_complex_measurement_has_half_the_variance_per_number(world):
    assert world("spectrum").problem.noise_variance() == pytest.approx(
        0.5 * float(world("mask").problem.noise_variance())
    )


@struct.dataclass(eq=False)
class Complex(LinearOperator):
    """A complex matrix, with no closed form."""

    matrix: Array

    def apply(self, x):
        return self.matrix @ x.ravel().astype(self.matrix.dtype)


@struct.dataclass(eq=False)
class Unitary(SpectralOperator):
    """The complex Fourier transform of a real image, with its singular values: V = I, s = 1, Uᵀy = Re F⁻¹y."""

    def apply(self, x):
        return jnp.fft.fft2(x[..., 0], norm="ortho")

    def adjoint(self, y):
        return jnp.real(jnp.fft.ifft2(y, norm="ortho"))[..., None]

    def to_spectral(self, x):
        return x

    def from_spectral(self, z):
        return z

    @property
    def singular_values(self):
        return jnp.ones(self.image_shape)

    measurement_to_spectral = pinv = adjoint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "linear"),
    fast_only(
        ["diffpir", "ddrm"],
        [
            (diffpir(), False),
            (score_ald(), False),
            (score_ald(gamma=0.8), False),
            (ddnm(), True),
            (ddnm(form="simple"), True),
            (ddrm(), True),
        ],
        ["diffpir", "score_ald", "score_ald_gamma", "ddnm", "ddnm_simple", "ddrm"],
    ),
)
def test_methods_give_each_real_number_half_of_a_complex_variance(world, sampler, linear):
    """Of a real image, a unitary transform with noise σ is denoising with σ/√2."""
    here = world("spectrum", sigma=0.4)
    complex_problem, shape = here.problem, here.prior.image_shape
    if linear:
        complex_problem = complex_problem.replace(operator=Unitary(image_shape=shape))
    image = jnp.real(jnp.fft.ifft2(complex_problem.y, norm="ortho"))[..., None]

    def run(problem):
        return sample(jax.random.key(0), here.prior, problem, sampler, steps=karras_grid(here.prior.schedule, 8))[0]

    found = run(complex_problem)
    half, whole = (run(Problem(operators.denoise(image_shape=shape), image, jnp.asarray(s))) for s in (0.08**0.5, 0.4))
    np.testing.assert_allclose(found, half, atol=1e-4)
    assert float(jnp.abs(half - whole).max()) > 0.01, "the two levels can be told apart"


def test_solvers_are_exact_after_as_many_steps_as_unknowns():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    b = jnp.asarray(rng.normal(size=6), jnp.float32)
    symmetric = jnp.asarray(root @ root.T + np.eye(6), jnp.float32)
    skewed = symmetric + jnp.asarray(root - root.T, jnp.float32)
    np.testing.assert_allclose(cg_steps(lambda v: symmetric @ v, b, 6), jnp.linalg.solve(symmetric, b), rtol=2e-3)
    np.testing.assert_allclose(gcr_steps(lambda v: skewed @ v, b, 6), jnp.linalg.solve(skewed, b), rtol=2e-3, atol=1e-4)
    # One step of GMRES minimises the residual along b.
    mb = skewed @ b
    np.testing.assert_allclose(gcr_steps(lambda v: skewed @ v, b, 1), b * (mb @ b) / (mb @ mb), rtol=1e-5)
    for solver in (cg_steps, gcr_steps):
        assert bool(jnp.all(solver(lambda v: symmetric @ v, jnp.zeros(6), 3) == 0))
        assert bool(jnp.all(jnp.isfinite(solver(lambda v: v, b, 4)))), "an early end must not divide by zero"


@pytest.mark.parametrize("kind", ["mask", "blur", "dense"])
def test_proximal_is_the_regularised_least_squares(world, x_t, kind):
    problem = world(kind).problem
    a = np.asarray(problem.operator.as_matrix(), np.float64)
    y = np.asarray(problem.operator.keep_observed(problem.y)).ravel()
    expected = np.linalg.solve(a.T @ a + 0.3 * np.eye(16), a.T @ y + 0.3 * np.asarray(x_t).ravel())
    np.testing.assert_allclose(proximal(problem, x_t, 0.3).ravel(), expected, atol=1e-4)


@pytest.mark.slow
def test_proximal_of_a_nonlinear_operator_is_stationary(world, x_t):
    problem = world("cubic").problem

    def objective(x):
        return dot(problem.residual(x), problem.residual(x)) + 0.3 * dot(x - x_t, x - x_t)

    found = proximal(problem, x_t, 0.3, iterations=8, rounds=8)
    assert jnp.linalg.norm(jax.grad(objective)(found)) < 1e-3 * jnp.linalg.norm(jax.grad(objective)(x_t))


def test_projection_replaces_the_measured_part_only(world, x_t):
    problem = world("mask").problem
    level = world("mask").prior.schedule.at(jnp.asarray(300))
    noise = jax.random.normal(jax.random.key(3), x_t.shape)
    found = noised_projection(x_t, problem, level, noise)
    mask = problem.operator.mask
    known = jnp.sqrt(level.alpha_bar) * problem.y + jnp.sqrt(level.one_minus_alpha_bar) * noise
    np.testing.assert_allclose(found, mask * known + (1 - mask) * x_t, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [cg_steps, gcr_steps])
def test_solvers_that_arrive_early_keep_the_gradient_of_the_answer(solver):
    """Two eigenvalues: exact after two steps, and all steps after it divide rounding by rounding."""
    b, weights = jax.random.normal(jax.random.key(0), (2, 12))

    def loss(scale, b, solve):
        diagonal = jnp.where(jnp.arange(12) < 5, scale, 3.0)
        return jnp.vdot(weights, solve(diagonal, b)) ** 2

    found = jax.grad(loss, argnums=(0, 1))(1.5, b, lambda d, b: solver(lambda u: d * u, b, 12))
    exact = jax.grad(loss, argnums=(0, 1))(1.5, b, lambda d, b: b / d)
    for a, e in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-4)
