"""Every family of public priors: the original's outputs on the same weights, and name tables that use each tensor once."""

import jax
import numpy as np
import pytest

from benchmarks import parity_families as parity
from tests.support.tiers import fast_only
from weights_convert.families import ddpm, diffusers, edm, rules, score_sde
from weights_convert.infer import Hidden
from weights_convert.priors import Options, prior_of
from weights_convert.sources import read_source

CASES = parity.cases()


@pytest.mark.parametrize("name", fast_only(["diffusers_ddpm"], list(CASES)))
def test_outputs_and_denoised_values_are_the_originals(name):
    errors = parity.compare(name, CASES[name], gradient=False)
    assert max(errors.values()) < parity.LIMIT, errors


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_input_gradients_are_the_originals(name):
    error = parity.compare(name, CASES[name])["input gradient"]
    assert error < parity.LIMIT


TABLES = {
    "edm_ncsnpp": edm.names,
    "edm_adm_cond": edm.names,
    "diffusers_ddpm": diffusers.names,
    "diffusers_ncsnpp": diffusers.names,
    "pesser_ddpm": ddpm.names,
    "score_ve_ncsnpp": score_sde.names,
    "score_vp_ddpm": score_sde.names,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_round_trip_by_the_name_table_is_exact(name):
    config, params = parity.load(name, CASES[name])
    table = TABLES[name](config.unet)
    back = rules.convert(rules.restore(params, table), table, config.unet)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    theirs, ours = [rule.theirs for rule in table], [(rule.ours, rule.part) for rule in table]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)


def test_names_of_the_flax_original_carry_the_same_weights():
    config, params = parity.load("score_ve_ncsnpp", CASES["score_ve_ncsnpp"])
    flax = rules.restore(params, score_sde.names(config.unet, flax=True))
    assert {"ResnetBlockBigGANpp_0.Conv_0.kernel", "AttnBlockpp_2.NIN_3.W"} <= set(flax)
    jax.tree.map(np.testing.assert_array_equal, score_sde.convert(flax, config), params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("conv_in.weight"), r"1 missing .conv_in\.weight"),
        (lambda t: t.update(extra=np.zeros(3, np.float32)), r"1 extra .extra"),
        (lambda t: t.update({"conv_in.bias": np.zeros(3, np.float32)}), r"conv_in.bias is \(3,\), not \(32,\)"),
        (lambda t: t.update({"conv_in.bias": np.zeros(32, np.int32)}), "holds int32 numbers"),
        (lambda t: t.update({"conv_in.bias": np.full(32, np.nan, np.float32)}), "NaN"),
    ],
)
def test_a_tensor_that_does_not_belong_is_named(change, message):
    config, params = parity.load("pesser_ddpm", CASES["pesser_ddpm"])
    tensors = rules.restore(params, ddpm.names(config.unet))
    change(tensors)
    with pytest.raises(ValueError, match=message):
        ddpm.convert(tensors, config)


def test_heads_of_a_consistency_model_may_be_given_by_their_number():
    source = read_source(parity.GOLDEN / "cm_edm_classes.pt")
    options = Options(config="edm", hidden=Hidden(image_size=16, num_heads=2))
    unet = prior_of(source, options).config.unet
    assert (unet.heads(64), unet.heads(128)) == (2, 2)


def test_old_names_of_diffusers_attention_are_taken():
    config, params = parity.load("diffusers_ddpm", CASES["diffusers_ddpm"])
    tensors = rules.restore(params, diffusers.names(config.unet))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        tensors = {key.replace(f".{new}.", f".{name}."): value for key, value in tensors.items()}
    jax.tree.map(np.testing.assert_array_equal, diffusers.convert(tensors, config), params)


def test_the_ports_network_is_seen_in_its_shapes():
    config, params = parity.load("pesser_ddpm", CASES["pesser_ddpm"])
    shapes = {name: value.shape for name, value in rules.restore(params, ddpm.names(config.unet)).items()}
    assert ddpm.infer(shapes, 16) == config
    del shapes["conv_out.weight"]
    with pytest.raises(ValueError, match="conv_out"):
        ddpm.infer(shapes, 16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: edm.config_from("Precond", {}), "there is no preconditioner"),
        (lambda: edm.config_from("EDMPrecond", {}), "lacks img_channels, img_resolution"),
        (
            lambda: edm.config_from("EDMPrecond", {"img_resolution": 8, "img_channels": 3, "model": 1}),
            "no argument model",
        ),
        (lambda: diffusers.network({"blocks": 1}), "has no argument blocks"),
        (lambda: diffusers.network({"class_embed_type": "identity"}), "class_embed_type='identity'"),
        (lambda: diffusers.network({"sample_size": [64, 32]}), r"sample_size=\[64, 32\] is not square"),
        (lambda: diffusers.network({"sample_size": 0}), "image_size must be a positive whole number"),
        (lambda: diffusers.network({"sample_size": "big"}), "sample_size is 'big'; write a value such as"),
        (lambda: diffusers.network({"block_out_channels": None}), r"block_out_channels is None; .* \[224, 448"),
        (lambda: diffusers.network({"in_channels": 3.5}), "in_channels is 3.5; write a value such as 3"),
        (lambda: diffusers.config_from({}, {"beta_schedule": [1]}), r"beta_schedule is \[1\]; write .* 'linear'"),
        (lambda: diffusers.config_from({}, {"beta_end": "x"}), "beta_end is 'x'; write a value such as 0.02"),
        (lambda: diffusers.network({"attention_head_dim": 100}), "does not divide the 448 channels"),
        (
            lambda: diffusers.config_from({}, {"_class_name": "FlowMatchEulerDiscreteScheduler"}),
            "FlowMatchEulerDiscrete",
        ),
        (lambda: diffusers.config_from({}, {"timestep_type": "continuous"}), "continuous timesteps"),
        (
            lambda: diffusers.config_from({"time_embedding_type": "fourier"}, {"_class_name": "DDPMScheduler"}),
            "Fourier",
        ),
        (lambda: diffusers.config_from({"out_channels": 1}), "does not suit a network with 1 output channels"),
        (lambda: diffusers.network({"down_block_types": ["KDownBlock2D"] * 4}), "KDownBlock2D .* is not supported"),
        (lambda: score_sde.config_from({"name": "ncsnv2"}, image_size=32), "name of score_sde's model"),
        (lambda: score_sde.config_from({"what": 1}, image_size=32), "no field what"),
        (lambda: score_sde.config_from({}, image_size=32, sde="ode"), "sde must be"),
        (lambda: score_sde.config_from({"embedding_type": "positional"}, image_size=32), "beside positional features"),
        (lambda: score_sde.config_from({}, image_size=32, continuous=False), "beside discrete noise levels"),
        (
            lambda: score_sde.config_from(
                {"name": "ddpm", "scale_by_sigma": False}, image_size=32, sde="vpsde", continuous=False
            ),
            r"on images in \[0, 1\]",
        ),
    ],
)
def test_what_is_not_supported_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_diffusers_may_leave_open_is_taken():
    """Each of these is null in folders of diffusers, or a number of another kind than the default."""
    open_ = ("sample_size", "attention_head_dim", "norm_num_groups", "attn_norm_num_groups", "time_embedding_dim")
    config = diffusers.config_from(
        dict.fromkeys(open_) | {"freq_shift": 1, "mid_block_scale_factor": 2**0.5},
        {"beta_start": None, "variance_type": None, "trained_betas": None},
    )
    assert config.schedule_range == (1e-4, 0.02)
    assert config.unet.image_size == 64  # so that the smallest of four levels has 8 pixels


def test_diffusers_divides_by_sigma_with_fourier_features_only():
    """Its scheduler takes the output for the score s, so that D = x + σ² s."""
    blocks = {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "mid_block_type": None}
    unet = blocks | {"block_out_channels": [8], "norm_num_groups": 4, "layers_per_block": 1, "sample_size": 4}
    config = diffusers.config_from(unet, {"_class_name": "ScoreSdeVeScheduler"})
    rng, table = np.random.default_rng(0), diffusers.names(config.unet)
    shapes = rules.torch_shapes(table, config.unet)
    tensors = {name: rng.standard_normal(shape, np.float32) / 4 for name, shape in shapes.items()}
    denoiser = parity.denoiser_of(config, diffusers.convert(tensors, config))
    x, sigma = rng.standard_normal((4, 4, 3), np.float32), np.float32(3)
    apply = jax.jit(lambda params: denoiser.module.apply({"params": params}, x[None], sigma[None])[0])
    np.testing.assert_allclose(denoiser.denoise(x, sigma), x + sigma**2 * apply(denoiser.params), rtol=1e-4, atol=1e-4)


def test_fourier_features_of_a_variance_preserving_network_are_told_the_logarithm_of_its_time():
    model = {"scale_by_sigma": False, "beta_min": 0.1, "beta_max": 20.0}
    form = score_sde.config_from(model, image_size=32, sde="vpsde", centered=True).preconditioning
    time = 0.3
    sigma = np.sqrt(np.expm1(19.9 / 2 * time**2 + 0.1 * time))
    assert float(form.label_of(np.float32(sigma))) == pytest.approx(np.log(999 * time), rel=1e-6)
