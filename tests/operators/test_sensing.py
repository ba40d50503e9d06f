"""Hadamard transforms against scipy's matrix, camera patterns, dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxdiff import operators as ops


def test_hadamard_equals_the_dense_matrix():
    x = np.random.default_rng(0).standard_normal((8, 32, 2)).astype(np.float32)
    operator = ops.compressed_sensing(jax.random.key(0), image_shape=x.shape, ratio=1.0)
    rows, columns = (scipy.linalg.hadamard(side) / np.sqrt(side) for side in x.shape[:2])
    signed = np.asarray(operator.signs)[..., None] * x
    expected = np.einsum("ij,jkc,lk->ilc", rows, signed, columns).reshape(-1, 2)
    np.testing.assert_allclose(operator(jnp.asarray(x)), expected[np.asarray(operator.indices)], atol=1e-5)
    assert len(set(np.asarray(operator.indices).tolist())) == 8 * 32


def test_large_sides_split():
    side = 256
    operator = ops.single_pixel_camera(image_shape=(1, side, 1), samples=side)
    x = np.random.default_rng(1).standard_normal((1, side, 1)).astype(np.float32)
    y = np.zeros(side)
    y[np.asarray(operator.indices)] = np.asarray(operator(jnp.asarray(x)))[:, 0]
    np.testing.assert_allclose(y, scipy.linalg.hadamard(side) @ x[0, :, 0] / 16, atol=1e-4)


def test_single_pixel_patterns_go_from_coarse_to_fine():
    operator = ops.single_pixel_camera(image_shape=(8, 8, 1), samples=10)
    patterns = np.asarray(jax.vmap(lambda e: operator.adjoint(e))(jnp.eye(10)[..., None]))[..., 0]
    np.testing.assert_allclose(patterns[0], 1 / 8, atol=1e-6)
    changes = [np.count_nonzero(np.diff(np.sign(p[0]))) + np.count_nonzero(np.diff(np.sign(p[:, 0]))) for p in patterns]
    assert changes == sorted(changes) == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]


@pytest.mark.slow
def test_gaussian_sensing_has_unit_variance_rows():
    operator = ops.gaussian_sensing(jax.random.key(0), image_shape=(16, 16, 1), ratio=0.5)
    assert operator.measurement_shape == (128, 1)
    np.testing.assert_allclose(np.asarray(operator.matrix.matrix).std() * np.sqrt(128), 1, rtol=0.02)


def test_matrix_acts_on_the_flattened_image_or_each_channel():
    x = np.random.default_rng(2).standard_normal((2, 3, 2)).astype(np.float32)
    whole = np.random.default_rng(3).standard_normal((5, 12))
    each = whole[:, :6]
    y = ops.from_matrix(whole, image_shape=x.shape)(jnp.asarray(x))
    np.testing.assert_allclose(y, whole @ x.ravel(), atol=1e-5)
    y = ops.from_matrix(each, image_shape=x.shape, per_channel=True)(jnp.asarray(x))
    np.testing.assert_allclose(y, each @ x.reshape(6, 2), atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: ops.color_matrix(image_shape=(2, 2, 3), matrix=m),
        lambda m: ops.from_matrix(m, image_shape=(1, 3, 1)),
        lambda m: ops.separable(image_shape=(3, 1, 1), rows=m, columns=[[1.0]]),
    ],
    ids=["color", "matrix", "separable"],
)
@pytest.mark.slow
def test_gradients_reach_a_traced_matrix_and_lists_are_matrices(make):
    matrix = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    operator = make(matrix.tolist())
    x = jax.random.normal(jax.random.key(0), operator.image_shape)
    np.testing.assert_allclose(make(matrix)(x), operator(x))

    def energy(m):
        return jnp.sum(make(m)(x) ** 2)

    found = jax.grad(energy)(jnp.asarray(matrix))
    step = 1e-2
    for i, j in ((0, 0), (1, 2)):
        offset = np.zeros_like(matrix)
        offset[i, j] = step
        expected = (energy(matrix + offset) - energy(matrix - offset)) / (2 * step)  # exact: it is quadratic
        assert float(found[i, j]) == pytest.approx(float(expected), rel=1e-2, abs=1e-3)
