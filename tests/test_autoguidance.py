"""Autoguidance against its equation, on priors whose denoisers are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import denoisers, schedules
from tests.support.networks import tiny_denoiser

SHAPE = (3, 3, 1)
X = jax.random.normal(jax.random.key(0), SHAPE)


def gaussian(variance, schedule):
    return denoisers.gaussian_prior(jnp.zeros(SHAPE), variance * jnp.eye(9), schedule)


def shrunk(x, sigma, variance):
    """E[x₀ | x₀ + σ z = x] under N(0, v)."""
    return x * variance / (variance + sigma**2)


@pytest.mark.parametrize(
    "weak_schedule",
    [
        schedules.linear(100),
        pytest.param(schedules.karras(40, sigma_min=0.002, sigma_max=80.0), marks=pytest.mark.slow),
    ],
)
def test_it_goes_on_from_the_weak_prior_at_the_same_noise_level(weak_schedule):
    strong = gaussian(0.5, schedules.linear(100))
    guided = denoisers.autoguided(strong, gaussian(2.0, weak_schedule), weight=1.5)
    for t in (20, 60):
        level = strong.schedule.at(t)
        x = X / level.signal
        expected = shrunk(x, level.sigma, 0.5) + 1.5 * (shrunk(x, level.sigma, 0.5) - shrunk(x, level.sigma, 2.0))
        found = guided(X, jnp.asarray(t))
        np.testing.assert_allclose(found.x0, expected, rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(level.signal * found.x0 + level.noise * found.eps, X, rtol=1e-3, atol=1e-5)


def test_outside_the_range_and_without_weight_it_is_the_prior():
    strong, weak = gaussian(0.5, schedules.linear(100)), gaussian(2.0, schedules.linear(100))
    sigma = float(strong.schedule.at(50).sigma)
    for options in ({"weight": 0.0}, {"sigma_range": (0.0, 0.9 * sigma)}, {"sigma_range": (1.1 * sigma, 100.0)}):
        found = denoisers.autoguided(strong, weak, **options)(X, jnp.asarray(50))
        np.testing.assert_array_equal(found.x0, strong(X, jnp.asarray(50)).x0)
    inside = denoisers.autoguided(strong, weak, sigma_range=(0.9 * sigma, 1.1 * sigma))(X, jnp.asarray(50))
    assert float(jnp.abs(inside.x0 - strong(X, jnp.asarray(50)).x0).min()) > 0


def test_estimates_are_clipped_after_the_guidance_and_only_there():
    strong = tiny_denoiser((8, 8, 3))
    weak = strong.replace(params=jax.tree.map(lambda p: 0.5 * p, strong.params))
    x = 3 * jax.random.normal(jax.random.key(1), strong.image_shape)
    t = jnp.asarray(30)
    a, b = strong.replace(clip=False)(x, t).x0, weak.replace(clip=False)(x, t).x0
    guided = denoisers.autoguided(strong, weak, weight=2.0)
    np.testing.assert_allclose(guided(x, t).x0, jnp.clip(a + 2 * (a - b), -1, 1), atol=1e-4)
    assert float(jnp.abs(a).max()) > 1


@pytest.mark.slow
def test_methods_restore_with_it_and_weights_are_batched():
    strong, weak = gaussian(0.5, schedules.linear(100)), gaussian(2.0, schedules.linear(100))
    operator = jd.operators.inpaint_box(image_shape=SHAPE, size=1)
    problem = jd.observe(jax.random.key(2), operator, jnp.zeros(SHAPE), 0.1)

    def restored(weight):
        prior = denoisers.autoguided(strong, weak, weight=weight)
        return jd.sample(jax.random.key(3), prior, problem, jd.samplers.mmps(), steps=4)[0]

    both = jax.vmap(restored)(jnp.asarray([0.0, 1.0]))
    alone = jd.sample(jax.random.key(3), strong, problem, jd.samplers.mmps(), steps=4)[0]
    np.testing.assert_allclose(both[0], alone, atol=1e-4)
    assert float(jnp.abs(both[1] - alone).max()) > 1e-3
    draws = jd.restore(
        jax.random.key(0), denoisers.autoguided(strong, weak), None, jd.samplers.ddim(), count=2, steps=3
    )
    assert np.isfinite(draws.x).all()


def test_what_cannot_be():
    strong = gaussian(0.5, schedules.linear(100))
    with pytest.raises(ValueError, match="take two of the same size"):
        denoisers.autoguided(strong, tiny_denoiser((8, 8, 3)))
    with pytest.raises(ValueError, match="at least 0, got -1"):
        denoisers.autoguided(strong, strong, weight=-1)
    with pytest.raises(ValueError, match="the smaller first"):
        denoisers.autoguided(strong, strong, sigma_range=(2.0, 1.0))


def test_above_the_noise_levels_of_the_weak_prior_it_is_the_prior():
    mean, covariance = jnp.zeros((2, 2, 1)), jnp.eye(4) / 4
    strong = jd.denoisers.gaussian_prior(mean, covariance, jd.schedules.linear(1000))
    weak = jd.denoisers.gaussian_prior(mean, covariance, jd.schedules.karras(sigma_max=20))
    x = jax.random.normal(jax.random.key(0), (2, 2, 1))
    guided = jd.denoisers.autoguided(strong, weak, weight=1.0)
    np.testing.assert_array_equal(guided(x, jnp.int32(999)).x0, strong(x, jnp.int32(999)).x0)
    np.testing.assert_allclose(guided(x, jnp.int32(300)).x0, strong(x, jnp.int32(300)).x0, atol=1e-5)
