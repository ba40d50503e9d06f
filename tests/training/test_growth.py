"""A grown network computes what the original computes, and learns in its new layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxdiff.checkpoints import load_checkpoint, save_checkpoint
from jaxdiff.models import PriorConfig, UNet, UNetConfig, parameter_shapes
from jaxdiff.training import start
from jaxdiff.training.growth import grow

SMALL = UNetConfig(
    image_size=8,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_factors=(),
    num_head_channels=32,
    use_scale_shift_norm=True,
)
T = jnp.asarray([0.0, 250.0, 999.0])
X = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))


def random_parameters(config, seed):
    """Weights of a network that is not near zero anywhere."""
    shapes, rng = parameter_shapes(config), np.random.default_rng(seed)
    flat = {}
    for name, shape in shapes.items():
        fan = max(1, int(np.prod(shape[:-1])))
        around = 1.0 if name.endswith("scale") else 0.0
        flat[name] = jnp.asarray(around + rng.standard_normal(shape) / np.sqrt(fan), jnp.float32)
    return traverse_util.unflatten_dict(flat, sep="/")


def fresh(config):
    return jax.jit(UNet(config).init)(jax.random.key(0), X, T)["params"]


GROWTHS = {
    "one level": ({"channel_mult": (1,)}, {"num_res_blocks": 2, "attention_factors": (1,)}),
    "deeper below": ({}, {"num_res_blocks": (1, 2), "attention_factors": (2,)}),
    "deeper above": ({}, {"num_res_blocks": (3, 1)}),
    "more of everything": (
        {"num_res_blocks": 2, "attention_factors": (2,)},
        {"num_res_blocks": (2, 4), "attention_factors": (1, 2)},
    ),
    "between": ({"channel_mult": (1, 2, 2)}, {"num_res_blocks": (2, 3, 2), "attention_factors": (4,)}),
    "resampling blocks": ({"resblock_updown": True}, {"num_res_blocks": 2, "attention_factors": (2,)}),
    "plain resampling": ({"conv_resample": False}, {"num_res_blocks": 2}),
    "no scale and shift": ({"use_scale_shift_norm": False, "out_channels": 6}, {"num_res_blocks": (1, 3)}),
}


def grown_pair(name):
    """A network with its weights, and what it grows to."""
    base, changes = GROWTHS[name]
    small = dataclasses.replace(SMALL, **base)
    large = dataclasses.replace(small, **changes)
    params = random_parameters(small, 0)
    return small, params, large, grow(params, small, large, fresh(large))


@pytest.mark.slow
@pytest.mark.parametrize("name", GROWTHS)
def test_the_function_stays(name):
    small, params, large, grown = grown_pair(name)
    shapes = {name: leaf.shape for name, leaf in traverse_util.flatten_dict(grown, sep="/").items()}
    assert shapes == parameter_shapes(large)
    before, after = (jax.jit(UNet(c).apply)({"params": p}, X, T) for c, p in ((small, params), (large, grown)))
    assert float(jnp.std(before)) > 0.1
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * float(jnp.std(before)))


@pytest.mark.slow
@pytest.mark.parametrize("name", GROWTHS)
def test_every_new_layer_learns(name):
    _, params, large, grown = grown_pair(name)
    loss = jax.grad(lambda params: jnp.sum(UNet(large).apply({"params": params}, X, T) ** 2))
    gradient = jax.jit(loss)(grown)
    # Each new branch ends in zeros; what moves it away from them arrives there.
    ends = [(layer, end) for layer in grown for end in ("out_layers_3", "proj_out") if end in grown[layer]]
    zero = [(layer, end) for layer, end in ends if not np.any(grown[layer][end]["kernel"])]
    assert len(zero) == len(grown) - len(params)
    for layer, end in zero:
        assert float(jnp.abs(gradient[layer][end]["kernel"]).max()) > 0, layer


def test_a_run_starts_from_a_grown_checkpoint(tiny, tmp_path):
    source = tiny()
    params = random_parameters(source.prior.unet, 3)
    given, out = tmp_path / "given.safetensors", tmp_path / "grown.safetensors"
    save_checkpoint(given, params, source.prior)
    config = tiny(init=str(given), prior__unet__num_res_blocks=[2], prior__unet__attention_factors=[1])
    begun = start.initial(config)
    save_checkpoint(out, begun.params, config.prior)
    assert load_checkpoint(out).config == config.prior
    assert load_checkpoint(out).config.adm.num_res_blocks == 2
    with pytest.raises(ValueError, match=r"num_res_blocks is 2 there, 1 here\).*may only gain residual blocks"):
        start.initial(tiny(init=str(out), prior__unet__attention_factors=[1]))
    with pytest.raises(ValueError, match=r"attention_factors is \[1\] there, \[\] here"):
        start.initial(tiny(init=str(out), prior__unet__num_res_blocks=2))


def test_an_uneven_prior_is_saved_and_read(tmp_path):
    config = PriorConfig(dataclasses.replace(SMALL, num_res_blocks=(1, 2)), variance="fixed_small")
    params = random_parameters(config.adm, 1)
    save_checkpoint(tmp_path / "prior.safetensors", params, config)
    loaded = load_checkpoint(tmp_path / "prior.safetensors")
    assert loaded.config == config
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == np.asarray(b)).all()), loaded.params, params))


def test_what_cannot_be_grown_is_refused():
    wider = dataclasses.replace(SMALL, model_channels=64)
    with pytest.raises(ValueError, match="cannot be grown into the other: model_channels is 32 there, 64 here"):
        grow({}, SMALL, wider, {})
