"""Noise models in problems: what methods make of a likelihood that is not Gaussian, and who refuses it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import noise, operators
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.noise import NoiseModel
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers import METHODS
from jaxdiff.samplers.arguments import FOLLOWERS, check_run
from jaxdiff.samplers.base import State
from jaxdiff.samplers.likelihood import log_likelihood, squared_misfit, towards_data
from jaxdiff.samplers.step import Step
from tests.samplers.conftest import SCHEDULE, SHAPE, make_operator, make_prior
from tests.support.tiers import fast_only

MODELS = {
    "poisson": lambda: noise.poisson(0.2),
    "poisson_gaussian": lambda: noise.poisson_gaussian(0.2, 0.05),
    "salt_and_pepper": lambda: noise.salt_and_pepper(0.2, 0.05),
}


def _problem(model, kind="mask", seed=0):
    image = jax.random.uniform(jax.random.key(seed), SHAPE, minval=-0.8, maxval=0.8)
    return jd.observe(jax.random.key(seed + 1), make_operator(kind), image, model)


@pytest.mark.parametrize("extra", fast_only([0.05], [0.0, 0.05]))
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_likelihoods_equal_finite_differences(name, extra):
    with jax.enable_x64(True):
        op = operators.separable(image_shape=SHAPE, rows=np.eye(4) * 0.9 + 0.02, columns=np.eye(4))
        image = jnp.asarray(np.random.default_rng(0).uniform(-0.7, 0.7, SHAPE))
        problem = jd.observe(jax.random.key(1), op, image, MODELS[name]())
        x = jnp.asarray(np.random.default_rng(1).uniform(-0.7, 0.7, SHAPE))
        direction, step = jnp.cos(jnp.arange(16.0)).reshape(SHAPE), 1e-6
        value = jax.jit(log_likelihood)
        high, low = (value(problem, x + sign * step * direction, extra) for sign in (1, -1))
        slope = (high - low) / (2 * step)
        assert x.dtype == slope.dtype == np.float64
        along = jnp.vdot(jax.jit(jax.grad(log_likelihood, argnums=1))(problem, x, extra), direction)
        np.testing.assert_allclose(along, slope, rtol=1e-6)
        scale = problem.noise_variance() + extra
        np.testing.assert_allclose(
            jnp.vdot(jax.jit(towards_data)(problem, x, extra), direction), scale * slope, rtol=1e-5
        )
        np.testing.assert_allclose(
            jax.jit(squared_misfit)(problem, x, extra), -2 * scale * value(problem, x, extra), rtol=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_more_noise_is_as_if_y_had_more_noise(name):
    """The softened likelihood is near that of y with Gaussian noise of the extra variance: here, of its average."""
    model, extra = MODELS[name](), 0.02
    clean, y = jnp.full((1,), 0.2), jnp.full((1,), 0.3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    counts = np.arange(500) * 2 / 51 - 1 if name == "poisson" else None
    if counts is not None:  # y is a count's value; its noisy version has a density
        pmf = np.exp(model.log_density(jnp.asarray(counts[:120], jnp.float32), jnp.full((120,), 0.2)))
        density = np.exp(-0.5 * (0.3 - counts[:120]) ** 2 / extra) / np.sqrt(2 * np.pi * extra)
        expected = np.log((pmf * density).sum()) + np.log(2 / 51)  # a count stands for an interval of 2/s
        np.testing.assert_allclose(model.log_density(y, clean, extra)[0], expected, atol=0.06)
        return
    shifted = 0.3 + np.sqrt(extra) * nodes
    densities = np.exp(model.log_density(jnp.asarray(shifted, jnp.float32), jnp.full((61,), 0.2)))
    expected = np.log((weights * densities).sum() / weights.sum())
    np.testing.assert_allclose(model.log_density(y, clean, extra)[0], expected, atol=2e-3)


def test_dps_steps_on_poisson_noise_as_its_code_does():
    """x_s = x_s′ − ζ ∇ mean(‖y − A x̂₀‖/|y|), and x̂₀ of a Gaussian prior is affine in x_t, all in numpy."""
    prior, problem, zeta, t = make_prior(), _problem(noise.poisson(1.0)), 0.3, 400
    x_t = np.random.default_rng(2).normal(size=SHAPE)
    recorded = jnp.asarray(np.random.default_rng(3).normal(size=SHAPE), jnp.float32)

    @jax.jit
    def step(sampler):
        at = Step(recorded, jnp.asarray(t), jnp.asarray(t - 10), problem, prior)
        return sampler.advance(State(jnp.asarray(x_t, jnp.float32)), at)[0].x

    free, guided = (np.asarray(step(METHODS["dps"](zeta=value)), np.float64) for value in (0.0, zeta))

    alpha_bar = float(SCHEDULE.at(jnp.asarray(t)).alpha_bar)
    covariance, mean = np.asarray(prior.covariance, np.float64), np.asarray(prior.mean, np.float64).ravel()
    gain = np.sqrt(alpha_bar) * covariance @ np.linalg.inv(alpha_bar * covariance + (1 - alpha_bar) * np.eye(16))
    x0 = mean + gain @ (x_t.ravel() - np.sqrt(alpha_bar) * mean)
    mask, y = np.asarray(problem.operator.as_matrix(), np.float64), np.asarray(problem.y, np.float64).ravel()
    residual = y - mask @ x0
    gradient = -gain.T @ mask.T @ residual / np.linalg.norm(residual) * np.mean(1 / np.abs(y))
    np.testing.assert_allclose((free - guided).ravel(), zeta * gradient, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_takes_every_noise_model_or_refuses_in_one_sentence(name):
    prior, sampler = make_prior(), METHODS[name]()
    for model in MODELS.values():
        problem = _problem(model())
        if METHODS[name].kind.takes is NoiseModel:
            check_run(prior, problem, sampler)
        else:
            with pytest.raises(
                ValueError, match=rf"Gaussian noise of one σ.*{problem.noise.title}; use {FOLLOWERS}\.$"
            ):
                check_run(prior, problem, sampler)


def test_the_methods_that_a_refusal_names_take_noise_models():
    named = FOLLOWERS.replace(" or ", ", ").split(", ")
    assert all(METHODS[name].kind.takes is NoiseModel for name in named)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.kind.takes is NoiseModel])
def test_every_follower_is_finite_and_moves_with_the_model(name, model):
    prior, problem = make_prior(), _problem(MODELS[model]())
    x, info = jd.sample(jax.random.key(0), prior, problem, METHODS[name](), steps=20)
    assert np.isfinite(x).all()
    assert np.isfinite(info.residual).all()
    as_gaussian, _ = jd.sample(jax.random.key(0), prior, problem.replace(noise=None), METHODS[name](), steps=20)
    assert bool(jnp.array_equal(x, as_gaussian)) == (name == "sdedit")


def test_a_gaussian_model_is_its_standard_deviation():
    """To the bit: y, σ, the structure that programs are compiled for, and so every run."""
    operator, image, key = make_operator("blur"), jnp.zeros(SHAPE), jax.random.key(0)
    number, model = (jd.observe(key, operator, image, value) for value in (0.2, noise.gaussian(0.2)))
    assert jax.tree.structure(number) == jax.tree.structure(model)
    jax.tree.map(np.testing.assert_array_equal, number, model)
    np.testing.assert_array_equal(model.y, operator(image) + jnp.float32(0.2) * jax.random.normal(key, SHAPE))
    by_hand = Problem(operator, number.y, jnp.float32(0.2))
    assert jax.tree.structure(by_hand) == jax.tree.structure(number)


def test_complex_measurements_have_gaussian_noise():
    with pytest.raises(ValueError, match=r"Poisson noise is of real measurements, but Spectrum .* give σ\."):
        jd.observe(jax.random.key(0), make_operator("spectrum"), jnp.zeros(SHAPE), noise.poisson())


def test_entries_that_noise_replaced_say_nothing():
    problem = _problem(noise.salt_and_pepper(0.5, 0.05), kind="blur")
    hit = np.abs(np.asarray(problem.y)) == 1
    assert 0 < hit.sum() < hit.size
    assert problem.observed_count() == hit.size - hit.sum()
    for wrong in (log_likelihood, squared_misfit):
        gradient = jax.grad(wrong, argnums=1)(problem, jnp.zeros(SHAPE))
        clean = jax.grad(wrong, argnums=1)(problem.replace(y=jnp.where(hit, -problem.y, problem.y)), jnp.zeros(SHAPE))
        np.testing.assert_array_equal(gradient, clean)


def _dim():
    """Two dark pixels, of no photon and of four: the posterior is far from that of Gaussian noise."""
    prior = gaussian_prior(jnp.full((1, 2, 1), -0.7), 0.09 * jnp.asarray([[1.0, 0.5], [0.5, 1.0]]), SCHEDULE)
    operator = operators.denoise(image_shape=(1, 2, 1))
    model = noise.poisson(0.05)
    return prior, Problem.of(operator, model.from_counts(jnp.asarray([0.0, 4.0]).reshape(1, 2, 1)), model)


def _exact(prior, problem):
    """Mean and standard deviation of the posterior by a sum over a grid: prior's density times the model's likelihood."""
    import scipy.stats

    axis = np.linspace(-3, 1.5, 600)  # the likelihood goes on below black, where the prior has mass
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    images = jnp.asarray(points.reshape(-1, 1, 2, 1), jnp.float32)
    likelihood = jax.vmap(lambda x: problem.noise.log_likelihood(problem.y, x))(images)
    density = scipy.stats.multivariate_normal(np.ravel(prior.mean), np.asarray(prior.covariance)).logpdf(points)
    weight = np.exp(density + np.asarray(likelihood) - np.max(density + np.asarray(likelihood)))
    mean = np.average(points, axis=0, weights=weight)
    return mean, np.sqrt(np.average((points - mean) ** 2, axis=0, weights=weight))


@pytest.mark.slow
def test_twisted_draws_under_poisson_noise_are_of_the_exact_posterior():
    """Its weights are of the likelihood itself: with more particles and steps the draws come closer, to Monte Carlo error."""
    (prior, problem), n = _dim(), 400
    mean, std = _exact(prior, problem)
    draws = jd.posterior(jax.random.key(0), prior, problem, METHODS["tds"](particles=256), n=n, steps=150)
    most = 4 * std / np.sqrt(n)
    assert np.all(np.abs(np.ravel(draws.mean) - mean) < most)
    np.testing.assert_allclose(np.ravel(draws.std), std, rtol=4 / np.sqrt(2 * n))
    gaussian = problem.replace(noise=None)
    others = jd.posterior(jax.random.key(0), prior, gaussian, METHODS["tds"](particles=256), n=n, steps=150)
    assert np.any(np.abs(np.ravel(others.mean) - mean) > 2 * most), "the model counts"


def test_operators_keep_their_entries_under_a_model():
    problem = _problem(noise.poisson(1.0), kind="mask")
    assert isinstance(problem.operator, LinearOperator)
    gradient = np.asarray(jax.grad(log_likelihood, argnums=1)(problem, jnp.zeros(SHAPE)))
    seen = np.asarray(problem.operator.keep_observed(jnp.ones(SHAPE))) > 0
    assert (gradient[seen] != 0).all()
    assert (gradient[~seen] == 0).all()
