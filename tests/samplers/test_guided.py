"""MMPS, PiGDM, TMPD, MCG, DSG, LGD-MC: one step against dense linear algebra, and the limits that theory gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.evaluation.exact import moment_errors
from jaxdiff.problems import Problem
from jaxdiff.samplers import dps, dsg, lgd_mc, mcg, mmps, pigdm, sample, tmpd, transitions
from jaxdiff.samplers.base import State
from jaxdiff.samplers.step import Step
from tests.support.tiers import fast_only

TIMES = [700, 300, 40]


def guided(sampler, world, x_t, t):
    return predict(sampler, x_t, jnp.asarray(t), world.problem, world.prior)


@jax.jit
def predict(sampler, x_t, t, problem, prior):
    return sampler.guide(x_t, Step(None, t, t - 1, problem, prior))[0].x0


@pytest.mark.parametrize("solver", fast_only(["cg"], ["cg", "gmres"]))
@pytest.mark.parametrize("kind", fast_only(["dense"], ["mask", "blur", "dense"]))
def test_mmps_is_exact_for_gaussian_priors(world, exact_prediction, x_t, kind, solver):
    here = world(kind)
    for t in TIMES:
        expected = exact_prediction(here, x_t, t)
        np.testing.assert_allclose(guided(mmps(iterations=16, solver=solver), here, x_t, t), expected, atol=3e-3)


@pytest.mark.parametrize("kind", ["mask", "blur", "dense"])
def test_pigdm_is_exact_for_isotropic_priors(world, exact_prediction, x_t, kind):
    here = world(kind, "isotropic", std=0.7)
    for t in TIMES:
        found = guided(pigdm(prior_std=0.7, iterations=16), here, x_t, t)
        np.testing.assert_allclose(found, exact_prediction(here, x_t, t), atol=2e-3)


@pytest.mark.parametrize("diagonal", ["measurement", "image"])
def test_tmpd_is_exact_for_independent_pixels_under_a_mask(world, exact_prediction, x_t, diagonal):
    here = world("mask", "diagonal")
    for t in TIMES:
        found = guided(tmpd(diagonal=diagonal, iterations=16), here, x_t, t)
        np.testing.assert_allclose(found, exact_prediction(here, x_t, t), atol=2e-3)


def test_pigdm_original_form_is_its_weight_times_the_posterior_form(world, x_t):
    here = world("mask", "isotropic")
    t, s = jnp.asarray(300), jnp.asarray(280)
    noise = jnp.zeros_like(x_t)
    level_t, level_s = (here.prior.schedule.at(i) for i in (t, s))
    step = {
        form: pigdm(form=form, transition=transitions.ddim(eta=0.5))
        .step(noise, State(x_t), t, s, here.problem, here.prior)[0]
        .x
        for form in ("original", "posterior")
    }
    at = Step(noise, t, s, here.problem, here.prior)
    plain = at.predict(x_t)
    bare = transitions.ddim(eta=0.5)(plain, x_t, t, s, noise, here.prior.schedule)
    gain = pigdm().guide(x_t, at)[0].x0 - plain.x0
    likelihood_gradient = gain * jnp.sqrt(level_t.alpha_bar) / level_t.one_minus_alpha_bar
    weight = jnp.sqrt(level_s.alpha_bar * level_t.alpha_bar) * level_t.one_minus_alpha_bar
    np.testing.assert_allclose(step["original"] - bare, weight * likelihood_gradient, atol=1e-5)
    assert jnp.abs(step["posterior"] - bare).max() > 1e-3


@pytest.mark.slow
def test_mmps_draws_the_posterior(world):
    here = world("mask")
    images, info = here.draws(mmps(iterations=5), steps=100, count=1000)
    errors = moment_errors(images, here.mean, here.covariance)
    assert errors.mean < 3 * errors.mean_floor
    assert errors.covariance < 2.5 * errors.covariance_floor
    assert info.residual.shape == (1000, 100)


def test_nonlinear_operators_are_linearised(world, x_t):
    here = world("cubic")
    for sampler in (mmps(iterations=2), pigdm(), tmpd()):
        before = guided(mmps(zeta=0.0), here, x_t, 200)
        after = guided(sampler, here, x_t, 200)
        assert jnp.linalg.norm(here.problem.residual(after)) < 0.7 * jnp.linalg.norm(here.problem.residual(before))


def test_complex_measurements(world, exact_prediction, x_t):
    here = world("spectrum")
    # A unitary transform of a real image: each image entry is measured with the noise of one real number, σ²/2.
    image = jnp.real(jnp.fft.ifft2(here.problem.y, norm="ortho"))[..., None]
    denoising = Problem(operators.denoise(image_shape=image.shape), image, here.problem.noise_std / jnp.sqrt(2.0))
    expected = exact_prediction(here._replace(problem=denoising), x_t, 200)
    found = guided(mmps(iterations=16, solver="cg"), here, x_t, 200)
    assert found.dtype == x_t.dtype
    np.testing.assert_allclose(found, expected, atol=2e-3)
    with pytest.raises(ValueError, match="TMPD takes row sums"):
        sample(jax.random.key(0), here.prior, here.problem, tmpd(), steps=2)


def test_mcg_ends_on_the_measurement(world):
    here = world("mask", sigma=0.0)
    image, _ = sample(jax.random.key(0), here.prior, here.problem, mcg(), steps=20)
    np.testing.assert_allclose(here.problem.operator(image), here.problem.y, atol=1e-5)
    with pytest.raises(ValueError, match="MCG needs a linear operator with a pseudo-inverse, and Cubic"):
        sample(jax.random.key(0), here.prior, world("cubic").problem, mcg(), steps=2)


def test_dsg_keeps_the_length_of_the_noise(world, x_t):
    here, t, s = world("mask"), jnp.asarray(300), jnp.asarray(280)
    noise = jax.random.normal(jax.random.key(1), x_t.shape)
    problem, prior = here.problem, here.prior

    def step(rate, noise=noise):
        return dsg(rate=rate).step(noise, State(x_t), t, s, problem, prior)[0].x

    prediction = prior(x_t, t, s)
    mean = transitions.ddim(eta=1.0)(prediction, x_t, t, s, jnp.zeros_like(x_t), prior.schedule)
    sigma = jnp.sqrt(1 - prior.schedule.at(t).alpha_bar / prior.schedule.at(s).alpha_bar)
    sigma = sigma * jnp.sqrt(prior.schedule.at(s).one_minus_alpha_bar / prior.schedule.at(t).one_minus_alpha_bar)
    for rate in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(jnp.linalg.norm(step(rate) - mean), 4 * sigma, rtol=1e-3)
    # All guidance: straight down the gradient, whatever the noise.
    gradient = jax.grad(lambda x: jnp.linalg.norm(problem.residual(prior(x, t, s).x0)))(x_t)
    direction = (step(1.0) - mean) / jnp.linalg.norm(step(1.0) - mean)
    np.testing.assert_allclose(direction, -gradient / jnp.linalg.norm(gradient), atol=1e-3)
    with pytest.raises(ValueError, match="rate must be"):
        dsg(rate=1.5)


def test_lgd_of_one_draw_without_spread_is_dps(world):
    here = world("dense")
    run = {}
    for name, sampler in (("dps", dps(zeta=0.4)), ("lgd", lgd_mc(zeta=0.4, draws=1, spread=0.0))):
        noise_free = sampler.replace(transition=transitions.ddpm(noise="none"))
        x_init = jax.random.normal(jax.random.key(2), here.prior.mean.shape)
        run[name] = sample(jax.random.key(0), here.prior, here.problem, noise_free, steps=10, x_init=x_init)[0]
    np.testing.assert_allclose(run["lgd"], run["dps"], atol=1e-5)


@pytest.mark.slow
def test_lgd_gradient_is_that_of_the_averaged_likelihood(world, x_t):
    """With one softmax-weighted sum: direction of ∇ log mean exp(−ℓ)."""
    here, t, s = world("mask", sigma=1.0), jnp.asarray(300), jnp.asarray(280)
    key = jax.random.key(4)
    moved = lgd_mc(zeta=1.0, draws=5).step(key, State(x_t), t, s, here.problem, here.prior)[0].x
    still = lgd_mc(zeta=0.0, draws=5).step(key, State(x_t), t, s, here.problem, here.prior)[0].x
    radius = jnp.sqrt(here.prior.schedule.at(t).one_minus_alpha_bar)
    offsets = radius * jax.random.normal(jax.random.split(key)[1], (5, *x_t.shape))

    def log_mean(x):
        squared = jnp.stack([jnp.sum(here.problem.residual(here.prior(x, t).x0 + o) ** 2) for o in offsets])
        return jax.nn.logsumexp(-squared / 2)

    gradient = jax.grad(log_mean)(x_t)
    step = moved - still
    np.testing.assert_allclose(step / jnp.linalg.norm(step), gradient / jnp.linalg.norm(gradient), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [dps, functools.partial(lgd_mc, draws=2)], ids=["dps", "lgd_mc"])
def test_noise_on_hidden_pixels_counts_only_where_it_is_asked_for(world, make):
    """The reference codes add it, and let it shorten the step; ``observed_only`` is as if y were zero there."""
    here = world("mask")
    clean = here.problem.replace(y=here.problem.operator.keep_observed(here.problem.y))
    assert bool(jnp.any(clean.y != here.problem.y))

    def run(problem, observed_only):
        return sample(jax.random.key(0), here.prior, problem, make(zeta=0.5, observed_only=observed_only), steps=10)

    for noisy, zeros in zip(*map(jax.tree.leaves, (run(here.problem, True), run(clean, True))), strict=True):
        np.testing.assert_array_equal(noisy, zeros)
    np.testing.assert_allclose(run(here.problem, True)[0], run(clean, False)[0], atol=1e-6)
    assert float(jnp.abs(run(here.problem, False)[0] - run(clean, False)[0]).max()) > 1e-3


@pytest.mark.parametrize("make", [mmps, pigdm, tmpd, mcg, dsg, lgd_mc])
def test_a_measurement_is_needed(world, make):
    with pytest.raises(ValueError, match="give a problem"):
        sample(jax.random.key(0), world().prior, None, make(), steps=2)


@pytest.mark.parametrize(
    ("make", "options", "match"),
    [
        (mmps, {"iterations": 0}, "iterations must be"),
        (mmps, {"solver": "lu"}, "unknown solver"),
        (pigdm, {"prior_std": 0.0}, "prior_std must be above"),
        (pigdm, {"form": "other"}, "unknown form"),
        (tmpd, {"diagonal": "no"}, "unknown diagonal"),
        (mcg, {"zeta": -1.0}, "zeta must be"),
        (lgd_mc, {"draws": 0}, "draws must be"),
    ],
)
def test_factories_refuse(make, options, match):
    with pytest.raises(ValueError, match=match):
        make(**options)
