"""DiffPIR, RED-diff, SITCOM, PnP-DM, FAST-DIPS: their inner problems against dense solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from jaxdiff import schedules
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.evaluation.exact import moment_errors
from jaxdiff.operators import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers import diffpir, fast_dips, grid_for, pnp_dm, reddiff, sample, sitcom
from jaxdiff.samplers.adam import adam_init, adam_step
from jaxdiff.samplers.base import State
from jaxdiff.samplers.continuous import reverse_ve
from jaxdiff.samplers.likelihood import proximal_draw
from jaxdiff.typing import Array


@struct.dataclass
class Rows(LinearOperator):
    """Some rows of a matrix."""

    rows: Array

    def apply(self, x):
        return self.rows @ x.ravel()


T, S = jnp.asarray(400), jnp.asarray(-1)


def solved(here, centre, rho):
    a = np.asarray(here.problem.operator.as_matrix(), np.float64)
    y = np.asarray(here.problem.operator.keep_observed(here.problem.y)).ravel()
    right = a.T @ y + rho * np.asarray(centre).ravel()
    return np.linalg.solve(a.T @ a + rho * np.eye(16), right).reshape(centre.shape)


@pytest.mark.parametrize("kind", ["mask", "blur"])
def test_diffpir_ends_on_its_proximal_point(world, x_t, kind):
    here = world(kind)
    found = diffpir(lam=2.0).step(jax.random.key(0), State(x_t), T, S, here.problem, here.prior)[0].x
    level = here.prior.schedule.at(T)
    rho = float(2.0 * here.problem.noise_std**2 * level.alpha_bar / level.one_minus_alpha_bar)
    np.testing.assert_allclose(found, solved(here, here.prior(x_t, T).x0, rho), atol=1e-4)


def test_diffpir_of_unit_lambda_is_exact_for_a_wide_isotropic_prior(world, exact_prediction, x_t):
    """p(x₀ | x_t) is then N(x̂₀, (1−ᾱ)/ᾱ I), which is what λ = 1 supposes."""
    here = world("mask", "isotropic", std=100.0)
    found = diffpir(lam=1.0).step(jax.random.key(0), State(x_t), T, S, here.problem, here.prior)[0].x
    np.testing.assert_allclose(found, exact_prediction(here, x_t, 400), atol=5e-3)


def test_adam_is_optax(x_t):
    optimiser = optax.adam(0.05, b1=0.9, b2=0.99)
    theirs, state, ours, adam = x_t, optimiser.init(x_t), x_t, adam_init(x_t)
    for _ in range(4):
        with jax.numpy_dtype_promotion("standard"):  # optax adds an int and a float
            update, state = optimiser.update(jnp.sin(theirs) ** 3, state)
        theirs = optax.apply_updates(theirs, update)
        ours, adam = adam_step(ours, jnp.sin(ours) ** 3, adam, jnp.asarray(0.05), betas=(0.9, 0.99))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_reddiff_follows_its_loss(world, x_t):
    here = world("blur")
    sampler = reddiff(lam=0.3, rate=0.05, data_weight=2.0)
    noise = jax.random.normal(jax.random.key(1), x_t.shape)
    state = sampler.init(jax.random.key(0), here.problem, here.prior, T)
    np.testing.assert_allclose(
        state.x, solved(here, jnp.zeros_like(x_t), float(here.problem.noise_std) ** 2), atol=1e-5
    )
    noiseless = here.problem.replace(noise_std=jnp.zeros(()))
    start = sampler.init(jax.random.key(0), noiseless, here.prior, T).x
    np.testing.assert_allclose(start, here.problem.operator.pinv(here.problem.y), rtol=1e-3, atol=1e-3)
    state = state._replace(x=x_t)
    level = here.prior.schedule.at(T)

    def loss(mu):
        noisy = jnp.sqrt(level.alpha_bar) * mu + jnp.sqrt(level.one_minus_alpha_bar) * noise
        error = jax.lax.stop_gradient(here.prior(noisy, T).eps - noise)
        weight = 0.3 * jnp.sqrt(level.one_minus_alpha_bar / level.alpha_bar)
        return weight * jnp.mean(error * mu) + 2.0 * 0.5 * jnp.mean(here.problem.residual(mu) ** 2)

    moved, _ = sampler.step(noise, state, T, S, here.problem, here.prior)
    np.testing.assert_allclose(moved.adam.first, 0.1 * jax.grad(loss)(x_t), atol=1e-6)
    expected, _ = adam_step(x_t, jax.grad(loss)(x_t), adam_init(x_t), jnp.asarray(0.05), betas=(0.9, 0.99))
    np.testing.assert_allclose(moved.x, expected, atol=1e-5)


def test_reddiff_under_a_mask_is_reddiff_on_what_it_keeps(world, x_t):
    """The mean of the misfit is over kept entries, as the authors' operator returns them and no others."""
    masked = world("mask")
    operator = masked.problem.operator
    kept = np.flatnonzero(np.asarray(operator.keep_observed(jnp.ones_like(masked.problem.y))))
    rows = jnp.asarray(np.asarray(operator.as_matrix())[kept])
    dense = Problem(Rows(rows, image_shape=x_t.shape), masked.problem.y.ravel()[kept], masked.problem.noise_std)
    noise = jax.random.normal(jax.random.key(1), x_t.shape)
    sampler = reddiff(lam=0.3)
    start = sampler.init(jax.random.key(0), masked.problem, masked.prior, T)
    gradients = [
        sampler.step(noise, start._replace(x=x_t), T, S, problem, masked.prior)[0].adam.first
        for problem in (masked.problem, dense)
    ]
    np.testing.assert_allclose(*gradients, atol=1e-7)
    assert len(kept) < x_t.size


def test_pnp_dm_comes_down_to_its_floor_and_stays(world):
    """Its grid ends at ρ = 0.02: the last round is at ρ_min, and the more of them the higher that is."""
    prior = world().prior
    for floor, rounds in ((0.03, 1), (0.1, 2), (0.4, 4)):
        grid = grid_for(prior, pnp_dm(rho_min=floor), 20)
        rho = jax.vmap(lambda t: prior.schedule.at(t).sigma)(jnp.asarray(grid.t))
        assert int(jnp.sum(rho <= floor)) >= rounds
        assert float(rho[0]) > 1


def test_sitcom_stops_at_the_noise_and_not_before(world, x_t):
    here = world("mask")
    goal = float(jnp.sqrt(here.problem.operator.mask.sum()) * (here.problem.noise_std + 0.001))

    def misfit(sampler):
        x0 = sampler.step(jax.random.key(0), State(x_t), T, S, here.problem, here.prior)[0].x
        return float(jnp.linalg.norm(here.problem.operator.keep_observed(here.problem.residual(x0)))), x0

    unguided, _ = misfit(sitcom(iterations=1, rate=1e-6))
    fitted, _ = misfit(sitcom(iterations=400, rate=0.05))
    assert unguided > 1.2 * goal
    assert 0.9 * goal < fitted <= goal
    # A measurement that already agrees leaves the input alone.
    loose = here._replace(problem=here.problem.replace(noise_std=jnp.asarray(10.0)))
    still = sitcom(iterations=5).step(jax.random.key(0), State(x_t), T, S, loose.problem, here.prior)[0].x
    np.testing.assert_allclose(still, here.prior(x_t, T).x0, atol=1e-6)


def test_pnp_dm_likelihood_step_is_an_exact_draw(world, x_t):
    here, rho = world("blur"), 0.7
    draw = jax.jit(jax.vmap(lambda key: proximal_draw(key, here.problem, x_t, jnp.asarray(rho**2))))
    images = draw(jax.random.split(jax.random.key(0), 4000))
    sigma2 = float(here.problem.noise_std) ** 2
    a = np.asarray(here.problem.operator.as_matrix(), np.float64)
    covariance = np.linalg.inv(a.T @ a / sigma2 + np.eye(16) / rho**2)
    errors = moment_errors(images, solved(here, x_t, sigma2 / rho**2), jnp.asarray(covariance))
    assert errors.mean < 3 * errors.mean_floor
    assert errors.covariance < 2 * errors.covariance_floor


def test_the_prior_step_draws_the_denoising_posterior(world, x_t):
    prior, rho = world().prior, 0.6
    draw = jax.jit(jax.vmap(lambda key: reverse_ve(key, prior, x_t, jnp.asarray(rho), 60)))
    images = draw(jax.random.split(jax.random.key(0), 4000))
    gain = prior.covariance @ jnp.linalg.inv(prior.covariance + rho**2 * jnp.eye(16))
    mean = prior.mean + (gain @ (x_t - prior.mean).ravel()).reshape(x_t.shape)
    errors = moment_errors(images, mean, (jnp.eye(16) - gain) @ prior.covariance)
    assert errors.mean < 3 * errors.mean_floor
    assert errors.covariance < 2.5 * errors.covariance_floor


@pytest.mark.parametrize(("total", "schedule"), [(50, schedules.linear), (1000, schedules.scaled_linear)])
def test_the_prior_step_does_not_denoise_below_the_schedule(total, schedule):
    """The smallest σ of these is 0.045 and 0.029: levels down to 0.01 took that much noise away over and over."""
    prior, sigma = gaussian_prior(jnp.zeros((4, 4, 1)), 0.05**2 * jnp.eye(16), schedule(total)), 0.1
    x = jnp.full((4, 4, 1), 0.2)
    draw = jax.jit(jax.vmap(lambda key: reverse_ve(key, prior, x, jnp.asarray(sigma), 20)))
    exact = 0.2 * 0.05**2 / (0.05**2 + sigma**2)
    found = float(draw(jax.random.split(jax.random.key(0), 500)).mean())
    assert found == pytest.approx(exact, rel=0.03), "with those levels a third, and two thirds, of it"


def test_fast_dips_converges_to_the_constrained_minimiser(world, x_t):
    """argmin ‖x − x̂₀‖ over the ball is (AᵀA + μ I)⁻¹(Aᵀy + μ x̂₀) with μ such that ‖A x − y‖ = ε."""
    here, epsilon = world("blur"), 0.5
    sampler = fast_dips(epsilon=epsilon, rho=3.0, rounds=400, descents=3)
    found, info = jax.jit(lambda: sampler.step(jnp.zeros_like(x_t), State(x_t), T, S, here.problem, here.prior))()
    centre = here.prior(x_t, T).x0
    low, high = 1e-6, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        radius = jnp.linalg.norm(here.problem.residual(jnp.asarray(solved(here, centre, middle), jnp.float32)))
        low, high = (middle, high) if radius < epsilon else (low, middle)
    np.testing.assert_allclose(info.residual, epsilon, rtol=1e-2)
    np.testing.assert_allclose(found.x, solved(here, centre, low), atol=1e-2)


def test_fast_dips_never_climbs_on_a_nonlinear_operator(world, x_t):
    here = world("cubic")
    before = jnp.linalg.norm(here.problem.residual(here.prior(x_t, T).x0))
    for rho in (1.0, 200.0):
        after = fast_dips(rho=rho).step(jnp.zeros_like(x_t), State(x_t), T, S, here.problem, here.prior)[1].residual
        assert after < before


@pytest.mark.parametrize("make", [diffpir, reddiff, sitcom, pnp_dm, fast_dips])
def test_a_measurement_is_needed(world, make):
    with pytest.raises(ValueError, match="give a problem"):
        sample(jax.random.key(0), world().prior, None, make(), steps=2)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (diffpir, {"lam": 0.0}),
        (diffpir, {"zeta": 2.0}),
        (reddiff, {"rate": 0.0}),
        (sitcom, {"iterations": 0}),
        (pnp_dm, {"rho_min": 0.0}),
        (fast_dips, {"rounds": 1.5}),
    ],
)
def test_factories_refuse(make, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        make(**options)
