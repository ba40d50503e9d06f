"""Noise models: their moments, and their likelihoods against scipy's densities and finite differences."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxdiff import noise

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "operators" / "dps_64.npz"
MODELS = {
    "gaussian": lambda: noise.gaussian(0.1),
    "poisson": lambda: noise.poisson(0.5),
    "poisson_gaussian": lambda: noise.poisson_gaussian(0.5, 0.03),
    "salt_and_pepper": lambda: noise.salt_and_pepper(0.2, 0.05),
}


def _clean(n=40):
    return jnp.linspace(-0.9, 0.7, n, dtype=jnp.float32)


@pytest.mark.parametrize("name", MODELS)
def test_moments(name):
    model, clean = MODELS[name](), _clean(8)
    draws = jax.vmap(lambda key: model.sample(key, clean))(jax.random.split(jax.random.key(0), 20_000))
    draws, c = np.asarray(draws, np.float64), np.asarray(clean, np.float64)
    mean, variance = {
        "gaussian": (c, 0.01),
        "poisson": (c, (c + 1) * 2 / 127.5),
        "poisson_gaussian": (c, (c + 1) * 2 / 127.5 + 0.03**2),
        "salt_and_pepper": (0.8 * c, 0.8 * (c**2 + 0.05**2) + 0.2 - (0.8 * c) ** 2),
    }[name]
    error = np.sqrt(variance / len(draws)) * np.ones_like(c)
    unclipped = np.abs(draws).max(axis=0) < 1 if name == "poisson" else np.ones_like(c, bool)
    assert unclipped.any()
    assert np.all(np.abs(draws.mean(axis=0) - mean)[unclipped] < 5 * error[unclipped])
    np.testing.assert_allclose(draws.var(axis=0)[unclipped], (variance * np.ones_like(c))[unclipped], rtol=0.06)


def test_likelihoods_equal_scipys():
    clean = _clean()
    c = np.asarray(clean, np.float64)
    y = MODELS["gaussian"]().sample(jax.random.key(1), clean)
    expected = scipy.stats.norm(c, 0.1).logpdf(y).sum()
    np.testing.assert_allclose(MODELS["gaussian"]().log_likelihood(y, clean), expected, rtol=1e-5)

    y = MODELS["poisson"]().sample(jax.random.key(2), clean)
    counts = np.rint((np.asarray(y, np.float64) + 1) * 63.75)
    expected = scipy.stats.poisson((c + 1) * 63.75).logpmf(counts).sum()
    np.testing.assert_allclose(MODELS["poisson"]().log_likelihood(y, clean), expected, rtol=1e-4)

    y = MODELS["salt_and_pepper"]().sample(jax.random.key(3), clean)
    hit = np.abs(np.asarray(y)) == 1
    assert 0 < hit.sum() < hit.size
    expected = np.where(hit, np.log(0.1), np.log(0.8) + scipy.stats.norm(c, 0.05).logpdf(y)).sum()
    np.testing.assert_allclose(MODELS["salt_and_pepper"]().log_likelihood(y, clean), expected, rtol=1e-5)


def test_poisson_gaussian_is_near_the_exact_mixture():
    model = noise.poisson_gaussian(1.0, 0.02)
    clean = jnp.linspace(-0.5, 0.5, 5)
    y = clean + jnp.asarray([0.05, -0.04, 0.0, 0.08, -0.1])
    k = np.arange(400)[None, :]
    c = np.asarray(clean, np.float64)[:, None]
    rates, noise_density = scipy.stats.poisson((c + 1) * 127.5), scipy.stats.norm(2 * k / 255 - 1, 0.02)
    exact = np.log((rates.pmf(k) * noise_density.pdf(np.asarray(y, np.float64)[:, None])).sum(axis=1)).sum()
    np.testing.assert_allclose(model.log_likelihood(y, clean), exact, atol=0.1)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_equals_finite_differences(name):
    with jax.enable_x64(True):
        model = MODELS[name]()
        clean = jnp.linspace(-0.9, 0.7, 11)
        y, step = model.sample(jax.random.key(4), clean), 1e-6
        direction = jnp.cos(jnp.arange(11.0))
        high, low = (model.log_likelihood(y, clean + sign * step * direction) for sign in (1, -1))
        slope = jnp.vdot(jax.grad(model.log_likelihood, argnums=1)(y, clean), direction)
        assert y.dtype == slope.dtype == np.float64
        np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-5)


def test_poisson_equals_the_reference_code():
    with np.load(GOLDEN) as golden:
        x, expected = golden["x"], golden["poisson_rate1_np_seed5"]
    nchw = np.moveaxis(x, -1, 0)[None]
    counts = np.random.RandomState(5).poisson(np.clip((nchw + 1) / 2, 0, None) * 255)
    y = noise.poisson(1.0).from_counts(jnp.asarray(counts, jnp.float32))
    np.testing.assert_allclose(np.moveaxis(y[0], 0, -1), expected, atol=2e-7)


@pytest.mark.slow
def test_leaves_vmap_and_strict_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for make in MODELS.values():
            pair = jax.tree.map(lambda a: jnp.stack([a, a * 0.5]), make())
            value = jax.jit(jax.vmap(lambda m, y: m.log_likelihood(m.sample(jax.random.key(0), y), y), (0, None)))
            assert np.isfinite(value(pair, _clean())).all()


@pytest.mark.slow
def test_no_light_has_a_finite_gradient():
    clean = jnp.asarray([-1.0, -1.2])
    for model in (MODELS["poisson"](), MODELS["poisson_gaussian"]()):
        assert np.isfinite(jax.grad(model.log_likelihood, argnums=1)(jnp.asarray([-0.9, -1.0]), clean)).all()


def test_light_above_white_is_white_as_in_the_reference_code():
    """Chung et al. clip the image before they count photons: what lies above white is not more certain than white."""
    draws = noise.poisson(0.02).sample(jax.random.key(0), jnp.full((4000,), 1.3))
    white = noise.poisson(0.02).sample(jax.random.key(0), jnp.full((4000,), 1.0))
    np.testing.assert_array_equal(draws, white)
    assert np.std(np.asarray(white)) > 0.2


def test_photons_below_black_lead_back():
    """Where light was seen the likelihood rises from below black, evenly; where none was, it does not change there."""
    model, clean = noise.poisson(1.0), jnp.asarray([-1.3, -1.05, -1.0, -0.9])
    gradient = jax.grad(model.log_likelihood, argnums=1)
    seen = np.asarray(gradient(jnp.full(4, 100 / 127.5 - 1), clean))
    np.testing.assert_allclose(seen[:3], 100 * 127.5 / noise.FEWEST, rtol=1e-5)
    np.testing.assert_allclose(seen[3], 100 / 0.1 - 127.5, rtol=1e-4)
    np.testing.assert_array_equal(gradient(jnp.full(4, -1.0), clean)[:3], 0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: noise.gaussian(-0.1),
        lambda: noise.gaussian(float("nan")),
        lambda: noise.poisson(0.0),
        lambda: noise.poisson_gaussian(1.0, -1.0),
        lambda: noise.salt_and_pepper(1.0),
        lambda: noise.salt_and_pepper(-0.1),
        lambda: noise.salt_and_pepper(0.1, 0.0),
    ],
)
def test_bad_levels_are_refused(call):
    with pytest.raises(ValueError, match=r"(must be above 0|must lie in|must be at least 0)"):
        call()


@pytest.mark.parametrize("rate", [1e3, 1e5, 1e7, 1e9])
def test_bright_light_has_the_moments_of_a_poisson_variable(rate):
    clean = jnp.asarray([0.9, 0.0, -0.5])
    draws = jax.vmap(lambda key: noise.poisson(rate).sample(key, clean))(jax.random.split(jax.random.key(0), 4000))
    error = (np.asarray(draws, np.float64) - np.asarray(clean, np.float64)) / np.sqrt(
        2 * (np.asarray(clean, np.float64) + 1) / (255 * rate)
    )
    if rate < 1e6:  # else float32 has no digits left for the noise
        np.testing.assert_allclose(error.mean(0), 0, atol=4 / np.sqrt(4000))
        np.testing.assert_allclose(error.std(0), 1, atol=4 / np.sqrt(8000))
    np.testing.assert_allclose(draws, np.broadcast_to(clean, draws.shape), atol=10 / np.sqrt(255 * rate) + 1e-6)


@pytest.mark.parametrize("rate", [0.1, 1.0, 1e3, 1e5])
def test_the_likelihood_of_poisson_noise_equals_scipys_at_every_rate(rate):
    y = jnp.asarray([0.9, 0.0, -0.5])
    counts = np.round((np.asarray(y, np.float64) + 1) * 255 / 2 * rate)
    expected = scipy.stats.poisson.logpmf(counts, (np.asarray(y, np.float64) + 1) * 255 / 2 * rate)
    np.testing.assert_allclose(noise.poisson(rate).log_density(y, y), expected, atol=2e-2)


def test_gaussian_takes_no_number_by_name():
    with pytest.raises(ValueError, match="give its σ with --noise-std"):
        noise.named("gaussian:1")
