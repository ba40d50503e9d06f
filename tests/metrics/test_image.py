"""PSNR and SSIM against scikit-image, their range, and how they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from jaxdiff import metrics
from tests.support.tiers import fast_only


def _pair(shape=(24, 20, 3), noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    reference = rng.uniform(-1, 1, shape).astype(np.float32)
    return (reference + noise * rng.standard_normal(shape)).astype(np.float32), reference


def _unit(image):
    return (np.clip(image, -1, 1).astype(np.float64) + 1) / 2


@pytest.mark.parametrize("shape", [(24, 20, 3), (11, 16, 1)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_equal_to_scikit_image(shape, noise):
    x, reference = _pair(shape, noise)
    u, v = _unit(x), _unit(reference)
    np.testing.assert_allclose(
        metrics.psnr(x, reference), skimage.metrics.peak_signal_noise_ratio(v, u, data_range=1.0), rtol=1e-5
    )
    expected = skimage.metrics.structural_similarity(
        u, v, data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    np.testing.assert_allclose(metrics.ssim(x, reference), expected, atol=2e-5)


def test_range_is_fixed():
    flat = jnp.full((16, 16, 3), 0.5)
    np.testing.assert_allclose(metrics.psnr(flat, flat - 0.02), 40.0, atol=1e-3)
    assert metrics.psnr(flat, flat) == jnp.inf
    np.testing.assert_allclose(metrics.ssim(flat, flat), 1.0, atol=1e-6)
    np.testing.assert_allclose(metrics.psnr(flat + 9.0, flat), metrics.psnr(jnp.ones_like(flat), flat))


@pytest.mark.parametrize("metric", fast_only([metrics.ssim], [metrics.psnr, metrics.ssim, metrics.lpips]))
def test_batch_equals_single_and_jit_equals_eager(metric):
    pairs = [_pair((32, 33, 3), seed=i) for i in range(2)]
    x, reference = (np.stack(images) for images in zip(*pairs, strict=True))
    batched = jax.jit(jax.vmap(metric))(x, reference)
    assert batched.shape == (2,)
    assert batched.dtype == jnp.float32
    np.testing.assert_allclose(batched, [metric(*pair) for pair in pairs], rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("metric", fast_only([metrics.psnr, metrics.ssim], [metrics.psnr, metrics.ssim, metrics.lpips]))
def test_types(metric):
    x, reference = _pair((32, 32, 3))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        single = metric(jnp.asarray(x), jnp.asarray(reference))
        assert metric(x.astype(np.float16), reference).dtype == jnp.float32
        with jax.enable_x64(True):
            double = metric(jnp.asarray(x, jnp.float64), jnp.asarray(reference, jnp.float64))
            assert metric(jnp.asarray(x), jnp.asarray(reference)).dtype == jnp.float32
    assert single.dtype == jnp.float32
    assert double.dtype == jnp.float64
    np.testing.assert_allclose(single, double, rtol=1e-5)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.lpips])
@pytest.mark.parametrize(
    ("x", "reference", "sentence"),
    [
        (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8), "divide by 127.5"),
        (np.zeros((2, 32, 32, 3), np.float32), np.zeros((2, 32, 32, 3), np.float32), "jax.vmap"),
        (np.zeros((32, 32, 3), np.float32), np.zeros((32, 32, 1), np.float32), "one shape"),
    ],
)
def test_refusals(metric, x, reference, sentence):
    with pytest.raises(ValueError, match=sentence):
        metric(x, reference)


def test_too_small_for_the_window():
    with pytest.raises(ValueError, match="at least 11x11"):
        metrics.ssim(jnp.zeros((10, 32, 3)), jnp.zeros((10, 32, 3)))
