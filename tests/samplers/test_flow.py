"""FLOWER and PnP-Flow: recordings of the authors' code, dense solutions, and a posterior that FLOWER draws exactly."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import schedules
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.evaluation.exact import moment_errors
from jaxdiff.linalg import largest_eigenvalue
from jaxdiff.problems import Problem
from jaxdiff.samplers import flow_grid, flower, pnp_flow, sample
from jaxdiff.samplers.base import State
from tests.support.operators import Dense

SHAPE = (4, 4, 1)
RECORDED = np.load(pathlib.Path(__file__).parents[1] / "golden" / "flow.npz")
WIDE = schedules.geometric(1000, sigma_min=1e-3, sigma_max=1e5)
"""The authors start at σ = ∞. Here x_T has 1e-5 of the image."""
T, S = jnp.asarray(400), jnp.asarray(-1)


def replayed(method, name, sampler, noise, x_init=None):
    prior = gaussian_prior(
        jnp.asarray(RECORDED["mean"].reshape(SHAPE), jnp.float32),
        jnp.asarray(RECORDED["covariance"], jnp.float32),
        WIDE,
    )
    operator = Dense(jnp.asarray(RECORDED[name], jnp.float32), image_shape=SHAPE)
    y = jnp.asarray(RECORDED[f"{method}_{name}_y"], jnp.float32)
    problem = Problem(operator, y, jnp.float32(RECORDED["sigma"]))
    steps = int(RECORDED["steps"])
    return sample(jax.random.key(0), prior, problem, sampler, steps=steps, noise=noise, x_init=x_init)[0]


def draws(method, name):
    return jnp.asarray(RECORDED[f"{method}_{name}_draws"], jnp.float32)


@pytest.mark.parametrize("name", ["mask", "blur"])
def test_flower_is_the_authors(name):
    start, *noise = draws("flower", name)
    found = replayed("flower", name, flower(), jnp.stack(noise), start)
    np.testing.assert_allclose(found, RECORDED[f"flower_{name}_result"], atol=2e-5)
    early = replayed("flower", name, flower(), jnp.stack(noise) * 1.01, start)
    assert np.abs(early - RECORDED[f"flower_{name}_result"]).max() > 1e-4


@pytest.mark.parametrize("name", ["mask", "blur"])
def test_pnp_flow_is_the_authors(name):
    noise = draws("pnp_flow", name).reshape(int(RECORDED["steps"]), -1, *SHAPE)
    matrix = jnp.asarray(RECORDED[name], jnp.float32)
    norm2 = largest_eigenvalue(lambda v: matrix.T @ (matrix @ v.ravel()), jnp.zeros(16))
    np.testing.assert_allclose(norm2, np.linalg.norm(RECORDED[name], 2) ** 2, rtol=2e-2)
    options = {"rate": float(RECORDED["rate"]) * norm2, "alpha": float(RECORDED["alpha"]), "draws": noise.shape[1]}
    found = replayed("pnp_flow", name, pnp_flow(**options), noise)
    np.testing.assert_allclose(found, RECORDED[f"pnp_flow_{name}_result"], atol=2e-5)
    other = replayed("pnp_flow", name, pnp_flow(**options | {"alpha": 0.51}), noise)
    assert np.abs(other - RECORDED[f"pnp_flow_{name}_result"]).max() > 1e-4


@pytest.mark.parametrize("kind", ["mask", "blur"])
def test_flower_ends_on_its_proximal_point(world, x_t, kind):
    here = world(kind)
    found = flower().step(jax.random.key(0), State(x_t), T, S, here.problem, here.prior)[0].x
    variance, sigma2 = float(here.prior.schedule.at(T).one_minus_alpha_bar), float(here.problem.noise_std) ** 2
    a = np.asarray(here.problem.operator.as_matrix(), np.float64)
    y = np.asarray(here.problem.operator.keep_observed(here.problem.y)).ravel()
    right = a.T @ y / sigma2 + np.asarray(here.prior(x_t, T).x0).ravel() / variance
    exact = np.linalg.solve(a.T @ a / sigma2 + np.eye(16) / variance, right)
    np.testing.assert_allclose(found.ravel(), exact, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mask", "blur"])
def test_flower_with_draws_is_exact_for_the_prior_that_it_supposes(world, kind):
    """r² is then the variance of x₀ given x_t, so each step is a draw from p(x₀ | x_t, y)."""
    here = world(kind, "isotropic", std=0.5)
    grid = flow_grid(here.prior.schedule, 20)

    def errors(**options):
        images, _ = here.draws(flower(**options), grid=grid, count=4000)
        return moment_errors(images, here.mean, here.covariance)

    exact = errors(prior_std=0.5, draw=True)
    assert exact.mean < 3 * exact.mean_floor
    assert exact.covariance < 2 * exact.covariance_floor
    assert abs(exact.spread - 1) < 4 * exact.spread_floor
    for options in ({"prior_std": 1.0, "draw": True}, {"prior_std": 0.5}):
        other = errors(**options)
        assert abs(other.spread - 1) > 5 * other.spread_floor


def test_pnp_flow_without_steps_towards_the_data_is_the_mean_estimate(world, x_t):
    here, noise = world("blur"), jax.random.normal(jax.random.key(1), (4, *SHAPE))
    found, _ = pnp_flow(rate=1e-6, draws=4).step(noise, State(x_t), T, S, here.problem, here.prior)
    level = here.prior.schedule.at(T)
    noisy = jnp.sqrt(level.alpha_bar) * x_t + jnp.sqrt(level.one_minus_alpha_bar) * noise
    expected = np.mean([here.prior(x, T).x0 for x in noisy], axis=0)
    np.testing.assert_allclose(found.x, expected, atol=1e-5)


def test_the_step_of_pnp_flow_does_not_depend_on_the_scale_of_the_measurement(world, x_t):
    """A and y in other units are the same problem."""
    here, noise = world("dense"), jax.random.normal(jax.random.key(1), (2, *SHAPE))

    def moved(scale):
        operator = Dense(scale * here.problem.operator.matrix, image_shape=SHAPE)
        problem = Problem(operator, scale * here.problem.y, scale * here.problem.noise_std)
        return pnp_flow(draws=2).step(noise, State(x_t), T, S, problem, here.prior)[0].x

    np.testing.assert_allclose(moved(10.0), moved(1.0), atol=1e-5)
    nothing = Problem(Dense(jnp.zeros((6, 16)), image_shape=SHAPE), here.problem.y, here.problem.noise_std)
    assert np.isfinite(pnp_flow(draws=2).step(noise, State(x_t), T, S, nothing, here.prior)[0].x).all()


def test_the_flow_grid_is_even_in_flow_time(world):
    schedule = world().prior.schedule
    grid = flow_grid(schedule, 20)
    sigma = jax.vmap(lambda t: schedule.at(t).sigma)(jnp.asarray(grid.t))
    np.testing.assert_allclose(1 / (1 + sigma[1:]), np.arange(1, 20) / 20, rtol=1e-4)
    assert grid.t[0] == schedule.num_steps - 1
    assert grid.s[-1] == -1
    assert np.all(np.diff(flow_grid(schedule, 1000).t) <= 0)
    inside = flow_grid(schedule, 20, sigma_min=0.5, sigma_max=2.0)
    sigma = jax.vmap(lambda t: schedule.at(t).sigma)(jnp.asarray(inside.t))
    np.testing.assert_allclose([sigma[0], sigma[-1]], [2.0, 0.5], rtol=1e-4)
    whole = flow_grid(schedule, 20, integer=True)
    assert whole.t.dtype == np.int32
    assert len(np.unique(whole.t)) == len(whole.t)


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (flower, {"prior_std": 0.0}, "prior_std must"),
        (flower, {"draw": 1}, "draw must be True or False"),
        (flower, {"rounds": 0}, "rounds must be"),
        (pnp_flow, {"rate": 0.0}, "rate must be"),
        (pnp_flow, {"alpha": -1.0}, "alpha must be"),
        (pnp_flow, {"draws": 0}, "draws must be"),
    ],
)
def test_factories_refuse(make, options, said):
    with pytest.raises(ValueError, match=said):
        make(**options)


def test_draws_of_flower_cannot_be_replayed(world, x_t):
    here = world()
    with pytest.raises(ValueError, match="draws more than one array a step"):
        flower(draw=True).step(jnp.zeros_like(x_t), State(x_t), T, S, here.problem, here.prior)
