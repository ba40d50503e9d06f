"""Published files by name: each network can be built and has the size that its authors state; names settle choices."""

import json
import math
import pathlib
import types

import pytest

from jaxdiff.models import PRESETS, parameter_shapes
from weights_convert.families import ddpm, rules, score_sde
from weights_convert.priors import Options, prior_of
from weights_convert.published import _data, score_sde_config, score_sde_configs
from weights_convert.recognise import recognise
from weights_convert.score_sde_configs import config_from, settings

GUIDED = [
    (group, name, values)
    for group in ("guided-diffusion", "DPS", "P2 weighting")
    for name, values in _data("files.json")[group]["files"].items()
]


def millions(config):
    return sum(map(math.prod, parameter_shapes(config.unet).values())) / 1e6


def score_sde_prior(name):
    return config_from(score_sde_configs()[name])


def test_every_name_of_guided_diffusion_has_a_preset():
    assert len(GUIDED) == 16
    assert {values["preset"] for *_, values in GUIDED} <= set(PRESETS)


@pytest.mark.parametrize("name", list(score_sde_configs()))
def test_every_configuration_of_score_sde_is_a_network(name):
    assert 30 < millions(score_sde_prior(name)) < 120


@pytest.mark.parametrize(
    ("config", "stated"),
    [
        (lambda: PRESETS["imagenet_64"], 296),  # Dhariwal & Nichol 2021
        (lambda: PRESETS["imagenet_128"], 422),
        (lambda: PRESETS["imagenet_256"], 554),
        (lambda: PRESETS["imagenet_512"], 559),
        (lambda: ddpm.config_from({}), 114),  # Ho et al. 2020, appendix B
    ],
)
def test_sizes_are_those_that_the_authors_state(config, stated):
    assert round(millions(config())) == stated


def test_the_published_folder_settles_what_shapes_leave_open():
    network = score_sde_prior("vp/cifar10_ddpmpp_continuous").unet
    shapes = rules.torch_shapes(score_sde.names(network), network)

    def source(path, **config):
        tensors = types.SimpleNamespace(shapes=shapes)
        return types.SimpleNamespace(
            path=pathlib.Path(path), name="", config=config, tensors=tensors, family="score-sde"
        )

    with pytest.raises(ValueError, match="could be of the configurations"):
        settings(source("downloads/checkpoint_14.pth"), None, None)
    for folder, sde in (("vp/cifar10_ddpmpp_continuous", "vpsde"), ("subvp/cifar10_ddpmpp_continuous", "subvpsde")):
        values, assumed = settings(source(f"{folder}/checkpoint_14.pth"), None, None)
        assert values["sde"] == sde
        assert assumed == (f"configuration {folder}, after the folder's name",)
    prior = prior_of(source("vp/cifar10_ddpmpp_continuous/checkpoint_14.pth"), Options())
    assert prior.config.preconditioning.label == "vp"
    values, _ = settings(source("ve/ffhq_1024_ncsnpp_continuous/checkpoint_60", layout="flax"), None, None)
    assert values["image_size"] == 1024
    assert score_sde_config("vp/cifar10_ddpm")[0] == "vp/ddpm/cifar10"


SMALL = {
    "name": "ddpm", "nf": 32, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": [6], "scale_by_sigma": False,
    "image_size": 6, "centered": False, "sde": "vesde", "continuous": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "tensor"),
    [
        ({}, "all_modules.8.NIN_0.W"),  # one level: the original's shortcuts are matrices all the same
        ({"ch_mult": [1, 1], "resamp_with_conv": False}, "all_modules.8.NIN_3.W"),  # number 5 has no weights
        ({"name": "ncsnpp", "embedding_type": "positional", "conditional": False}, "all_modules.1.Conv_0.weight"),
    ],
)
def test_a_whole_configuration_is_taken_at_its_word(tmp_path, changes, tensor):
    values = SMALL | changes
    network = config_from(values).unet
    shapes = rules.torch_shapes(score_sde.names(network), network)
    assert tensor in shapes
    assert recognise(shapes, {}, None).family == "score-sde"
    (tmp_path / "config.json").write_text(json.dumps(values))
    tensors = types.SimpleNamespace(shapes=shapes)
    source = types.SimpleNamespace(path=tmp_path / "x.pth", config={}, tensors=tensors)
    assert settings(source, str(tmp_path / "config.json"), None) == (values, ())
