"""Blurs against scipy, their kernels, and what reflection allows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdiff import operators as ops
from jaxdiff.operators.kernels import crop_border, gaussian_taps

SCIPY_MODE = {"reflect": "mirror", "circular": "wrap", "zero": "constant"}


def _image(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("padding", SCIPY_MODE)
@pytest.mark.parametrize("size", [(3, 7), (9, 9)])
def test_blur_is_scipys_correlation(padding, size):
    x, kernel = _image((17, 12, 2)), np.random.default_rng(1).uniform(size=size)
    y = ops.blur(image_shape=x.shape, kernel=kernel, padding=padding)(jnp.asarray(x))
    for channel in range(2):
        plane = x[..., channel].astype(np.float64)
        expected = scipy.ndimage.correlate(plane, kernel, mode=SCIPY_MODE[padding])
        np.testing.assert_allclose(y[..., channel], expected, atol=2e-5)


@pytest.mark.parametrize("padding", SCIPY_MODE)
def test_gaussian_blur_is_scipys_filter(padding):
    x = _image((24, 20, 1))
    y = ops.gaussian_blur(image_shape=x.shape, std=(1.5, 0.8), padding=padding)(jnp.asarray(x))
    expected = scipy.ndimage.gaussian_filter(x[..., 0].astype(np.float64), (1.5, 0.8), mode=SCIPY_MODE[padding])
    np.testing.assert_allclose(y[..., 0], expected, atol=1e-5)


def test_gaussian_is_separable_or_diagonal():
    assert isinstance(ops.gaussian_blur(image_shape=(32, 32, 3)), ops.Separable)
    assert isinstance(ops.gaussian_blur(image_shape=(32, 32, 3), padding="circular"), ops.CircularBlur)
    assert isinstance(ops.gaussian_blur(image_shape=(32, 32, 3), std=(1, 3), size=15, angle=20), ops.Blur)


@pytest.mark.parametrize(("size", "std"), [(61, 3.0), (5, 10.0), (9, 3.0), (1, 0.4)])
def test_taps_are_what_scipy_makes_of_a_delta(size, std):
    delta = np.zeros(size)
    delta[size // 2] = 1
    np.testing.assert_allclose(gaussian_taps(size, std), scipy.ndimage.gaussian_filter1d(delta, std), atol=1e-15)


def test_tilted_gaussian_has_its_moments():
    kernel = ops.gaussian_kernel(41, (2.0, 4.0), angle=30)
    row, column = np.mgrid[:41, :41] - 20
    angle = np.deg2rad(30)
    along = np.cos(angle) * row + np.sin(angle) * column
    across = np.cos(angle) * column - np.sin(angle) * row
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * along**2).sum() == pytest.approx(4, rel=1e-3)
    assert (kernel * across**2).sum() == pytest.approx(16, rel=1e-3)


def test_disc_covers_its_area():
    kernel = ops.disc_kernel(13, 5.0)
    assert kernel.sum() == pytest.approx(1)
    assert kernel.max() == pytest.approx(1 / (np.pi * 25), rel=0.01)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-15)
    np.testing.assert_array_equal(ops.disc_kernel(3, 0.01), np.pad([[1.0]], 1))


def test_motion_kernels_are_centred_unit_traces():
    keys = jax.random.split(jax.random.key(0), 64)
    kernels = np.asarray(jax.jit(jax.vmap(lambda k: ops.motion_kernel(k, size=31)))(keys), np.float64)
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, atol=1e-5)
    assert kernels.min() >= 0
    grid = np.arange(31) - 15
    for mean in ((kernels.sum(axis=2) * grid).sum(axis=1), (kernels.sum(axis=1) * grid).sum(axis=1)):
        np.testing.assert_allclose(mean, 0, atol=1e-4)
    assert len({kernel.tobytes() for kernel in kernels}) == 64


def test_motion_of_no_intensity_is_a_straight_line():
    kernel = np.asarray(ops.motion_kernel(jax.random.key(3), size=41, intensity=0.0), np.float64)
    row, column = np.mgrid[:41, :41] - 20
    moments = [[(kernel * a * b).sum() for b in (row, column)] for a in (row, column)]
    thin, long = np.linalg.eigvalsh(moments)
    assert thin < 0.3
    assert long > 10


def test_zero_border_may_reach_past_the_image():
    kernel = np.zeros((61, 61))
    kernel[29:32, 29:32] = 1 / 9
    x = jnp.asarray(_image((8, 9, 1)))
    small = ops.blur(image_shape=(8, 9, 1), kernel=kernel[29:32, 29:32])
    np.testing.assert_allclose(ops.blur(image_shape=(8, 9, 1), kernel=kernel)(x), small(x), atol=1e-6)
    assert crop_border(np.pad([[1.0, 2.0, 0.0]], ((1, 1), (2, 2)))).shape == (1, 3)


@pytest.mark.parametrize("padding", ["circular", "zero"])
def test_kernels_larger_than_the_image(padding):
    x, kernel = _image((7, 6, 1)), np.random.default_rng(1).uniform(size=(19, 23))
    y = ops.blur(image_shape=x.shape, kernel=kernel, padding=padding)(jnp.asarray(x))
    expected = scipy.ndimage.correlate(x[..., 0].astype(np.float64), kernel, mode=SCIPY_MODE[padding])
    if padding == "circular":  # scipy wraps once only
        expected = np.zeros((7, 6))
        for i, j in np.ndindex(*kernel.shape):
            expected += kernel[i, j] * np.roll(x[..., 0], (9 - i, 11 - j), (0, 1))
    np.testing.assert_allclose(y[..., 0], expected, atol=1e-4)


def test_inverse_undoes_an_invertible_circular_blur():
    kernel = np.array([[0.0, 0.1, 0], [0.2, 0.5, 0.05], [0, 0.1, 0.05]])
    operator = ops.blur(image_shape=(16, 18, 3), kernel=kernel, padding="circular")
    x = jnp.asarray(_image((16, 18, 3)))
    np.testing.assert_allclose(operator.pinv(operator(x)), x, atol=1e-5)


def test_gradient_with_respect_to_the_kernel():
    x, target = jnp.asarray(_image((8, 8, 1))), jnp.asarray(_image((8, 8, 1), 1))

    @jax.jit
    def loss(operator):
        return jnp.sum((operator(x) - target) ** 2)

    with jax.enable_x64(True):
        kernel = np.random.default_rng(2).uniform(size=(3, 3))
        x, target = x.astype(np.float64), target.astype(np.float64)
        for padding in ("reflect", "circular"):
            operator = ops.blur(image_shape=(8, 8, 1), kernel=kernel, padding=padding)
            operator = operator.replace(kernel=jnp.asarray(kernel))
            gradient = jax.grad(loss)(operator).kernel
            step = np.zeros((3, 3))
            step[0, 2] = 1e-5
            high, low = (loss(operator.replace(kernel=jnp.asarray(kernel + sign * step))) for sign in (1, -1))
            np.testing.assert_allclose(gradient[0, 2], (high - low) / 2e-5, rtol=1e-6)


@pytest.mark.slow
def test_varying_blur_with_one_kernel_is_a_blur():
    kernel = np.random.default_rng(3).uniform(size=(5, 3))
    x = jnp.asarray(_image((9, 11, 3)))
    for padding in SCIPY_MODE:
        plain = ops.blur(image_shape=x.shape, kernel=kernel, padding=padding)
        weights = np.stack([np.full((9, 11), 0.3), np.full((9, 11), 0.7)])
        varying = ops.varying_blur(image_shape=x.shape, kernels=[kernel, kernel], weights=weights, padding=padding)
        np.testing.assert_allclose(varying(x), plain(x), atol=1e-5)


@pytest.mark.slow
def test_varying_blur_is_each_kernel_on_its_part():
    kernels = np.random.default_rng(4).uniform(size=(2, 3, 3))
    weights = np.zeros((2, 8, 10))
    weights[0, :, :5], weights[1, :, 5:] = 1, 1
    x = _image((8, 10, 1))
    y = ops.varying_blur(image_shape=x.shape, kernels=kernels, weights=weights, padding="zero")(jnp.asarray(x))
    expected = sum(
        scipy.ndimage.correlate(w * x[..., 0].astype(np.float64), k, mode="constant")
        for k, w in zip(kernels, weights, strict=True)
    )
    np.testing.assert_allclose(y[..., 0], expected, atol=1e-5)
    np.testing.assert_allclose(ops.blend_weights((7, 9), (2, 3)).sum(axis=0), 1, atol=1e-6)


def test_a_motion_of_one_pixel_is_none():
    np.testing.assert_allclose(ops.motion_kernel(jax.random.key(0), size=1), [[1.0]])
