"""Tomography against scikit-image."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.transform
from skimage.data import shepp_logan_phantom

from jaxdiff import operators as ops

ANGLES = np.linspace(0, 180, 20, endpoint=False) + 3.3


def _error(found, expected):
    return np.linalg.norm(np.asarray(found, np.float64) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("side", [32, 33])
@pytest.mark.parametrize("circle", [True, False])
def test_radon_and_back_projection_equal_scikit_images(side, circle):
    x = np.random.default_rng(0).uniform(size=(side, side))
    operator = ops.ct(image_shape=(side, side, 1), angles=ANGLES, circle=circle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the image is not zero outside the circle
        expected = skimage.transform.radon(x, ANGLES, circle=circle)
    y = jax.jit(operator)(jnp.asarray(x, jnp.float32)[..., None])
    assert _error(y[..., 0], expected) < 1e-5
    back = jax.jit(operator.fbp)(y)[..., 0]
    expected = skimage.transform.iradon(expected, ANGLES, circle=circle, output_size=side)
    row, column = np.mgrid[:side, :side] - side // 2
    inside = row**2 + column**2 < (side // 2 - 1) ** 2  # scikit-image cuts the rest off
    assert _error(back[inside], expected[inside]) < 1e-5


def test_non_square_images_keep_every_ray():
    x = np.random.default_rng(1).uniform(size=(20, 12))
    y = ops.ct(image_shape=(20, 12, 1), angles=ANGLES)(jnp.asarray(x, jnp.float32)[..., None])
    assert _error(y[..., 0], skimage.transform.radon(x, ANGLES, circle=False)) < 1e-5
    np.testing.assert_allclose(y.sum(axis=0), x.sum(), rtol=0.02)  # each view sees all of the mass


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(21, 12), *(pytest.param(s, marks=pytest.mark.slow) for s in ((12, 21), (20, 13)))])
def test_the_circle_of_a_non_square_image_is_scikit_images(shape):
    x = np.random.default_rng(2).uniform(size=shape)
    operator = ops.ct(image_shape=(*shape, 1), angles=list(ANGLES), circle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the image is not zero outside the circle
        expected = skimage.transform.radon(x, ANGLES, circle=True)
    y = operator(jnp.asarray(x, jnp.float32)[..., None])
    assert _error(y[..., 0], expected) < 1e-5
    weights = np.random.default_rng(3).normal(size=y.shape).astype(np.float32)
    back = operator.adjoint(jnp.asarray(weights))[..., 0]
    assert np.sum(np.asarray(back) * x) == pytest.approx(np.sum(weights * np.asarray(y)), rel=1e-4)
    square = operator.fbp(y)[operator.window][..., 0]
    side = min(shape)
    expected = skimage.transform.iradon(expected, ANGLES, circle=True, output_size=side)
    row, column = np.mgrid[:side, :side] - side // 2
    inside = row**2 + column**2 < (side // 2 - 1) ** 2
    assert _error(square[inside], expected[inside]) < 1e-5


def test_filtered_back_projection_restores_the_phantom():
    phantom = skimage.transform.resize(shepp_logan_phantom(), (64, 64)).astype(np.float32)[..., None]
    for normalize in (False, True):
        operator = ops.ct(image_shape=(64, 64, 1), angles=90, normalize=normalize)
        restored = jax.jit(lambda x, operator=operator: operator.fbp(operator(x)))(jnp.asarray(phantom))
        assert np.sqrt(np.mean((np.asarray(restored) - phantom) ** 2)) < 0.08


def test_normalized_operator_has_norm_near_one():
    operator = ops.ct(image_shape=(16, 16, 1), angles=24, normalize=True)
    x = jnp.ones((16, 16, 1))
    gram = jax.jit(operator.gram)
    for _ in range(20):
        x = x / jnp.linalg.norm(x)
        x = gram(x)
    assert 0.6 < float(jnp.linalg.norm(x)) ** 0.5 < 1.2


def test_angles_by_number_and_limited_arc():
    even = ops.ct(image_shape=(8, 8, 1), angles=4)
    np.testing.assert_allclose(np.rad2deg(np.arctan2(even.sin, even.cos)), [0, 45, 90, 135], atol=1e-4)
    limited = ops.ct(image_shape=(8, 8, 1), angles=3, arc=90)
    np.testing.assert_allclose(np.rad2deg(np.arctan2(limited.sin, limited.cos)), [0, 30, 60], atol=1e-4)
