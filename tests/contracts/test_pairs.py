"""Every method × one operator of each family: the contract of samplers holds for one step, or a refusal names both.

The fast tests trace each pair: shape, dtype, and one trace for new numbers. They compile one program for each method and for
each family: in float64, batch = single and finite gradients. The slow tests compile each pair in float32 for finite numbers,
run it eagerly, and export it. This asks the closer questions of all pairs:

    JAXDIFF_EVERY_PAIR=1 python -m pytest tests/contracts/test_pairs.py
"""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops
from jaxdiff import schedules
from jaxdiff.denoisers import gaussian_prior
from jaxdiff.operators import LinearOperator, Operator, SpectralOperator
from jaxdiff.problems import observe
from jaxdiff.samplers import METHODS, sample
from tests.support.tiers import fast_only

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
KINDS = {
    **dict.fromkeys(["masking", "convolution", "resampling", "color", "fourier", "sensing"], SpectralOperator),
    **dict.fromkeys(["varying", "tomography", "algebra"], LinearOperator),
    **dict.fromkeys(["phase_retrieval", "high_dynamic_range", "jpeg"], Operator),
}
"""What each family is, so that the pairs can be named before any operator is made."""
OPTIONS = {
    "sdedit": {"start": 80},
    "daps": {"ode_steps": 2, "mcmc_steps": 2},
    "tds": {"particles": 2},
    "fps": {"particles": 2},
}
"""Fewer than by default of what is looped over: the program is the same."""


def served(name, family):
    if name == "sdedit":  # starts from a picture: y itself, or its pseudo-inverse
        return family != "phase_retrieval"
    return issubclass(KINDS[family], METHODS[name].kind.needs)


@functools.cache
def prior():
    index = np.arange(192)
    covariance = 0.3 * 0.8 ** np.abs(index[:, None] - index)
    return gaussian_prior(jnp.full(SHAPE, 0.1), jnp.asarray(covariance, jnp.float32), schedules.linear(100))


@functools.cache
def measured(family):
    operator = FAMILIES[family]()
    return observe(KEY, operator, jnp.tanh(jax.random.normal(KEY, SHAPE)), 0.1)


@functools.cache
def sampler(name):
    return METHODS[name](**OPTIONS.get(name, {}))


def is_number(leaf):
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.inexact)


def at_least(dtype, tree):
    """The tree with its numbers in this precision, if theirs is lower."""
    return jax.tree.map(lambda a: a.astype(jnp.promote_types(a.dtype, dtype)) if is_number(a) else a, tree)


def step(key, prior, problem, sampler):
    """From pure noise at t = 50 to s = 40."""
    state = sampler.init(key, problem, prior, jnp.asarray(50))
    state, info = sampler.step(key, state, jnp.asarray(50), jnp.asarray(40), problem, prior)
    return state.x, info


def assert_alike(x, y):
    """The same but for rounding, and for where conjugate gradients stop, at 1e-6."""
    assert x.dtype == y.dtype == jnp.float64
    assert float(jnp.linalg.norm(x - y)) <= 1e-5 * float(jnp.linalg.norm(y))


def changed(tree):
    """The same structure, with other numbers."""
    return jax.tree.map(lambda leaf: leaf * 0.95 if is_number(leaf) else leaf, tree)


def split(tree):
    """Its numbers, and the function that puts others in their place."""
    leaves, structure = jax.tree.flatten(tree)
    kept = [None if is_number(leaf) else leaf for leaf in leaves]

    def with_numbers(numbers):
        numbers = iter(numbers)
        return structure.unflatten([next(numbers) if leaf is None else leaf for leaf in kept])

    return [leaf for leaf in leaves if is_number(leaf)], with_numbers


@functools.cache
def traced(name, family):
    """The pair's one program, with how often it was traced."""
    traces = []

    @jax.jit
    def run(*arguments):
        traces.append(name)
        return step(*arguments)

    return run, traces


def arguments(name, family):
    return KEY, prior(), measured(family), sampler(name)


@contextlib.contextmanager
def in_float64():
    """Promoting, since constants of the samplers are float32."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def doubled(name, family):
    """Arguments in float64, within ``in_float64``: A⁺ of CT and of varying blurs divides rounding by small numbers."""
    key, *rest = arguments(name, family)
    return key, *at_least(jnp.float64, rest)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


PAIRS = [(name, family) for name in METHODS for family in FAMILIES]
SERVED = [(name, family) for name, family in PAIRS if served(name, family)]
REFUSED = [pair for pair in PAIRS if pair not in SERVED]


def rotated(names, by):
    names = list(names)
    return names[by % len(names) :] + names[: by % len(names)]


SOME = {next((m, f) for f in rotated(FAMILIES, i) if (m, f) in SERVED) for i, m in enumerate(METHODS)}
SOME |= {
    next((m, f) for m in rotated(METHODS, 5 * j) if (m, f) in SERVED)
    for j, f in enumerate(FAMILIES)
    if f not in {family for _, family in SOME}
}
"""Each method and each family at least once, spread out."""
CLOSELY = SERVED if os.environ.get("JAXDIFF_EVERY_PAIR") else sorted(SOME)
every = pytest.mark.parametrize(("name", "family"), SERVED)
closely = pytest.mark.parametrize(("name", "family"), CLOSELY)
a_few = pytest.mark.parametrize(("name", "family"), fast_only(CLOSELY[:1], CLOSELY))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_of_its_kind(family):
    operator = measured(family).operator
    kinds = (SpectralOperator, LinearOperator, Operator)
    assert next(kind for kind in kinds if isinstance(operator, kind)) is KINDS[family]


@pytest.mark.parametrize(("name", "family"), REFUSED)
def test_a_pair_is_refused_by_name(name, family):
    operator = type(measured(family).operator).__name__
    with pytest.raises(ValueError, match=operator) as error:
        jax.eval_shape(functools.partial(sample, steps=2), *arguments(name, family))
    assert name.replace("_", "") in str(error.value).lower().replace("-", "").replace(" ", "")


@pytest.mark.parametrize(("name", "family"), fast_only(SOME, SERVED))
def test_image_shaped_and_traced_once(name, family):
    run, traces = traced(name, family)
    key, prior, problem, sampler = arguments(name, family)
    for given in ((prior, problem, sampler), changed((prior, problem, sampler))):
        x, info = run.eval_shape(key, *given)
        assert (x.shape, x.dtype) == (SHAPE, jnp.float32)
        assert info.residual.shape == ()
    assert len(traces) == 1


@pytest.mark.slow
@every
def test_every_pair_is_finite_and_new_numbers_change_it(name, family):
    run, traces = traced(name, family)
    key, prior, problem, sampler = arguments(name, family)
    x, info = run(key, prior, problem, sampler)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((x, info)))
    again, _ = run(key, changed(prior), changed(problem), changed(sampler))
    assert len(traces) == 1
    assert bool(jnp.any(again != x))


@pytest.mark.slow
@a_few
def test_a_batch_is_its_images_and_gradients_flow(name, family):
    """In one program. Gradients of y, the operator's numbers, the prior and the hyper-parameters: finite, and y's not zero."""
    with in_float64():
        _, *given = doubled(name, family)
        numbers, with_numbers = split(given)
        y = given[1].y

        @jax.jit
        def everything(numbers, keys, ys):
            prior, problem, sampler = with_numbers(numbers)

            def one(key_and_y):
                key, y = key_and_y
                return step(key, prior, problem.replace(y=y), sampler)[0]

            def loss(numbers):
                return jnp.sum(step(keys[0], *with_numbers(numbers))[0] ** 2)

            alone = jax.lax.map(one, (keys, ys))
            return alone, jax.vmap(one)((keys, ys)), jax.grad(loss)(numbers)

        alone, batch, gradients = everything(numbers, jax.random.split(KEY, 2), jnp.stack([y, y * 0.5]))
        for i in range(2):
            assert_alike(batch[i], alone[i])
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in (alone, *gradients))
        assert bool(jnp.any(with_numbers(gradients)[1].y != 0))


@pytest.mark.slow
@closely
def test_compiling_changes_nothing(name, family):
    with in_float64():
        double = doubled(name, family)
        assert_alike(jax.jit(step)(*double)[0], step(*double)[0])


@pytest.mark.slow
@closely
def test_exports_to_cpu_cuda_and_tpu(name, family):
    def program(key_data, *rest):
        return step(jax.random.wrap_key_data(key_data), *rest)[0]

    _, *rest = arguments(name, family)
    exported = jax.export.export(jax.jit(program), platforms=["cpu", "cuda", "tpu"])(jax.random.key_data(KEY), *rest)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.out_avals[0].shape == SHAPE


@pytest.mark.slow
@closely
def test_gradients_are_finite_in_float32(name, family):
    numbers, with_numbers = split(arguments(name, family)[1:])
    gradients = jax.jit(jax.grad(lambda numbers: jnp.sum(step(KEY, *with_numbers(numbers))[0] ** 2)))(numbers)
    assert all(bool(jnp.all(jnp.isfinite(gradient))) for gradient in gradients)
    # Of large gradients, as a phase retrieval's, the sign that RED-diff's first step takes has derivative 0 in float32.
    flat = (name, family) == ("reddiff", "phase_retrieval")
    assert bool(jnp.any(with_numbers(gradients)[1].y != 0)) != flat
