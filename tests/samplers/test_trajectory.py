"""The states that a run keeps are those that it went through, and keeping them changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators, samplers, schedules
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.problems import observe
from jaxdiff.samplers import sample
from jaxdiff.samplers.loop import grid_for, run, start, whole
from tests.contracts.test_samplers import TABLE
from tests.support.tiers import fast_only

SHAPE = (4, 4, 1)
SCHEDULE = schedules.linear(100)
KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(2)
    prior = gaussian_prior(jnp.asarray(rng.normal(size=SHAPE) / 3, jnp.float32), jnp.eye(16) * 0.2, SCHEDULE)
    mask = jnp.asarray(rng.permutation(16).reshape(4, 4) < 9, jnp.float32)
    operator = operators.inpaint_mask(mask, image_shape=SHAPE)
    return prior, observe(jax.random.key(1), operator, prior.mean.reshape(SHAPE), 0.1)


@pytest.mark.parametrize("name", fast_only(["dps", "reddiff"], TABLE))
def test_kept_states_are_those_of_the_run(world, name):
    prior, problem = world
    sampler = TABLE[name]()
    problem = None if sampler.needs is None else problem
    plain, info = sample(KEY, prior, problem, sampler, steps=6)
    image, same_info, path = sample(KEY, prior, problem, sampler, steps=6, trajectory=3)
    np.testing.assert_array_equal(image, plain)
    for a, b in zip(jax.tree.leaves(info), jax.tree.leaves(same_info), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(path.x[-1], image)
    if float(path.t[-1]) < 0 or not sampler.noisy:
        np.testing.assert_array_equal(path.x0[-1], image)

    grid = grid_for(prior, sampler, 6)
    index, t, s = whole(grid)
    end = int(np.ceil(len(t) / 3))  # the first of three states
    init_key, run_key = jax.random.split(KEY)
    state = start(init_key, prior, problem, sampler, grid)
    state, _ = run(run_key, state, prior, problem, sampler, (index[:end], t[:end], s[:end]))
    np.testing.assert_allclose(path.x[0], state.x, rtol=1e-4, atol=1e-5)
    assert float(path.t[0]) == float(s[end - 1])
    x0 = prior(state.x, s[end - 1], jnp.asarray(-1)).x0 if sampler.noisy else state.x
    np.testing.assert_allclose(path.x0[0], x0, rtol=1e-4, atol=1e-5)


def test_one_state_is_the_result_and_there_are_no_more_states_than_steps(world):
    image, _, path = sample(KEY, *world, samplers.dps(), steps=5, trajectory=1)
    np.testing.assert_array_equal(path.x, image[None])
    for wrong in (0, 6, 2.5, True):
        with pytest.raises(ValueError, match="1 to the run's 5 steps"):
            sample(KEY, *world, samplers.dps(), steps=5, trajectory=wrong)


@pytest.mark.slow
def test_states_are_kept_under_jit_vmap_and_grad(world):
    prior, problem = world

    def middle(zeta):
        _, _, path = sample(KEY, prior, problem, samplers.dps(zeta=zeta), steps=8, trajectory=4)
        return jnp.sum(path.x0[2] ** 2)

    zetas = jnp.asarray([0.3, 0.6])
    batched = jax.jit(jax.vmap(middle))(zetas)
    np.testing.assert_allclose(batched, [middle(zeta) for zeta in zetas], rtol=1e-5)
    slope = jax.grad(middle)(0.3)
    np.testing.assert_allclose(slope, (middle(0.32) - middle(0.28)) / 0.04, rtol=2e-2)
