"""Networks of one's own: a plain function, linen, nnx, and equinox where it is installed, against calls of the same by hand."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdiff as jd
from jaxdiff import operators, samplers, schedules
from jaxdiff.denoisers import Preconditioning, from_function, from_module

SHAPE = (4, 4, 3)
SCHEDULE = schedules.linear(100)
X = jnp.linspace(-1, 1, 48).reshape(SHAPE)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, t, y=None):
        label = 0 if y is None else linen.Embed(3, 3)(y)[:, None, None, :]
        return linen.Dense(3)(x) * jnp.cos(t).reshape(-1, 1, 1, 1) + label


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x, t):
        return self.dense(x) * jnp.cos(t).reshape(-1, 1, 1, 1)


def test_a_linen_module_with_and_without_a_label():
    module = Linen()
    variables = module.init(jax.random.key(0), X[None], jnp.ones(1), jnp.zeros(1, jnp.int32))
    conditional = from_module(module, variables, schedule=SCHEDULE, image_shape=SHAPE, label=2)
    wanted = module.apply(variables, X[None], jnp.ones(1) * 7, jnp.array([2]))[0]
    np.testing.assert_allclose(conditional(X, jnp.int32(7)).eps, wanted, rtol=1e-6)
    with pytest.raises(ValueError, match="give variables"):
        from_module(module, schedule=SCHEDULE, image_shape=SHAPE)


def test_an_nnx_module_predicts_v():
    module = Nnx(nnx.Rngs(0))
    denoiser = from_module(module, schedule=SCHEDULE, prediction="v", image_shape=SHAPE)
    found = denoiser(X, jnp.int32(30))
    level = SCHEDULE.at(jnp.int32(30))
    v = module(X[None], jnp.array([30.0]))[0]
    np.testing.assert_allclose(level.signal * found.eps - level.noise * found.x0, v, atol=1e-5)


def test_an_equinox_module_of_one_image_channels_first():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        conv: eqx.nn.Conv2d

        def __call__(self, x, t):
            return self.conv(x) * jnp.cos(t)

    net = Net(eqx.nn.Conv2d(3, 3, 3, padding=1, key=jax.random.key(0)))
    options = {"schedule": SCHEDULE, "image_shape": SHAPE, "batched": False, "channels_first": True}
    denoiser = from_module(net, **options)
    wanted = jnp.moveaxis(net(jnp.moveaxis(X, -1, 0), jnp.float32(5)), 0, -1)
    np.testing.assert_allclose(denoiser(X, jnp.int32(5)).eps, wanted, rtol=1e-5, atol=1e-6)


def test_a_network_that_is_told_sigma_and_gives_the_clean_image():
    levels = schedules.karras(100)
    denoiser = from_function(
        lambda p, x, s: p * x / (1 + s.reshape(-1, 1, 1, 1) ** 2),
        0.5,
        schedule=levels,
        prediction="denoised",
        image_shape=SHAPE,
    )
    np.testing.assert_allclose(denoiser.denoise(X, 2.0), 0.1 * X, rtol=1e-6)


def test_a_velocity_network_of_one_image_with_its_channels_first():
    def velocity(params, x, t):
        assert x.shape == (3, 4, 4)
        return params * x * t

    denoiser = from_function(
        velocity,
        0.5,
        schedule=schedules.karras(100),
        prediction="flow",
        image_shape=SHAPE,
        batched=False,
        channels_first=True,
    )
    # σ = 1 is the middle of the path: x_t = x/2, and x̂₀ = x_t − t F.
    np.testing.assert_allclose(denoiser.denoise(X, 1.0), X / 2 - 0.5 * (0.5 * X / 2 * 0.5), rtol=1e-6)


def test_new_parameters_cost_no_new_trace():
    traces = []

    def network(params, x, t):
        traces.append(0)
        return params * x

    denoiser = from_function(network, jnp.float32(1), schedule=SCHEDULE, image_shape=SHAPE)
    call = jax.jit(lambda d: d(X, jnp.int32(3)).eps)
    call(denoiser)
    count = len(traces)
    np.testing.assert_allclose(call(denoiser.replace(params=jnp.float32(2))), 2 * X)
    assert len(traces) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction": "epsilon"}, "unknown prediction 'epsilon'"),
        ({"prediction": "subvp"}, "give preconditioning="),
        ({"channels_first": True}, "check image_shape, batched and channels_first"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    def network(params, x, t):
        return x[..., :2] if options.get("channels_first") else x

    with pytest.raises(ValueError, match=message):
        from_function(network, (), schedule=SCHEDULE, image_shape=SHAPE, **options)


@pytest.mark.parametrize(
    "network",
    [lambda x, t: x, lambda p, x, t: np.asarray(x), lambda p, x, t: x * jnp.ones(1000)[t][:, None, None, None]],
)
def test_a_function_that_cannot_be_called_is_refused(network):
    with pytest.raises(ValueError, match=r"cannot be called with \(params, x, t\)"):
        from_function(network, (), schedule=SCHEDULE, image_shape=SHAPE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": None}, "schedule must be one of jaxdiff.schedules"),
        ({"schedule": "linear"}, "got 'linear'"),
        ({"image_shape": 64}, "image_shape must be three positive integers"),
        ({"image_shape": (8, 8)}, "image_shape must be three positive integers"),
        ({"apply": None}, r"apply must be a function of \(params, x, t\), got None"),
        ({"preconditioning": "edm"}, "preconditioning must be a Preconditioning or None, got 'edm'"),
        ({"prediction": ["v"]}, "unknown prediction"),
        ({"label": "cat"}, "label must be a whole number or None, got 'cat'"),
        ({"label": 1.5}, "label must be a whole number"),
    ],
)
def test_arguments_of_another_kind_are_refused(options, message):
    given = {"apply": lambda p, x, t: x, "params": (), "schedule": SCHEDULE, "image_shape": SHAPE} | options
    with pytest.raises(ValueError, match=message):
        from_function(**given)


def test_a_linen_class_and_bare_parameters_are_refused():
    variables = Linen().init(jax.random.key(0), X[None], jnp.ones(1))
    options = {"schedule": SCHEDULE, "image_shape": SHAPE}
    with pytest.raises(ValueError, match="Linen is a class; give a module"):
        from_module(Linen, variables, **options)
    with pytest.raises(ValueError, match=r'variables have no "params"; give what module\.init returned'):
        from_module(Linen(), variables["params"], **options)


@pytest.mark.parametrize(
    ("x", "sigma", "message"),
    [
        (np.zeros(SHAPE, np.uint8), 0.5, "takes floating-point values .* got uint8"),
        (X, -1.0, "sigma must lie in"),
        (X, 0, "sigma must lie in"),
        (X, float("nan"), "sigma must lie in"),
        (X, jnp.ones(2), "sigma must be a number"),
        (X, "0.5", "sigma must be a number"),
    ],
)
def test_images_and_levels_that_cannot_be(x, sigma, message):
    denoiser = from_function(lambda p, x, t: x, (), schedule=SCHEDULE, image_shape=SHAPE)
    with pytest.raises(ValueError, match=message):
        denoiser.denoise(x, sigma)


def test_an_object_that_is_no_module_is_refused():
    with pytest.raises(ValueError, match="no module of linen, nnx or equinox"):
        from_module(print, schedule=SCHEDULE, image_shape=SHAPE)


def test_the_form_of_edm_may_be_said_in_full():
    form = Preconditioning("edm", "edm", sigma_data=0.4)
    denoiser = from_function(
        lambda p, x, c: 0 * x, (), schedule=schedules.karras(50), image_shape=SHAPE, preconditioning=form
    )
    np.testing.assert_allclose(denoiser.denoise(X, 0.3), 0.16 / 0.25 * X, rtol=1e-6)


def linen_prior():
    module = Linen()
    variables = module.init(jax.random.key(0), X[None], jnp.ones(1), jnp.zeros(1, jnp.int32))
    return from_module(module, variables, schedule=SCHEDULE, image_shape=SHAPE, label=2)


def nnx_prior():
    return from_module(Nnx(nnx.Rngs(0)), schedule=SCHEDULE, prediction="v", image_shape=SHAPE)


def flow_prior():
    options = {"schedule": schedules.karras(100), "image_shape": SHAPE, "prediction": "flow"}
    return from_function(lambda p, x, t: p * x * t.reshape(-1, 1, 1, 1), 0.5, **options)


@pytest.mark.slow
@pytest.mark.parametrize("make", [linen_prior, nnx_prior, flow_prior])
def test_dps_runs_on_it(make):
    problem = jd.observe(jax.random.key(0), operators.inpaint_box(image_shape=SHAPE, size=2), X, 0.1)
    image, _ = jd.sample(jax.random.key(1), make(), problem, samplers.dps(), steps=3)
    assert image.shape == SHAPE
    assert np.isfinite(image).all()
