"""What every sampler promises, one table for all of them: the methods named here are all that the package exports."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators, samplers, schedules
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.problems import Problem, observe
from tests.support.networks import tiny_denoiser
from tests.support.operators import Cubic, Dense
from tests.support.tiers import fast_only

SHAPE = (8, 8, 1)
STEPS = 2
SCHEDULE = schedules.linear(100)


# name -> factory, small enough for tests
TABLE = {
    "ddpm": samplers.ddpm,
    "ddim": functools.partial(samplers.ddim, eta=0.5),
    "heun": samplers.heun,
    "heun_churn": functools.partial(samplers.heun, churn=0.2),
    "dpm_solver": samplers.dpm_solver,
    "sdedit": functools.partial(samplers.sdedit, start=80),
    "score_ald": functools.partial(samplers.score_ald, strength=0.5),
    "dps": samplers.dps,
    "dps_gradient": functools.partial(samplers.dps, norm="gradient"),
    "mmps": functools.partial(samplers.mmps, iterations=2),
    "mmps_cg": functools.partial(samplers.mmps, iterations=2, solver="cg"),
    "pigdm": functools.partial(samplers.pigdm, iterations=2),
    "pigdm_original": functools.partial(samplers.pigdm, iterations=2, form="original"),
    "tmpd": samplers.tmpd,
    "mcg": samplers.mcg,
    "dsg": samplers.dsg,
    "lgd_mc": functools.partial(samplers.lgd_mc, draws=2),
    "ddnm": samplers.ddnm,
    "ddnm_simple": functools.partial(samplers.ddnm, form="simple"),
    "ddrm": samplers.ddrm,
    "repaint": functools.partial(samplers.repaint, jump_length=1, jump_samples=2),
    "diffpir": samplers.diffpir,
    "reddiff": samplers.reddiff,
    "sitcom": functools.partial(samplers.sitcom, iterations=2),
    "pnp_dm": functools.partial(samplers.pnp_dm, prior_steps=2, langevin_steps=2),
    "fast_dips": functools.partial(samplers.fast_dips, rounds=2),
    "flower": samplers.flower,
    "flower_draw": functools.partial(samplers.flower, draw=True),
    "pnp_flow": functools.partial(samplers.pnp_flow, draws=2),
    "daps": functools.partial(samplers.daps, ode_steps=2, mcmc_steps=2),
    "daps_hmc": functools.partial(samplers.daps, ode_steps=2, mcmc_steps=2, inner="hmc"),
    "annealed_langevin": functools.partial(samplers.annealed_langevin, inner_steps=2),
    "tds": functools.partial(samplers.tds, particles=3),
    "fps": functools.partial(samplers.fps, particles=3),
}
UNCONDITIONAL = {*samplers.UNCONDITIONAL, "heun_churn"}
VARIANTS = {"heun_churn", "dps_gradient", "mmps_cg", "pigdm_original", "ddnm_simple", "daps_hmc", "flower_draw"}
METHODS = [name for name in TABLE if name not in VARIANTS]
EAGER = ["ddim", "heun", "dps", "mmps", "ddrm", "repaint", "sitcom", "fast_dips", "daps", "tds"]
names = pytest.mark.parametrize("name", fast_only(METHODS, TABLE))
methods = pytest.mark.parametrize("name", METHODS)


@functools.cache
def denoiser():
    return tiny_denoiser(SHAPE, SCHEDULE, learned_variance=True, clip=False)


@functools.cache
def problem(kind="mask"):
    image = jnp.tanh(jax.random.normal(jax.random.key(1), SHAPE))
    if kind == "mask":
        operator = operators.inpaint_random(jax.random.key(2), image_shape=SHAPE, fraction=0.5)
    elif kind == "dense":
        operator = Dense(jax.random.normal(jax.random.key(3), (12, 64)) / 8, image_shape=SHAPE)
    else:
        operator = Cubic(jnp.asarray(0.3), image_shape=SHAPE)
    return observe(jax.random.key(4), operator, image, 0.1)


def restore(key, prior, measured, sampler):
    return samplers.sample(key, prior, measured, sampler, steps=STEPS)


@functools.cache
def compiled(name):
    """The method's one program, with how often it was traced."""
    traces = []

    @jax.jit
    def run(*arguments):
        traces.append(name)
        return restore(*arguments)

    return run, traces


def arguments(name, seed=0):
    return jax.random.key(seed), denoiser(), None if name in UNCONDITIONAL else problem(), TABLE[name]()


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_the_table_is_complete():
    assert {*samplers.METHODS, *samplers.UNCONDITIONAL} == set(METHODS)
    assert set(METHODS) <= set(samplers.__all__)


@names
def test_image_shaped_finite_and_compiled_once(name):
    run, traces = compiled(name)
    key, prior, measured, sampler = arguments(name)
    image, info = run(key, prior, measured, sampler)
    assert image.shape == SHAPE
    assert image.dtype == jnp.float32
    assert info._fields[0] == "residual"
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((image, info)))
    # New numbers everywhere (hyper-parameters, mask, y, σ, weights): the same program.
    other = operators.inpaint_random(jax.random.key(7), image_shape=SHAPE, fraction=0.3)
    changed = measured and Problem(other, measured.y * 0.9, measured.noise_std * 1.1)
    slower = jax.tree.map(lambda a: a * 0.9, sampler)
    again, _ = run(key, jax.tree.map(lambda a: a * 0.99, prior), changed, slower)
    assert len(traces) == 1
    assert bool(jnp.any(again != image))
    # The same key is the same image; another key is another, where the method draws at all.
    np.testing.assert_array_equal(run(key, prior, measured, sampler)[0], image)
    assert bool(jnp.any(run(jax.random.key(5), prior, measured, sampler)[0] != image))


@pytest.mark.parametrize("name", fast_only(UNCONDITIONAL & set(METHODS), METHODS))  # test_pairs asks the others by step
def test_a_batch_is_its_images(name):
    run, _ = compiled(name)
    _, prior, measured, sampler = arguments(name)
    keys = jax.random.split(jax.random.key(0), 2)
    scales = jnp.asarray([1.0, 0.5])

    def scaled(scale):
        return measured and Problem(measured.operator, measured.y * scale, measured.noise_std)

    batch = jax.jit(jax.vmap(lambda key, scale: restore(key, prior, scaled(scale), sampler)[0]))(keys, scales)
    for i in range(2):
        alone, _ = run(keys[i], prior, scaled(scales[i]), sampler)
        np.testing.assert_allclose(batch[i], alone, atol=2e-4, rtol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", fast_only(["ddrm"], EAGER))
def test_jit_changes_nothing(name):
    key, prior, measured, sampler = arguments(name)
    t, s = jnp.asarray(50), jnp.asarray(40)

    def one_step(key, prior, measured, sampler):
        init_key, step_key = jax.random.split(key)
        state = sampler.init(init_key, measured, prior, t)
        return sampler.step(step_key, state, t, s, measured, prior)[0].x

    eager = one_step(key, prior, measured, sampler)
    np.testing.assert_allclose(jax.jit(one_step)(key, prior, measured, sampler), eager, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", fast_only(["dps", "ddrm", "tds", "heun"], METHODS))
def test_exports_to_cpu_cuda_and_tpu(name):
    _, prior, measured, sampler = arguments(name)

    def program(key_data, prior, measured, sampler):
        return restore(jax.random.wrap_key_data(key_data), prior, measured, sampler)[0]

    key_data = jax.random.key_data(jax.random.key(0))
    exported = jax.export.export(jax.jit(program), platforms=["cpu", "cuda", "tpu"])(key_data, prior, measured, sampler)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.out_avals[0].shape == SHAPE


@pytest.mark.parametrize("name", fast_only(["dps", "ddrm", "ddpm"], METHODS))
def test_gradients_flow(name):
    """With respect to y, the weights and the hyper-parameters, all finite; y's not zero where it guides."""
    key, prior, measured, sampler = arguments(name)

    def loss(y, params, sampler):
        here = measured and Problem(measured.operator, y, measured.noise_std)
        return jnp.sum(restore(key, prior.replace(params=params), here, sampler)[0] ** 2)

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(problem().y, prior.params, sampler)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradients))
    assert bool(jnp.any(gradients[0] != 0)) != (name in UNCONDITIONAL)
    assert any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradients[1]))


@methods
@pytest.mark.parametrize("kind", ["dense", "cubic"])
def test_other_operators_are_served_or_refused_by_name(name, kind):
    _, prior, _, sampler = arguments(name)
    measured = problem(kind)
    refused = sampler.needs is None or not isinstance(measured.operator, sampler.needs)
    refused |= (name, kind) == ("sdedit", "cubic")  # it needs a picture to begin with
    words = "takes no measurement" if sampler.needs is None else type(measured.operator).__name__
    trace = functools.partial(jax.eval_shape, restore, jax.random.key(0), prior, measured, sampler)
    if refused:
        with pytest.raises(ValueError, match=words):
            trace()
    else:
        assert trace()[0].shape == SHAPE


@methods
def test_fractional_times(name):
    """Grids by noise level have times between the training timesteps."""
    _, prior, measured, sampler = arguments(name)
    grid = samplers.karras_grid(SCHEDULE, 4)
    shape = jax.eval_shape(
        lambda key: samplers.sample(key, prior, measured, sampler, steps=grid)[0], jax.random.key(0)
    ).shape
    assert shape == SHAPE


@pytest.mark.parametrize("name", fast_only(["dps", "daps"], METHODS))
def test_computes_in_the_precision_of_the_prior(name):
    """float64 from a float64 prior, also where hyper-parameters or y are float32; float32 from a float32 one."""
    _, single, measured, sampler = arguments(name)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        double = jax.tree.map(lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, (single, measured))
        run = functools.partial(samplers.sample, steps=STEPS)
        for prior, given in (double, (double[0], measured), (single, measured)):
            image, _ = jax.eval_shape(run, jax.random.key(0), prior, given, sampler)
            assert image.dtype == prior.schedule.alpha_bar.dtype


SMOOTH = ["dps", "mmps", "pigdm", "tmpd", "ddrm", "diffpir", "heun", "daps"]


@pytest.mark.parametrize("name", fast_only(["mmps", "heun"], SMOOTH))
def test_gradients_agree_with_finite_differences_in_float64(name):
    measured, sampler = None if name in UNCONDITIONAL else problem(), TABLE[name]()
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        prior = gaussian_prior(jnp.zeros(SHAPE, jnp.float64), jnp.asarray(0.2 * np.eye(64)), SCHEDULE)
        prior, measured, sampler = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (prior, measured, sampler))
        x_init, direction = jnp.asarray(rng.normal(size=SHAPE)), jnp.asarray(rng.normal(size=SHAPE))

        @jax.jit
        @jax.value_and_grad
        def loss(amount):
            here = measured and Problem(measured.operator, measured.y + amount * direction, measured.noise_std)
            scaled = jax.tree.map(lambda a: a * (1 + amount / 10), sampler)
            moved = x_init + amount * direction
            image, _ = samplers.sample(jax.random.key(0), prior, here, scaled, steps=STEPS, x_init=moved)
            assert image.dtype == jnp.float64
            return jnp.sum(image**3)

        h = 1e-5
        (ahead, _), (behind, _), (_, slope) = loss(h), loss(-h), loss(0.0)
        assert slope != 0
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmps", "dps"])
def test_where_the_method_needs_it_the_clip_is_off(name):
    """MMPS takes the derivative of x̂₀ for its covariance: a prior that clips gives it the run of one that does not."""
    key, prior, measured, sampler = arguments(name)
    large = Problem(measured.operator, 3 * measured.y, measured.noise_std)
    free, clipped = (restore(key, prior.replace(clip=clip), large, sampler)[0] for clip in (False, True))
    assert bool(jnp.all(free == clipped)) != sampler.clips
