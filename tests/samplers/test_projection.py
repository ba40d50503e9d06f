"""DDRM, DDNM and RePaint: the noise that each step leaves, the forms' agreement, and RePaint's schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxdiff.denoisers import Prediction
from jaxdiff.evaluation.exact import moment_errors
from jaxdiff.problems import Problem
from jaxdiff.samplers import ddnm, ddrm, repaint, sample
from jaxdiff.samplers._methods.repaint import resampling_grid
from jaxdiff.samplers.base import State
from jaxdiff.samplers.loop import grid_for
from jaxdiff.schedules import TimeGrid
from tests.support.tiers import fast_only


@struct.dataclass
class Oracle:
    """Knows the truth; its ε̂ is whatever is handed over as x_t."""

    truth: jax.Array
    schedule: object

    @property
    def image_shape(self):
        return self.truth.shape

    def __call__(self, x_t, t, s=None):
        return Prediction(self.truth, x_t, None)


@jax.jit
def steps_from_the_truth(keys, sampler, operator, oracle, s):
    def one(key):
        noise_key, eps_key, step_key = jax.random.split(key, 3)
        clean = operator(oracle.truth)
        problem = Problem(operator, clean + 0.2 * jax.random.normal(noise_key, clean.shape), jnp.asarray(0.2))
        eps = jax.random.normal(eps_key, oracle.truth.shape)
        return sampler.step(step_key, State(eps), s + 10, s, problem, oracle)[0].x

    return jax.vmap(one)(keys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sampler"),
    fast_only(
        ["ddrm-blur"],
        [
            ("mask", ddrm(eta=0.85, eta_b=0.7)),
            ("mask", ddnm(eta=0.6, form="simple")),
            ("blur", ddrm(eta=0.85, eta_b=0.7)),
        ],
        ["ddrm-mask", "ddnm-mask", "ddrm-blur"],
    ),
)
def test_a_step_keeps_the_forward_process(world, kind, sampler):
    """If x̂₀ is the truth, x_s must be distributed as q(x_s | x₀), whatever A, σ and η: DDRM's theorem."""
    here = world(kind)
    oracle = Oracle(here.prior.mean, here.prior.schedule)
    keys = jax.random.split(jax.random.key(0), 2000)
    for s in (900, 300, 60, 5):
        level = oracle.schedule.at(jnp.asarray(s))
        images = steps_from_the_truth(keys, sampler, here.problem.operator, oracle, jnp.asarray(s))
        covariance = level.one_minus_alpha_bar * jnp.eye(oracle.truth.size)
        errors = moment_errors(images, jnp.sqrt(level.alpha_bar) * oracle.truth, covariance)
        assert errors.mean < 3 * errors.mean_floor
        assert errors.covariance < 2 * errors.covariance_floor


@pytest.mark.slow
def test_ddnm_plus_is_ddrm_with_full_trust_and_simple_is_spectral_for_masks(world):
    here = world("mask")
    x_init = jax.random.normal(jax.random.key(1), here.prior.mean.shape)

    def run(sampler):
        return sample(jax.random.key(0), here.prior, here.problem, sampler, steps=15, x_init=x_init)[0]

    np.testing.assert_allclose(run(ddnm(eta=0.5)), run(ddrm(eta=0.5, eta_b=1.0)), atol=1e-6)


@pytest.mark.slow
def test_without_noise_the_result_has_the_measurement(world):
    for kind, sampler in (("mask", ddnm()), ("dense", ddnm()), ("mask", repaint(jump_length=2, jump_samples=2))):
        here = world(kind, sigma=0.0)
        image, _ = sample(jax.random.key(0), here.prior, here.problem, sampler, steps=8)
        np.testing.assert_allclose(here.problem.operator(image), here.problem.y, atol=1e-4)


def repaint_schedule(total, jump, samples):
    """The list of times of RePaint's appendix, ups and downs, by its own loop."""
    left = dict.fromkeys(range(0, total - jump, jump), samples - 1)
    t, times = total, []
    while t >= 1:
        t -= 1
        times.append(t)
        if left.get(t, 0) > 0:
            left[t] -= 1
            for _ in range(jump):
                t += 1
                times.append(t)
    return [*times, -1]


@pytest.mark.parametrize(("total", "jump", "samples"), [(250, 10, 10), (20, 3, 2), (7, 1, 3), (5, 10, 10)])
def test_resampling_grid_is_repaints_schedule(total, jump, samples):
    times = np.array(repaint_schedule(total, jump, samples))
    down = times[1:] < times[:-1]
    ascending = np.arange(total)
    grid = resampling_grid(TimeGrid(ascending[::-1], ascending[::-1] - 1), jump, samples)
    np.testing.assert_array_equal(grid.t, times[:-1][down])
    np.testing.assert_array_equal(grid.s, times[1:][down])


def test_repaint_goes_back_by_the_forward_process(world, x_t):
    here, sampler = world("mask"), repaint(jump_length=1, jump_samples=2)
    schedule = here.prior.schedule

    class Recorder:
        image_shape = x_t.shape
        schedule = here.prior.schedule

        def __call__(self, x, t, s=None):
            return Prediction(x, x, None)  # the iterate itself, so that the residual shows it

    state = sampler.init(jax.random.key(0), here.problem, here.prior, jnp.asarray(400))._replace(x=x_t)
    level, back = schedule.at(jnp.asarray(400)), schedule.at(jnp.asarray(500))
    ratio = back.alpha_bar / level.alpha_bar
    # ‖y − m ⊙ x‖² of x = √ratio x_at + √(1−ratio) z, averaged over z
    mask = here.problem.operator.mask
    one = jax.jit(
        jax.vmap(
            lambda key: (
                sampler.step(key, state, jnp.asarray(500), jnp.asarray(400), here.problem, Recorder())[1].residual
            )
        )
    )
    squared = one(jax.random.split(jax.random.key(3), 4000)) ** 2
    expected = jnp.sum((here.problem.y - mask * jnp.sqrt(ratio) * x_t) ** 2) + (1 - ratio) * mask.sum()
    np.testing.assert_allclose(squared.mean(), expected, rtol=0.05)


def test_a_grid_with_jumps_gets_no_more_of_them(world):
    """A grid counted out beforehand, as the command line and the leaderboard do, is run as it is."""
    for sampler in (repaint(jump_length=1, jump_samples=4), repaint(jump_length=3, jump_samples=2)):
        grid = grid_for(world("mask").prior, sampler, 12)
        assert len(grid.t) > 12
        again = grid_for(world("mask").prior, sampler, grid)
        np.testing.assert_array_equal(again.t, grid.t)
        np.testing.assert_array_equal(again.s, grid.s)


def test_repaint_runs_its_whole_schedule(world):
    here = world("mask")
    image, info = sample(jax.random.key(0), here.prior, here.problem, repaint(jump_length=2, jump_samples=3), steps=9)
    assert info.residual.shape == (9 + 2 * 2 * 4,)
    assert bool(jnp.all(jnp.isfinite(image)))


def test_refusals(world, x_t):
    prior, dense, cubic = world().prior, world("dense").problem, world("cubic").problem
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"DDRM needs a singular value decomposition .* Dense"):
        sample(key, prior, dense, ddrm(), steps=2)
    for sampler, name in ((ddnm(), "DDNM"), (repaint(), "RePaint")):
        with pytest.raises(ValueError, match=f"{name} needs a linear operator with a pseudo-inverse, and Cubic"):
            sample(key, prior, cubic, sampler, steps=2)
    with pytest.raises(ValueError, match=r"Dense does not know; use ddnm\(form='simple'\)"):
        sample(key, prior, dense, ddnm(form="spectral"), steps=2)
    with pytest.raises(ValueError, match="cannot replay recorded noise"):
        sample(key, prior, world().problem, repaint(), steps=2, noise=jnp.zeros((2, *x_t.shape)))
    for make in (ddrm, ddnm, repaint):
        with pytest.raises(ValueError, match="give a problem"):
            sample(key, prior, None, make(), steps=2)
    with pytest.raises(ValueError, match="at least 0 and at most 1"):
        ddrm(eta=1.2)
    with pytest.raises(ValueError, match="unknown form"):
        ddnm(form="x")
    with pytest.raises(ValueError, match="jump_length"):
        repaint(jump_length=0)
