"""DAPS, annealed Langevin, TDS, FPS and the particle tools, against known Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.evaluation.exact import moment_errors
from jaxdiff.problems import observe
from jaxdiff.samplers import annealed_langevin, daps, fps, karras_grid, log_snr_grid, particles, sample, tds
from jaxdiff.samplers.base import State
from jaxdiff.samplers.continuous import ode_ve
from jaxdiff.schedules import linear
from tests.support.tiers import fast_only


def dense(problem):
    return jnp.asarray(problem.operator.as_matrix())


@pytest.mark.slow
@pytest.mark.parametrize("inner", ["langevin", "hmc"])
def test_daps_chain_draws_around_the_flow(world, x_t, inner):
    here, sigma = world("blur"), 0.3
    sampler = daps(mcmc_steps=300, inner=inner, momentum=0.6 if inner == "hmc" else None)
    chain = jax.jit(jax.vmap(lambda key: sampler._chain(key, here.problem, x_t, jnp.asarray(sigma), jnp.asarray(2e-3))))
    images = chain(jax.random.split(jax.random.key(0), 2000))
    a, variance = dense(here.problem), here.problem.noise_std**2
    covariance = jnp.linalg.inv(a.T @ a / variance + jnp.eye(16) / sigma**2)
    mean = covariance @ (a.T @ here.problem.y.ravel() / variance + x_t.ravel() / sigma**2)
    errors = moment_errors(images, mean, covariance)
    assert errors.mean < 3 * errors.mean_floor
    assert errors.covariance < 2.5 * errors.covariance_floor


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_daps_hmc_starts_with_a_velocity(world, x_t, momentum):
    """Where h is too small for a force, the first move is √h (m v + √(2(1−m)) z): variance h (m² + 2(1−m)) with v ~ N(0, I).

    From rest, momentum 0.9 would give a fifth of it.
    """
    here, h, count = world("blur"), 1e-8, 1000
    sampler = daps(mcmc_steps=1, inner="hmc", momentum=momentum)
    centre = jnp.zeros_like(x_t)
    chain = jax.jit(jax.vmap(lambda k: sampler._chain(k, here.problem, centre, jnp.asarray(1.0), jnp.asarray(h))))
    variance = float(jnp.var(chain(jax.random.split(jax.random.key(0), count)))) / h
    expected = momentum**2 + 2 * (1 - momentum)
    assert variance == pytest.approx(expected, rel=5 * np.sqrt(2 / (count * centre.size)))


@pytest.mark.slow
@pytest.mark.parametrize("sigma", fast_only([0.0], [0.0, 0.005]))
@pytest.mark.parametrize("inner", ["langevin", "hmc"])
@pytest.mark.parametrize("operator", fast_only(["dynamic range"], ["mask", "dynamic range"]))
def test_daps_stays_finite_without_noise_and_ends_on_the_measurement(operator, inner, sigma):
    """h/τ² with τ = σ would be 100 and more; ‖A‖ is 2 for the dynamic range."""
    shape = (4, 4, 1)
    prior = gaussian_prior(jnp.zeros(shape), 0.1 * jnp.eye(16), linear(1000))
    operators = {
        "mask": ops.inpaint_box(image_shape=shape, size=2),
        "dynamic range": ops.high_dynamic_range(image_shape=shape),
    }
    problem = observe(jax.random.key(0), operators[operator], 0.3 * jax.random.normal(jax.random.key(1), shape), sigma)
    grid = karras_grid(prior.schedule, 10, sigma_min=0.1, sigma_max=10.0)
    image, _ = sample(jax.random.key(2), prior, problem, daps(inner=inner, ode_steps=2), steps=grid)
    assert bool(jnp.all(jnp.isfinite(image)))
    kept = problem.operator.keep_observed(jnp.ones_like(problem.y))
    misfit = problem.operator.keep_observed(problem.residual(image))
    assert float(jnp.sqrt(jnp.sum(misfit**2) / jnp.sum(kept))) < 0.03


@pytest.mark.slow
def test_annealed_langevin_reports_the_residual_of_the_clean_estimate(world, x_t):
    here, t = world("mask"), jnp.asarray(600)
    sampler = annealed_langevin(inner_steps=1)
    _, info = sampler.step(jax.random.key(0), State(x_t), t, t, here.problem, here.prior)
    expected = jnp.linalg.norm(here.problem.residual(here.prior(x_t, t).x0))
    np.testing.assert_allclose(info.residual, expected, rtol=1e-5)


@pytest.mark.slow
def test_daps_flow_ends_where_the_ode_does(world, x_t):
    prior, sigma = world().prior, jnp.asarray(0.8)
    gain = jnp.sqrt(prior.eigenvalues / (prior.eigenvalues + sigma**2))
    exact = prior.mean.ravel() + prior.basis @ (gain * (prior.basis.T @ (x_t - prior.mean).ravel()))
    coarse, fine = (jnp.abs(ode_ve(prior, x_t, sigma, n).ravel() - exact).max() for n in (10, 160))
    assert fine < 0.02
    assert fine < coarse / 8, "Euler: the error falls as 1/n"


@pytest.mark.slow
def test_annealed_langevin_draws_the_annealed_posterior_of_its_level(world):
    here, t = world("mask"), jnp.asarray(300)
    level = here.prior.schedule.at(t)
    gamma2 = level.sigma**2
    sampler = annealed_langevin(inner_steps=150, step_size=0.05, denoise=False)
    run = jax.jit(jax.vmap(lambda key: sampler.step(key, State(here.prior.mean), t, t, here.problem, here.prior)[0].x))
    images = run(jax.random.split(jax.random.key(0), 2000)) / jnp.sqrt(level.alpha_bar)
    a, variance = dense(here.problem), here.problem.noise_std**2 + gamma2
    noisy = jnp.linalg.inv(here.prior.covariance + gamma2 * jnp.eye(16))
    covariance = jnp.linalg.inv(noisy + a.T @ a / variance)
    y = here.problem.operator.keep_observed(here.problem.y).ravel()
    mean = covariance @ (noisy @ here.prior.mean.ravel() + a.T @ y / variance)
    errors = moment_errors(images, mean, covariance)
    assert errors.mean < 4 * errors.mean_floor
    assert errors.covariance < 2.5 * errors.covariance_floor


def test_annealed_langevin_of_the_code_weighs_by_norms(world, x_t):
    """h (s + w g ‖s‖/‖g‖): without noise the two terms have lengths 1 and w."""
    here, t = world("mask"), jnp.asarray(300)
    keys = jax.random.key(0)

    def move(weight):
        sampler = annealed_langevin(inner_steps=1, weighting="norm", weight=weight, denoise=False)
        return sampler.step(keys, State(x_t), t, t, here.problem, here.prior)[0].x

    score = (here.prior(x_t, t).x0 - x_t / jnp.sqrt(here.prior.schedule.at(t).alpha_bar)) * 0.2
    guidance = (move(3.0) - move(0.0)) / jnp.sqrt(here.prior.schedule.at(t).alpha_bar)
    np.testing.assert_allclose(jnp.linalg.norm(guidance), 3 * jnp.linalg.norm(score), rtol=1e-3)


def test_particle_tools():
    resample, pick, systematic_indices = map(
        jax.jit, (particles.resample, particles.pick, particles.systematic_indices)
    )
    weights = jnp.asarray([0.5, 0.25, 0.125, 0.125])
    lost = jnp.log(weights).at[3].set(jnp.nan)
    indices, after, ess = resample(jax.random.key(0), lost, jnp.asarray(1.0))
    assert not bool(jnp.any(indices == 3)), "a particle that diverged dies"
    assert bool(jnp.isfinite(after).all() & jnp.isfinite(ess))
    assert all(int(pick(jax.random.key(i), jnp.arange(4), lost)) < 3 for i in range(20))
    _, after, ess = resample(jax.random.key(0), jnp.full(5, -jnp.inf), jnp.asarray(0.5))
    assert float(ess) == pytest.approx(5)
    assert bool(jnp.isfinite(after).all())
    assert particles.effective_sample_size(jnp.log(weights)) == pytest.approx(1 / float(jnp.sum(weights**2)), rel=1e-5)
    many = jnp.tile(weights, 25) / 25
    for seed in range(5):
        copies = jnp.bincount(systematic_indices(jax.random.key(seed), jnp.log(many) + 3.0), length=100)
        assert bool(jnp.all(jnp.abs(copies - 100 * many) < 1 + 1e-3)), "each is kept ⌊Nw⌋ or ⌈Nw⌉ times"
    index, after, ess = resample(jax.random.key(0), jnp.zeros(6), jnp.asarray(0.5))
    np.testing.assert_array_equal(index, np.arange(6))
    assert float(ess) == pytest.approx(6)
    index, after, ess = resample(jax.random.key(0), jnp.asarray([0.0, -1e4, -1e4]), jnp.asarray(0.5))
    np.testing.assert_array_equal(index, 0)
    np.testing.assert_array_equal(after, 0)
    assert float(ess) == pytest.approx(1)
    assert float(pick(jax.random.key(0), jnp.arange(3.0), jnp.asarray([-1e4, 0.0, -1e4]))) == 1.0


# FPS is exact only where the noise is small: it takes the one noise of y for a new one at every level.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "sigma"), [(tds(particles=32), 0.5), (fps(particles=32), 0.02)], ids=["tds", "fps"]
)
def test_particles_draw_the_posterior(world, sampler, sigma):
    here = world("mask", sigma=sigma)
    images, info = here.draws(sampler, grid=log_snr_grid(here.prior.schedule, 50), count=400)
    errors = moment_errors(images, here.mean, here.covariance)
    assert errors.mean < 0.15
    assert errors.covariance < 0.3
    assert bool(jnp.all((info.ess >= 1) & (info.ess <= 32 * (1 + 1e-5))))


@pytest.mark.slow
def test_restart_moves_every_particle(world, x_t):
    here = world("mask")
    for sampler in (tds(particles=3), fps(particles=3)):
        state = sampler.init(jax.random.key(0), here.problem, here.prior, jnp.asarray(999))
        moved = sampler.restart(state, x_t)
        np.testing.assert_array_equal(moved.particles, jnp.broadcast_to(x_t, (3, *x_t.shape)))
        image, _ = sample(jax.random.key(0), here.prior, here.problem, sampler, steps=2, x_init=x_t)
        assert image.shape == x_t.shape


def test_refusals(world):
    prior, key = world().prior, jax.random.key(0)
    with pytest.raises(ValueError, match=r"FPS needs a linear operator.*Cubic is none"):
        sample(key, prior, world("cubic").problem, fps(), steps=2)
    for make in (daps, annealed_langevin, tds, fps):
        with pytest.raises(ValueError, match="give a problem"):
            sample(key, prior, None, make(), steps=2)
    for make, options in (
        (daps, {"momentum": 1.0, "inner": "hmc"}),
        (daps, {"tau": 0.0}),
        (annealed_langevin, {"inner_steps": 0}),
        (tds, {"particles": 0}),
        (fps, {"threshold": 2.0}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            make(**options)
    with pytest.raises(ValueError, match="unknown inner"):
        daps(inner="gibbs")
    with pytest.raises(ValueError, match="unknown weighting"):
        annealed_langevin(weighting="no")
