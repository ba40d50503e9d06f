"""Every method × one operator of each family: a step that is traced, or a refusal that names both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops
from jaxdiff import samplers, schedules
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.operators import LinearOperator, SpectralOperator
from jaxdiff.problems import observe

SHAPE = (8, 8, 3)
KEY = jax.random.key(7)
FAMILIES = {
    "masking": lambda: ops.inpaint_box(image_shape=SHAPE, size=4),
    "convolution": lambda: ops.gaussian_blur(image_shape=SHAPE, size=5, std=0.8),
    "varying": lambda: ops.varying_blur(image_shape=SHAPE, kernels=np.full((2, 3, 3), 1 / 9)),
    "resampling": lambda: ops.super_resolution(image_shape=SHAPE, factor=2),
    "color": lambda: ops.bayer_mosaic(image_shape=SHAPE),
    "fourier": lambda: ops.mri(image_shape=SHAPE, mask=ops.cartesian_mask(KEY, shape=(8, 8), acceleration=2)),
    "tomography": lambda: ops.ct(image_shape=SHAPE, angles=3),
    "sensing": lambda: ops.gaussian_sensing(KEY, image_shape=SHAPE, ratio=0.2),
    "algebra": lambda: ops.stack(ops.grayscale(image_shape=SHAPE), ops.outpaint(image_shape=SHAPE)),
    "phase_retrieval": lambda: ops.phase_retrieval(image_shape=SHAPE),
    "high_dynamic_range": lambda: ops.high_dynamic_range(image_shape=SHAPE),
    "jpeg": lambda: ops.jpeg(image_shape=SHAPE, quality=30),
}
POSTERIOR = {
    "sdedit": functools.partial(samplers.sdedit, start=80),
    "score_ald": samplers.score_ald,
    "dps": samplers.dps,
    "mcg": samplers.mcg,
    "dsg": samplers.dsg,
    "lgd_mc": functools.partial(samplers.lgd_mc, draws=2),
    "pigdm": functools.partial(samplers.pigdm, iterations=2),
    "tmpd": samplers.tmpd,
    "mmps": functools.partial(samplers.mmps, iterations=2),
    "ddnm": samplers.ddnm,
    "ddrm": samplers.ddrm,
    "repaint": samplers.repaint,
    "diffpir": samplers.diffpir,
    "reddiff": samplers.reddiff,
    "sitcom": functools.partial(samplers.sitcom, iterations=2),
    "pnp_dm": functools.partial(samplers.pnp_dm, prior_steps=2, langevin_steps=2),
    "fast_dips": functools.partial(samplers.fast_dips, rounds=2),
    "daps": functools.partial(samplers.daps, ode_steps=2, mcmc_steps=2),
    "annealed_langevin": samplers.annealed_langevin,
    "tds": functools.partial(samplers.tds, particles=2),
    "fps": functools.partial(samplers.fps, particles=2),
}
NEEDS = {
    "mcg": LinearOperator,
    "ddnm": LinearOperator,
    "repaint": LinearOperator,
    "fps": LinearOperator,
    "ddrm": SpectralOperator,
}
"""What a method cannot do without; the others serve whatever is differentiable."""


def served(name, problem):
    if name == "sdedit":  # starts from a picture: y itself, or its pseudo-inverse
        return problem.y.shape == SHAPE or isinstance(problem.operator, LinearOperator)
    return isinstance(problem.operator, NEEDS.get(name, object))


@functools.cache
def measured(family):
    operator = FAMILIES[family]()
    return observe(KEY, operator, jnp.tanh(jax.random.normal(KEY, SHAPE)), 0.1)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_no_method_is_left_out():
    from jaxdiff.experiments import tasks

    assert set(POSTERIOR) == set(tasks.METHODS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", POSTERIOR)
def test_a_pair_is_served_or_refused(name, family):
    prior = gaussian_prior(jnp.zeros(SHAPE), jnp.eye(192), schedules.linear(100))
    problem, sampler = measured(family), POSTERIOR[name]()

    def step(key, problem, sampler):
        state = sampler.init(key, problem, prior, jnp.asarray(50))
        return sampler.step(key, state, jnp.asarray(50), jnp.asarray(40), problem, prior)

    trace = functools.partial(jax.eval_shape, step, KEY, problem, sampler)
    if served(name, problem):
        state, info = trace()
        assert state.x.shape == SHAPE
        assert state.x.dtype == jnp.float32
        assert info.residual.shape == ()
    else:
        with pytest.raises(ValueError, match=type(problem.operator).__name__) as error:
            trace()
        assert name.replace("_", "") in str(error.value).lower().replace("-", "").replace(" ", "")
