"""Resizing against Pillow and scikit-image; closed forms of the reductions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage.measure import block_reduce

from jaxdiff import operators as ops
from jaxdiff.operators.resampling import resize_matrix

PILLOW = {"bicubic": 3, "bilinear": 2, "lanczos3": 1, "box": 4}


def _image(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("method", PILLOW)
@pytest.mark.parametrize("size", [(8, 9), (12, 36), (48, 54)])
def test_resize_equals_pillow_away_from_the_edge(method, size):
    x = _image((24, 36, 1))
    expected = Image.fromarray(x[..., 0], mode="F").resize(size[::-1], PILLOW[method])
    y = ops.resize(image_shape=x.shape, size=size, method=method)(jnp.asarray(x))[..., 0]
    margin = 3 * max(1, size[0] // 24)  # Pillow cuts the kernel at the edge, the resizer of DPS mirrors the image
    inner = np.s_[margin:-margin, margin:-margin] if method != "box" else np.s_[:, :]
    if method == "box" and size[0] > 24:
        pytest.skip("half-pixel ties of the box go either way")
    np.testing.assert_allclose(y[inner], np.asarray(expected)[inner], atol=1e-6)


def test_block_average_is_the_block_mean():
    x = _image((8, 12, 3))
    y = ops.block_average(image_shape=x.shape, factor=4)(jnp.asarray(x))
    np.testing.assert_allclose(y, block_reduce(x, (4, 4, 1), np.mean), atol=1e-6)


def test_nearest_keeps_a_lattice():
    x = _image((6, 9, 2))
    operator = ops.nearest_downsample(image_shape=x.shape, factor=3, offset=1)
    np.testing.assert_array_equal(operator(jnp.asarray(x)), x[1::3, 1::3])
    np.testing.assert_array_equal(operator.initial(operator(jnp.asarray(x)))[1::3, 1::3], x[1::3, 1::3])


@pytest.mark.slow
def test_blur_downsample_composes():
    kernel = ops.gaussian_kernel(5, 1.0)
    x = jnp.asarray(_image((12, 8, 3)))
    for padding in ("circular", "reflect"):
        operator = ops.blur_downsample(image_shape=x.shape, kernel=kernel, factor=4, offset=2, padding=padding)
        blurred = ops.blur(image_shape=x.shape, kernel=kernel, padding=padding)(x)
        np.testing.assert_allclose(operator(x), blurred[2::4, 2::4], atol=1e-6)
        assert operator.closed_solve == operator.closed_pinv == (padding == "circular")


def _imresize_weights(n, factor):
    """One dimension of MATLAB's imresize, bicubic and antialiased, counted from 1 as there, about the middle of the signal."""
    scale, count = 1 / factor, -(-n // factor)
    mirror = np.concatenate([np.arange(n), np.arange(n)[::-1]])
    weights = np.zeros((count, n))
    for i in range(count):
        u = (i + 1 - (count - n * scale) / 2) / scale + 0.5 * (1 - 1 / scale)
        left = int(np.floor(u - 2 * factor))
        taps = np.arange(left, left + 4 * factor + 2)
        d = np.abs(u - taps) * scale
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        w = np.where(d <= 1, near, np.where(d <= 2, far, 0))
        np.add.at(weights[i], mirror[(taps - 1) % (2 * n)], w / w.sum())
    return weights


@pytest.mark.parametrize(("shape", "factor"), [((50, 66, 1), 4), ((63, 64, 2), 2), ((17, 12, 3), 5), ((9, 9, 1), 1)])
def test_super_resolution_of_any_side_is_imresize(shape, factor):
    x = _image(shape)
    rows, columns = (_imresize_weights(side, factor) for side in shape[:2])
    found = ops.super_resolution(image_shape=shape, factor=factor)
    assert found.measurement_shape == (-(-shape[0] // factor), -(-shape[1] // factor), shape[2])
    np.testing.assert_allclose(found(jnp.asarray(x)), np.einsum("ih,jw,hwc->ijc", rows, columns, x), atol=2e-6)


def test_super_resolution_pinv_solves_exactly():
    operator = ops.super_resolution(image_shape=(64, 48, 3), factor=4)
    y = jnp.asarray(_image((16, 12, 3)))
    np.testing.assert_allclose(jax.jit(lambda y: operator(operator.pinv(y)))(y), y, atol=2e-5)


def test_boxes_hold_each_sample_once():
    for n in range(2, 70):
        for m in range(1, n):
            rows = resize_matrix(n, m, method="box") > 0
            # Box i holds the samples whose centre 2j + 1, in halves of n/m, lies in ]2 i n/m, 2 (i+1) n/m].
            exact = [[2 * i * n < (2 * j + 1) * m <= 2 * (i + 1) * n for j in range(n)] for i in range(m)]
            np.testing.assert_array_equal(rows, exact, err_msg=f"{n} to {m}")
