"""Nonlinear operators against their formulas, gradients at the corners, JPEG against Pillow."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from PIL import Image

from jaxdiff import operators as ops


def _image(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_phase_retrieval_is_the_padded_spectrum():
    x = _image((8, 12, 1))
    operator = ops.phase_retrieval(image_shape=x.shape, value_range=(0, 1))
    padded = np.pad((x[..., 0] + 1) / 2, ((2, 2), (3, 3)))
    expected = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(padded), norm="ortho")))
    np.testing.assert_allclose(operator(jnp.asarray(x))[..., 0], expected, atol=1e-5)
    assert ops.phase_retrieval(image_shape=(256, 256, 3)).padding == (64, 64)


def test_magnitudes_have_a_finite_gradient_at_zero():
    zero = jnp.zeros((8, 8, 1))
    for operator in (
        ops.phase_retrieval(image_shape=zero.shape),
        ops.coded_phase_retrieval(jax.random.key(0), image_shape=zero.shape),
    ):
        gradient = jax.jit(jax.grad(lambda x, operator=operator: jnp.sum(operator(x) ** 2)))(zero)
        assert np.isfinite(gradient).all()


def test_coded_phase_retrieval_is_each_coded_spectrum():
    x = _image((6, 8, 1))
    operator = ops.coded_phase_retrieval(jax.random.key(0), image_shape=x.shape, masks=2)
    coded = np.exp(1j * np.asarray(operator.phases)) * x[None, ..., 0]
    expected = np.abs(np.fft.fftshift(np.fft.fft2(coded, norm="ortho"), axes=(1, 2)))
    np.testing.assert_allclose(operator(jnp.asarray(x))[..., 0], expected, atol=1e-5)


def test_hdr_saturates():
    y = ops.high_dynamic_range(image_shape=(1, 4, 1))(jnp.asarray([-0.9, -0.2, 0.4, 0.6])[None, :, None])
    np.testing.assert_allclose(y[0, :, 0], [-1, -0.4, 0.8, 1], atol=1e-6)


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_quantisation_rounds_and_passes_the_gradient(levels):
    x = jnp.asarray(_image((6, 8, 3)) * 1.2)
    operator = ops.quantize(image_shape=x.shape, levels=levels)
    grid = np.linspace(-1, 1, levels)
    expected = grid[np.abs(np.clip(x, -1, 1)[..., None] - grid).argmin(axis=-1)]
    np.testing.assert_allclose(operator(x), expected, atol=1e-6)
    slope = jax.grad(lambda x: operator(x).sum())(x)
    np.testing.assert_array_equal(slope, (np.abs(x) < 1).astype(np.float32))


def test_curves():
    x = jnp.asarray(_image((6, 8, 3)))
    gamma = ops.gamma_curve(image_shape=x.shape, gamma=2.2)
    np.testing.assert_allclose(gamma(x), 2 * ((np.asarray(x) + 1) / 2) ** 2.2 - 1, atol=1e-6)
    np.testing.assert_allclose(gamma.initial(gamma(0.9 * x)), 0.9 * x, atol=1e-3)
    knots = [-1, -0.6, 0.3, 1]
    tone = ops.tone_curve(image_shape=x.shape, values=knots)
    np.testing.assert_allclose(tone(x), np.interp(x, np.linspace(-1, 1, 4), knots), atol=1e-6)
    assert np.isfinite(
        jax.grad(lambda x: ops.gamma_curve(image_shape=(1, 1, 1), gamma=0.4)(x).sum())(-jnp.ones((1, 1, 1)))
    )


def test_camera_blur_is_a_blur_of_light():
    x = _image((12, 10, 3))
    kernel = ops.gaussian_kernel(5, 1.0)
    operator = ops.camera_blur(image_shape=x.shape, kernel=kernel, gamma=2.0, exposure=1.5)
    light = ops.blur(image_shape=x.shape, kernel=kernel)(jnp.asarray(1.5 * ((x + 1) / 2) ** 2))
    np.testing.assert_allclose(operator(jnp.asarray(x)), 2 * np.sqrt(np.clip(light, 0, 1)) - 1, atol=2e-2)
    assert (np.asarray(operator(jnp.ones(x.shape))) == 1).all()


def _pillow(levels, quality, subsampling):
    file = io.BytesIO()
    picture = Image.fromarray(levels if levels.shape[-1] == 3 else levels[..., 0])
    picture.save(file, "JPEG", quality=quality, subsampling={"4:2:0": 2, "4:4:4": 0}[subsampling])
    return np.asarray(Image.open(file)).reshape(levels.shape).astype(np.float64)


@pytest.mark.parametrize(
    ("channels", "subsampling", "size"),
    [(3, "4:2:0", (96, 96)), (3, "4:4:4", (96, 96)), (1, "4:2:0", (90, 83)), (3, "4:2:0", (90, 83))],
)
def test_jpeg_equals_pillow_within_half_a_level(channels, subsampling, size):
    levels = skimage.data.astronaut()[40 : 40 + size[0], 170 : 170 + size[1], :channels]
    x = jnp.asarray(levels / 127.5 - 1, jnp.float32)
    code = jax.jit(lambda operator, x: operator(x))
    for quality in (5, 30, 50, 75, 95):
        operator = ops.jpeg(image_shape=x.shape, quality=quality, subsampling=subsampling)
        found = (np.asarray(code(operator, x), np.float64) + 1) * 127.5
        expected = _pillow(levels, quality, subsampling)
        assert np.abs(found - expected).mean() < 0.5
        assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected - 127.5)
        assert np.abs(found - levels).mean() > 2 * np.abs(found - expected).mean()  # compression itself does much more


@pytest.mark.slow
def test_jpeg_gradients():
    x = jnp.asarray(_image((16, 16, 3)) * 0.5)
    operator = ops.jpeg(image_shape=x.shape, quality=60)
    back = jax.jit(lambda x, u: jax.vjp(operator, x)[1](u)[0])(x, x)
    # With every rounding passed through, and nothing clipped, coding is linear, and identity but for the colour's.
    grey = jnp.broadcast_to(x[..., :1], x.shape)
    assert abs(float(jnp.vdot(back, grey) / jnp.vdot(x, grey)) - 1) < 0.1
    slope = jax.jit(jax.grad(lambda o: jnp.mean((o(x) - x) ** 2)))(operator).quality
    assert np.isfinite(slope)


def test_magnitudes_are_no_first_guess_of_the_image():
    for padding in (0, 1):
        operator = ops.phase_retrieval(image_shape=(8, 8, 1), padding=padding)
        assert not operator.initial(operator(jnp.ones((8, 8, 1)))).any()
