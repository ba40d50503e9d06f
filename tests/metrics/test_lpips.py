"""LPIPS against the original package's numbers, an independent numpy version, and finite differences."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import assets, metrics
from jaxdiff.metrics.lpips import TRUNKS, _features
from tests.support.networks import random_lpips
from tests.support.tiers import fast_only

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "lpips" / "synth64.npz"
PAIRS = ("noise0.1", "blur2", "different")
HAS_VGG = (assets.cache_dir() / "lpips_vgg.safetensors").exists()
NETS = ["alex", pytest.param("vgg", marks=pytest.mark.skipif(not HAS_VGG, reason="vgg weights not made"))]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as data:
        return {k: data[k][0].transpose(1, 2, 0) if data[k].ndim == 4 else data[k] for k in data}


def _numpy_layers(params, net, a, b):
    """LPIPS once more in float64 numpy, by explicit windows."""

    def windows(h, size, stride):
        return np.lib.stride_tricks.sliding_window_view(h, (size, size), (0, 1))[::stride, ::stride]

    def features(image):
        h = (image.astype(np.float64) - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        taps = []
        for i, conv in enumerate(TRUNKS[net]):
            if conv.pool:
                h = windows(h, conv.pool, 2).max((-1, -2))
            h = np.pad(h, [(conv.padding,) * 2] * 2 + [(0, 0)])
            h = np.einsum(
                "hwcij,ijco->hwo", windows(h, conv.size, conv.stride), params[f"conv{i}/kernel"], optimize=True
            )
            h = np.maximum(h + params[f"conv{i}/bias"], 0)
            if conv.tap:
                taps.append(h / (np.sqrt((h**2).sum(-1, keepdims=True)) + 1e-10))
        return taps

    pairs = zip(features(a), features(b), strict=True)
    return [((f - g) ** 2 * params[f"linear{k}"]).sum(-1).mean() for k, (f, g) in enumerate(pairs)]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("pair", PAIRS)
def test_equal_to_the_lpips_package(golden, net, pair):
    a, b = golden[f"{pair}/a"], golden[f"{pair}/b"]
    np.testing.assert_allclose(metrics.lpips(a, b, net), golden[f"{pair}/{net}"][0], rtol=1e-5)
    np.testing.assert_allclose(metrics.lpips_layers(a, b, net), golden[f"{pair}/{net}_layers"], rtol=1e-5)


@pytest.mark.parametrize("net", NETS)
def test_gradient_equal_to_the_lpips_package(golden, net):
    reference, params = golden["different/b"], metrics.lpips_params(net)
    gradient = jax.jit(jax.grad(lambda x, p: metrics.lpips(x, reference, net, p)))(golden["different/a"], params)
    expected = golden[f"different/{net}_grad_a"]
    assert np.linalg.norm(gradient - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "shape"), fast_only([("alex", (47, 40, 3))], [("alex", (47, 40, 3)), ("vgg", (16, 21, 3))])
)
def test_equal_to_explicit_windows(net, shape):
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-1, 1, (2, *shape)).astype(np.float32)
    params = random_lpips(net)
    np.testing.assert_allclose(metrics.lpips_layers(a, b, net, params), _numpy_layers(params, net, a, b), rtol=1e-4)


@pytest.mark.slow
def test_gradient_by_finite_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        params = {k: jnp.asarray(v, jnp.float64) for k, v in random_lpips("alex").items()}
        a, b, direction = (jnp.asarray(v) for v in rng.uniform(-0.9, 0.9, (3, 31, 31, 3)))
        distance = jax.jit(lambda x: metrics.lpips(x, b, "alex", params))
        slope = jnp.vdot(jax.jit(jax.grad(distance))(a), direction)
        h = 1e-6
        ahead, behind = (distance(a + s * direction) for s in (h, -h))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-4)


def test_identical_images():
    image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (40, 40, 3)), jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(metrics.lpips))(image, image)
    assert value < 1e-10
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 1e-6


@pytest.mark.slow
def test_gradient_where_every_feature_is_off():
    params = random_lpips("alex") | {"conv4/bias": np.full(256, -1e6, np.float32)}
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 31, 31, 3)).astype(np.float32)
    assert (_features(params, "alex", jnp.asarray(a))[-1] == 0).all()
    assert np.isfinite(jax.jit(jax.grad(lambda x: metrics.lpips(x, b, "alex", params)))(a)).all()


@pytest.mark.slow
def test_grey_images_are_repeated_and_clip_is_asked_for():
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 40, 40, 1)).astype(np.float32)
    np.testing.assert_allclose(metrics.lpips(a, b), metrics.lpips(a.repeat(3, -1), b.repeat(3, -1)), rtol=1e-6)
    np.testing.assert_allclose(metrics.lpips(2 * a, b, clip=True), metrics.lpips(np.clip(2 * a, -1, 1), b), rtol=1e-6)
    edge = np.sign(a)
    gradient = jax.jit(jax.grad(lambda x: metrics.lpips(x, b, clip=True)))(edge)
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(metrics.lpips))(edge, b), rtol=1e-5, atol=1e-7)


def test_distances_of_embeddings(golden):
    a, b = golden["blur2/a"], golden["blur2/b"]
    first, second = (jax.jit(metrics.lpips_embedding)(image) for image in (a, b))
    assert first.shape == (31872,)
    np.testing.assert_allclose(np.sum(np.square(first - second)), golden["blur2/alex"][0], rtol=1e-5)


def test_new_weights_cost_no_new_trace():
    traces = []

    @jax.jit
    def distance(x, reference, params):
        traces.append(1)
        return metrics.lpips(x, reference, "alex", params)

    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 31, 31, 3)).astype(np.float32)
    values = [distance(a, b, params) for params in (metrics.lpips_params(), random_lpips("alex"))]
    assert len(traces) == 1
    assert values[0] != values[1]


def test_refusals(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="31x31"):
        metrics.lpips(jnp.zeros((30, 64, 3)), jnp.zeros((30, 64, 3)))
    with pytest.raises(ValueError, match="3 channels"):
        metrics.lpips(jnp.zeros((32, 32, 4)), jnp.zeros((32, 32, 4)))
    with pytest.raises(ValueError, match="'alex', 'vgg'"):
        metrics.lpips(jnp.zeros((32, 32, 3)), jnp.zeros((32, 32, 3)), net="squeeze")
    with pytest.raises(ValueError, match="jaxdiff convert lpips --net vgg"):
        metrics.lpips(jnp.zeros((32, 32, 3)), jnp.zeros((32, 32, 3)), net="vgg")
    with pytest.raises(ValueError, match="not the weights of LPIPS alex"):
        metrics.lpips(jnp.zeros((32, 32, 3)), jnp.zeros((32, 32, 3)), params=random_lpips("vgg"))
