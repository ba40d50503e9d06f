"""Unconditional samplers and grids against the closed-form flow of a Gaussian prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import schedules
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.evaluation.exact import moment_errors
from jaxdiff.samplers import ddim, ddpm, dpm_solver, heun, karras_grid, log_snr_grid, sample
from jaxdiff.samplers.continuous import denoise_ve, level_of_sigma, polynomial_sigmas

SHAPE = (3, 3, 1)
SCHEDULE = schedules.linear(1000)


@pytest.fixture(scope="module")
def prior():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(9, 9)) / 4
    mean = rng.normal(size=SHAPE) / 2
    return gaussian_prior(
        jnp.asarray(mean, jnp.float32), jnp.asarray(root @ root.T + 0.01 * np.eye(9), jnp.float32), SCHEDULE
    )


def flow(prior, x_t, t):
    """x₀ of the probability-flow ODE from x_t, in closed form."""
    level = SCHEDULE.at(jnp.asarray(t))
    sigma, x = level.sigma, x_t / jnp.sqrt(level.alpha_bar)
    gain = jnp.sqrt(prior.eigenvalues / (prior.eigenvalues + sigma**2))
    coordinates = prior.basis.T @ (x - prior.mean).ravel()
    return prior.mean + (prior.basis @ (gain * coordinates)).reshape(SHAPE)


@pytest.mark.parametrize(("make", "grid_of"), [(heun, karras_grid), (dpm_solver, log_snr_grid)])
def test_second_order_solvers_follow_the_flow(prior, make, grid_of):
    x_t = jax.random.normal(jax.random.key(1), SHAPE)

    def error(steps):
        grid = grid_of(SCHEDULE, steps, sigma_max=20.0)
        found, _ = sample(jax.random.key(0), prior, None, make(), steps=grid, x_init=x_t)
        return float(jnp.linalg.norm(found - flow(prior, x_t, grid.t[0])))

    coarse, fine = error(24), error(48)
    assert fine < 0.02
    assert fine < coarse / 2.8, "a second-order method gains about 4 when steps are doubled"


@pytest.mark.slow
def test_second_order_beats_first_at_equal_network_calls(prior):
    x_t = jax.random.normal(jax.random.key(1), SHAPE)
    truth = flow(prior, x_t, 999)

    def error(sampler, steps):
        grid = karras_grid(SCHEDULE, steps)
        return float(
            jnp.linalg.norm(sample(jax.random.key(0), prior, None, sampler, steps=grid, x_init=x_t)[0] - truth)
        )

    euler = error(ddim(), 80)
    assert error(heun(), 40) < euler / 2
    assert error(dpm_solver(), 80) < euler / 2


# Ancestral steps are of first order: they lose variance as 1/steps.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "steps"), [(ddpm(), 250), (ddim(eta=1.0), 250), (heun(churn=0.3), 60)], ids=["ddpm", "ddim1", "churn"]
)
def test_stochastic_samplers_draw_from_the_prior(prior, sampler, steps):
    draw = jax.jit(jax.vmap(lambda k: sample(k, prior, None, sampler, steps=karras_grid(SCHEDULE, steps))[0]))
    errors = moment_errors(draw(jax.random.split(jax.random.key(2), 4000)), prior.mean, prior.covariance)
    assert errors.mean < 3 * errors.mean_floor
    assert errors.covariance < 3 * errors.covariance_floor


def test_fractional_time_has_the_level_that_was_asked_for(prior):
    sigma = jnp.asarray([0.02, 0.37, 3.3, 90.0])
    level = jax.vmap(lambda s: level_of_sigma(SCHEDULE, s))(sigma)
    np.testing.assert_allclose(SCHEDULE.at(level.t).sigma, sigma, rtol=2e-3)
    np.testing.assert_allclose(level.sigma, sigma, rtol=1e-5)
    x = jax.random.normal(jax.random.key(0), SHAPE)
    gain = prior.eigenvalues / (prior.eigenvalues + 0.37**2)
    exact = prior.mean.ravel() + prior.basis @ (gain * (prior.basis.T @ (x - prior.mean).ravel()))
    np.testing.assert_allclose(denoise_ve(prior, x, jnp.asarray(0.37)).x0.ravel(), exact, atol=2e-4)


def test_grids():
    grid = karras_grid(SCHEDULE, 10, sigma_max=100.0, sigma_min=0.1)
    sigma = np.asarray(SCHEDULE.at(jnp.asarray(grid.t)).sigma)
    expected = np.asarray(polynomial_sigmas(jnp.asarray(100.0), jnp.asarray(0.1), 10))
    np.testing.assert_allclose(sigma, expected, rtol=5e-3)
    assert grid.s[-1] == -1
    np.testing.assert_array_equal(grid.s[:-1], grid.t[1:])
    even = np.log(np.asarray(SCHEDULE.at(jnp.asarray(log_snr_grid(SCHEDULE, 7).t)).sigma))
    np.testing.assert_allclose(np.diff(even), np.diff(even)[0], rtol=2e-2)
    whole = karras_grid(SCHEDULE, 300, integer=True)
    assert whole.t.dtype == np.int32
    assert (np.diff(whole.t) < 0).all()
    with pytest.raises(ValueError, match="at least one"):
        karras_grid(SCHEDULE, 0)
    with pytest.raises(ValueError, match="no noise level"):
        log_snr_grid(SCHEDULE, 4, sigma_min=2.0, sigma_max=1.0)
    traced = jax.jit(lambda schedule: karras_grid(schedule, 4))(SCHEDULE)  # in the schedule's float32
    np.testing.assert_allclose(traced.t, karras_grid(SCHEDULE, 4).t, rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="being traced"):
        jax.jit(lambda schedule: karras_grid(schedule, 4, integer=True))(SCHEDULE)


def test_spacing_names_reach_the_noise_grids(prior):
    x_t = jax.random.normal(jax.random.key(1), SHAPE)
    named, _ = sample(jax.random.key(0), prior, None, ddim(), steps=6, spacing="karras", x_init=x_t)
    given, _ = sample(jax.random.key(0), prior, None, ddim(), steps=karras_grid(SCHEDULE, 6), x_init=x_t)
    np.testing.assert_array_equal(named, given)


def test_refusals():
    with pytest.raises(ValueError, match="churn"):
        heun(churn=-1.0)
    for eta in (-1.0, np.float32(-1), float("inf"), "1"):
        with pytest.raises(ValueError, match="eta"):
            ddim(eta=eta)
    for options in ({"sigma_min": 0.0}, {"sigma_max": -1.0}, {"rho": 1e-3}, {"rho": float("inf")}):
        with pytest.raises(ValueError, match=r"sigma_|rho"):
            karras_grid(SCHEDULE, 4, **options)
