"""Colour operators against what they say."""

import jax.numpy as jnp
import numpy as np

from jaxdiff import operators as ops


def _image(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_grayscale():
    x = _image((4, 5, 3))
    mean = ops.grayscale(image_shape=x.shape)(jnp.asarray(x))
    np.testing.assert_allclose(mean[..., 0], x.mean(axis=-1), atol=1e-6)
    luma = ops.grayscale(image_shape=x.shape, weights="luma")(jnp.asarray(x))
    np.testing.assert_allclose(luma[..., 0], x @ np.array([0.299, 0.587, 0.114]), atol=1e-6)
    grey = ops.grayscale(image_shape=x.shape)
    np.testing.assert_allclose(grey.pinv(mean), np.repeat(mean, 3, axis=-1), atol=1e-6)


def test_color_matrix():
    x, matrix = _image((4, 5, 3)), np.random.default_rng(1).standard_normal((2, 3))
    y = ops.color_matrix(image_shape=x.shape, matrix=matrix)(jnp.asarray(x))
    np.testing.assert_allclose(y, x @ matrix.T, atol=1e-6)


def test_bayer_mosaic_takes_the_right_channels():
    x = _image((5, 6, 3))
    for pattern in ("rggb", "bggr", "grbg", "gbrg"):
        y = np.asarray(ops.bayer_mosaic(image_shape=x.shape, pattern=pattern)(jnp.asarray(x)))
        for i, letter in enumerate(pattern):
            expected = x[i // 2 :: 2, i % 2 :: 2, "rgb".index(letter)]
            np.testing.assert_array_equal(y[i // 2 :: 2, i % 2 :: 2, 0], expected)


def test_mosaic_is_shown_in_its_colours():
    operator = ops.bayer_mosaic(image_shape=(4, 4, 3))
    picture = np.asarray(operator.view(operator(jnp.ones((4, 4, 3)))))
    np.testing.assert_array_equal(picture[0, 0], [1, -1, -1])
    np.testing.assert_array_equal(picture[0, 1], [-1, 1, -1])
