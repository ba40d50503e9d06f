"""Properties of the network that no reference value shows: types, sizes, refusals, norms, dropout, compilation."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util
from flax.errors import ScopeParamShapeError

from jaxdiff.models import PRESETS, PriorConfig, UNet, UNetConfig, layers, parameter_shapes, unet
from jaxdiff.models.unet import GroupNorm
from tests.support.tiers import fast_only

SMALL = UNetConfig(
    image_size=8,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_factors=(2,),
    num_head_channels=16,
    use_scale_shift_norm=True,
    resblock_updown=True,
)

TINY = dataclasses.replace(SMALL, channel_mult=(1,), attention_factors=(), resblock_updown=False)


def make_params(config, seed=0):
    """Random weights in every layer, the ones that training starts at zero too."""
    generator = np.random.default_rng(seed)
    flat = {}
    for name, shape in parameter_shapes(config).items():
        spread = 0.1 if name.endswith(("bias", "scale")) else 1 / math.sqrt(math.prod(shape[:-1]))
        value = generator.standard_normal(shape) * spread + (1 if name.endswith("scale") else 0)
        flat[name] = jnp.asarray(value, jnp.float32)
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.fixture(scope="module")
def params():
    return make_params(SMALL)


@pytest.fixture(scope="module")
def tiny():
    return make_params(TINY)


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, x, t):
    return module.apply({"params": params}, x, t)


X = jax.random.normal(jax.random.key(0), (3, 8, 8, 3))
T = jnp.array([3, 250, 999])


def relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


VARIATIONS = [
    {},
    {"resblock_updown": False},
    {"resblock_updown": False, "conv_resample": False},
    {"use_scale_shift_norm": False, "num_classes": 4, "out_channels": 6},
    {"channel_mult": (0.5, 1.5, 1), "model_channels": 64, "num_res_blocks": 2, "attention_factors": ()},
    {"num_head_channels": None, "num_heads": 2, "num_heads_upsample": 4, "attention_order": "new"},
    {"num_res_blocks": (1, 3)},
    {"patch_size": 2, "norm_groups": 8},
]


@pytest.mark.parametrize("changes", VARIATIONS)
def test_shapes_without_tracing_equal_those_of_a_trace(changes):
    config = dataclasses.replace(SMALL, **changes)
    labels = None if config.num_classes is None else jnp.zeros((1,), jnp.int32)
    traced = jax.eval_shape(UNet(config).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros((1,)), labels)
    flat = traverse_util.flatten_dict(traced["params"], sep="/")
    assert {name: leaf.shape for name, leaf in flat.items()} == parameter_shapes(config)
    assert {leaf.dtype for leaf in flat.values()} == {jnp.dtype(jnp.float32)}


def test_a_network_of_patches_is_the_plain_network_of_an_image_with_more_channels():
    config = dataclasses.replace(SMALL, patch_size=2, out_channels=6)
    plain = dataclasses.replace(SMALL, image_size=4, in_channels=12, out_channels=24)
    params = make_params(config)
    corners = [X[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    wanted = run(UNet(plain), params, jnp.concatenate(corners, -1), T)
    found = run(UNet(config), params, X, T)
    assert found.shape == (3, 8, 8, 6)
    for number, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        np.testing.assert_array_equal(found[:, i::2, j::2], wanted[..., 6 * number : 6 * number + 6])


def test_every_norm_has_the_groups_of_the_configuration(params):
    seen = []

    def watch(call, arguments, options, context):
        if isinstance(context.module, GroupNorm):
            seen.append(context.module.groups)
        return call(*arguments, **options)

    with nn.intercept_methods(watch):
        jax.eval_shape(UNet(dataclasses.replace(SMALL, norm_groups=8)).apply, {"params": params}, X, T)
    assert len(seen) > 10
    assert set(seen) == {8}


def test_one_number_of_blocks_for_all_levels_is_one_description():
    listed = dataclasses.replace(SMALL, num_res_blocks=[2] * (SMALL.depth + 1))
    assert listed == dataclasses.replace(SMALL, num_res_blocks=2)
    uneven = dataclasses.replace(SMALL, num_res_blocks=[1, 2])
    assert UNetConfig.from_json(uneven.to_json()) == uneven
    assert hash(uneven) == hash(UNetConfig.from_json(uneven.to_json()))


@pytest.mark.parametrize("name", fast_only(["faces64"], PRESETS))
def test_presets_trace_at_their_size(name):
    preset = PRESETS[name]
    config, size = preset.unet, preset.unet.image_size
    labels = None if config.num_classes is None else jax.ShapeDtypeStruct((1,), jnp.int32)
    shapes = {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in parameter_shapes(config).items()}
    variables = {"params": traverse_util.unflatten_dict(shapes, sep="/")}
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    out = jax.eval_shape(UNet(config).apply, variables, x, jax.ShapeDtypeStruct((1,), jnp.int32), labels)
    assert (out.shape, out.dtype) == ((1, size, size, 6 if config.learn_sigma else 3), jnp.float32)
    assert PriorConfig.from_dict(preset.to_dict()) == preset
    assert UNetConfig.from_json(config.to_json()) == config


@pytest.mark.slow
def test_batch_equals_each_alone(params):
    whole = run(UNet(SMALL), params, X, T)
    for i in range(3):
        np.testing.assert_allclose(run(UNet(SMALL), params, X[i : i + 1], T[i : i + 1])[0], whole[i], atol=2e-5)


@pytest.mark.slow
def test_jit_equals_no_jit(tiny):
    with jax.disable_jit():
        plain = UNet(TINY).apply({"params": tiny}, X, T)
    np.testing.assert_allclose(plain, run(UNet(TINY), tiny, X, T), atol=2e-5)


@pytest.mark.slow
def test_images_of_a_batch_do_not_see_each_other(tiny):
    gradient = jax.jit(jax.grad(lambda x, params: jnp.sum(UNet(TINY).apply({"params": params}, x, T)[0])))(X, tiny)
    assert float(jnp.abs(gradient[0]).max()) > 0
    assert float(jnp.abs(gradient[1:]).max()) == 0


def test_new_weights_cost_no_compilation(tiny):
    traces = []

    @jax.jit
    def traced(params, x):
        traces.append(1)
        return UNet(TINY).apply({"params": params}, x, T)

    traced(tiny, X)
    traced(jax.tree.map(lambda p: p * 2, tiny), X)
    assert len(traces) == 1
    assert hash(UNet(TINY)) == hash(UNet(dataclasses.replace(TINY)))


@pytest.mark.slow
def test_bfloat16_computes_near_float32_and_keeps_its_output_wide(tiny):
    expected, found = run(UNet(TINY), tiny, X, T), run(UNet(TINY, jnp.bfloat16), tiny, X, T)
    assert found.dtype == jnp.float32
    assert 1e-4 < relative(found, expected) < 0.03
    # The head is float32: its outputs are not on bfloat16's grid.
    assert not np.array_equal(found, found.astype(jnp.bfloat16).astype(jnp.float32))
    made = jax.eval_shape(UNet(TINY, jnp.bfloat16).init, jax.random.key(0), X, T)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype(jnp.float32)}


@pytest.mark.slow
def test_float64_is_kept_out_and_can_be_asked_for(tiny):
    expected = run(UNet(TINY), tiny, X, T)
    with jax.enable_x64(True):
        x, t = jnp.asarray(np.asarray(X), jnp.float64), jnp.asarray(np.asarray(T))
        narrow, wide = run(UNet(TINY), tiny, x, t), run(UNet(TINY, jnp.float64), tiny, x, t)
    assert narrow.dtype == jnp.float32
    assert wide.dtype == jnp.float64
    np.testing.assert_allclose(narrow, expected, atol=1e-5)
    np.testing.assert_allclose(wide, expected, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 30.0, 3000.0])
@pytest.mark.parametrize("film", [False, True])
def test_group_norm_against_float64_even_far_from_zero(offset, film):
    generator = np.random.default_rng(1)
    x = (generator.standard_normal((2, 5, 6, 64)) + offset).astype(np.float32)
    gain, bias = generator.standard_normal((2, 64)).astype(np.float32)
    both = generator.standard_normal((2, 128)).astype(np.float32)
    variables = {"params": {"scale": jnp.asarray(gain), "bias": jnp.asarray(bias)}}
    found = GroupNorm().apply(variables, jnp.asarray(x), jnp.asarray(both) if film else None)
    groups = x.astype(np.float64).reshape(2, 30, 32, 2)
    centred = groups - groups.mean((1, 3), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-5)
    expected = expected.reshape(x.shape) * gain + bias
    if film:
        expected = expected * (1 + both[:, None, None, :64]) + both[:, None, None, 64:]
    np.testing.assert_allclose(found, expected, atol=1e-4 if offset < 100 else 5e-3)


@pytest.mark.slow
def test_group_norm_second_derivatives():
    with jax.enable_x64(True):
        generator = np.random.default_rng(2)
        x = jnp.asarray(generator.standard_normal((1, 2, 3, 64)))
        v = jnp.asarray(generator.standard_normal(x.shape))
        variables = {"params": {"scale": jnp.ones(64), "bias": jnp.zeros(64)}}

        def plain(x):
            groups = x.reshape(1, 6, 32, 2)
            centred = groups - groups.mean((1, 3), keepdims=True)
            return (centred / jnp.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-5)).reshape(x.shape)

        def products(f):
            return jax.jvp(jax.grad(lambda x: jnp.sum(f(x) ** 3 * v)), (x,), (v,))

        ours = products(lambda x: GroupNorm(jnp.float64).apply(variables, x))
        for a, b in zip(ours, products(plain), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_attention_needs_no_neighbours(params):
    # Without position features, moving all pixels of an attention layer's input moves its output alike.
    from jaxdiff.models.unet import Attention

    layer = Attention(4, SMALL)
    x = jax.random.normal(jax.random.key(3), (1, 4, 4, 64))
    variables = {"params": params["middle_block_1"]}
    moved = layer.apply(variables, jnp.roll(x, (1, 2), (1, 2)))
    np.testing.assert_allclose(moved, jnp.roll(layer.apply(variables, x), (1, 2), (1, 2)), atol=1e-5)


def test_heads():
    config = dataclasses.replace(SMALL, num_head_channels=None, num_heads=2, num_heads_upsample=4)
    assert (config.heads(64), config.heads(64, up=True)) == (2, 4)
    assert dataclasses.replace(config, num_head_channels=16).heads(64, up=True) == 4
    assert dataclasses.replace(config, num_heads_upsample=None).heads(64, up=True) == 2


@pytest.mark.slow
def test_dropout_acts_in_training_alone(tiny):
    module = UNet(dataclasses.replace(TINY, dropout=0.5))
    plain = run(module, tiny, X, T)
    np.testing.assert_array_equal(plain, run(UNet(TINY), tiny, X, T))
    train = jax.jit(lambda params, key: module.apply({"params": params}, X, T, train=True, rngs={"dropout": key}))
    dropped = [train(tiny, jax.random.key(i)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert relative(dropped[0], plain) > 0.01
    assert relative(dropped[2], dropped[0]) > 0.01


def test_a_fresh_network_predicts_zero():
    made = jax.jit(UNet(TINY).init)(jax.random.key(0), X, T)["params"]
    assert float(jnp.abs(run(UNet(TINY), made, X, T)).max()) == 0
    kernel = made["input_blocks_1_0"]["in_layers_2"]["kernel"]
    # PyTorch's default: uniform within 1/sqrt(fan-in).
    bound = 1 / math.sqrt(9 * 32)
    assert 0.9 * bound < float(jnp.abs(kernel).max()) <= bound


def test_it_lowers_for_every_platform(params):
    exported = jax.export.export(jax.jit(UNet(SMALL).apply), platforms=("cpu", "cuda", "tpu"))({"params": params}, X, T)
    assert exported.platforms == ("cpu", "cuda", "tpu")


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "t", "y", "message"),
    [
        ((1, 8, 9, 3), (1,), None, "multiples of 2; got 8 × 9: crop or resize to 8 × 8"),
        ((1, 1, 8, 3), (1,), None, "crop or resize to 2 × 8"),
        ((1, 0, 8, 3), (1,), None, "multiples of 2"),
        ((8, 8, 3), (1,), None, r"takes x \[N, H, W, 3\], got shape \(8, 8, 3\)"),
        ((1, 8, 8, 1), (1,), None, "takes x"),
        ((2, 8, 8, 3), (1,), None, r"one timestep an image, t \[2\]"),
        ((2, 8, 8, 3), (), None, "one timestep an image"),
        ((1, 8, 8, 3), (1,), (1,), "takes no labels"),
    ],
)
def test_inputs_that_do_not_suit(x, t, y, message):
    labels = None if y is None else jnp.zeros(y, jnp.int32)
    with pytest.raises(ValueError, match=message):
        UNet(SMALL).init(jax.random.key(0), jnp.zeros(x), jnp.zeros(t), labels)


def test_labels_that_do_not_suit():
    module = UNet(dataclasses.replace(SMALL, num_classes=4))
    with pytest.raises(ValueError, match=r"needs labels y \[3\] in 0 … 3"):
        module.init(jax.random.key(0), X, T)
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        module.init(jax.random.key(0), X, T, jnp.zeros((3,)))
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        module.init(jax.random.key(0), X, T, jnp.zeros((2,), jnp.int32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_channels": 40}, "norm groups do not divide"),
        ({"channel_mult": (1, 0.01)}, "norm groups do not divide"),
        ({"channel_mult": ()}, "channel_mult needs"),
        ({"channel_mult": (1, -2)}, "channel_mult needs"),
        ({"channel_mult": (1, "2")}, "channel_mult needs"),
        ({"num_head_channels": 48}, "cannot be split into heads"),
        ({"num_head_channels": 128}, "cannot be split into heads"),
        ({"num_head_channels": None, "num_heads": 3}, "cannot be split into heads"),
        ({"attention_factors": (3,)}, "powers of two"),
        ({"attention_order": "old"}, "'legacy' or 'new'"),
        ({"num_res_blocks": 0}, "num_res_blocks must be a positive whole number"),
        ({"out_channels": True}, "out_channels must be"),
        ({"num_classes": 0}, "num_classes must be"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"resblock_updown": 1}, "true or false"),
        ({"image_size": 15}, "image_size=15 cannot be halved 1 times for 2 levels; use a multiple of 2"),
        ({"image_size": 20, "patch_size": 4}, "2 levels after patches of 4; use a multiple of 8"),
        ({"patch_size": 0}, "patch_size must be a positive whole number"),
        ({"patch_size": 2**7}, "patch_size must be at most 64"),
        ({"norm_groups": 48}, "48 norm groups do not divide"),
        ({"image_size": 10**7}, "image_size must be at most 2048"),
        ({"num_res_blocks": 10**12}, "num_res_blocks must be at most 64"),
        ({"num_res_blocks": (1, 65)}, r"num_res_blocks\[1\] must be at most 64"),
        ({"num_res_blocks": (1, 0)}, r"num_res_blocks\[1\] must be a positive whole number"),
        ({"num_res_blocks": (1, 2, 3)}, "has 3 numbers for 2 levels; give one a level"),
        ({"num_res_blocks": ()}, "has 0 numbers for 2 levels"),
        ({"num_classes": 10**400}, "num_classes must be at most"),
        ({"channel_mult": (1, 1e308)}, "at most 1024"),
        ({"channel_mult": (1, 10**400)}, "at most 1024"),
        ({"channel_mult": (1, math.nan)}, "channel_mult needs"),
    ],
)
def test_configurations_that_do_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variance": "learned_range"}, "does not suit a network with 3 output channels"),
        ({"schedule": "quadratic"}, "schedule must be one of linear"),
        ({"prediction": "score"}, "prediction must be one of"),
        ({"num_steps": 0}, "num_steps must be"),
    ],
)
def test_processes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        PriorConfig(SMALL, **({"variance": "fixed_small"} | changes))


def test_a_trace_runs_no_initialiser(tiny, monkeypatch):
    def initialiser(*_):
        pytest.fail("the parameters are there")

    for room in (layers, unet):
        monkeypatch.setattr(room, "uniform", initialiser)
        monkeypatch.setattr(room, "zeros", initialiser)
    jax.eval_shape(UNet(TINY).apply, {"params": tiny}, X, T)


@pytest.mark.parametrize("name", ["input_blocks_0_0/bias", "time_embed_0/kernel", "out_0/scale"])
def test_a_parameter_of_another_shape_is_refused(tiny, name):
    flat = traverse_util.flatten_dict(tiny, sep="/")
    wrong = traverse_util.unflatten_dict(flat | {name: flat[name][:1]}, sep="/")
    with pytest.raises(ScopeParamShapeError, match=name.split("/")[0]):
        jax.eval_shape(UNet(TINY).apply, {"params": wrong}, X, T)
