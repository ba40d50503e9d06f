"""Architectures read off the shapes of state dicts: the original's, every preset, and variations."""

import dataclasses
import math
import pathlib

import pytest

from benchmarks import parity_unet as parity
from jaxdiff.models import PRESETS, UNetConfig, parameter_shapes
from weights_convert.guided_diffusion import torch_shapes
from weights_convert.infer import INVISIBLE, Hidden, flags, infer

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "unet"
SAY = Hidden(image_size=32, num_heads=4)


def shapes_of(config: UNetConfig):
    return torch_shapes(parameter_shapes(config))


def visible(config: UNetConfig):
    return dataclasses.replace(config, **INVISIBLE)


def ffhq_shapes():
    rows = [line.split("\t") for line in (GOLDEN / "ffhq_state_dict_keys.txt").read_text().splitlines()]
    return {name: tuple(int(n) for n in shape.strip("(),").split(",")) for name, shape, _ in rows}


def test_ffhq_256_from_the_original_keys():
    shapes = ffhq_shapes()
    assert len(shapes) == 362
    assert shapes_of(PRESETS["ffhq_256"].unet) == shapes
    found = infer(shapes, Hidden())
    assert found.preset == "ffhq_256"
    assert found.config == PRESETS["ffhq_256"]
    assert found.assumed == ()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_recognised(name):
    found = infer(shapes_of(PRESETS[name].unet), Hidden())
    assert (found.preset, found.config) == (name, PRESETS[name])


@pytest.mark.parametrize("name", parity.variants())
def test_the_small_networks_of_the_original(name):
    config = parity.configuration(parity.variants()[name])
    found = infer(shapes_of(config), SAY)
    assert visible(found.config.unet) == visible(config)
    assert found.preset is None
    assert "attention order legacy" in found.assumed


BASE = UNetConfig(image_size=32, model_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_factors=(2,))


@pytest.mark.parametrize(
    "changes",
    [
        {"channel_mult": (0.5, 1, 1.5, 2), "model_channels": 64, "attention_factors": ()},
        {"channel_mult": (1, 1 / 3), "model_channels": 96, "attention_factors": (1, 2)},
        {"channel_mult": (2,), "attention_factors": (1,)},
        {"conv_resample": False, "channel_mult": (1, 2, 2)},
        {"resblock_updown": True, "num_res_blocks": 3},
        {"num_res_blocks": (1, 3, 2), "channel_mult": (1, 2, 2)},
        {"num_res_blocks": (2, 1, 3), "channel_mult": (1, 2, 2), "resblock_updown": True},
        {"num_res_blocks": (2, 1, 3), "channel_mult": (1, 2, 2), "conv_resample": False},
        {"num_classes": 7, "out_channels": 6},
        {"in_channels": 1, "out_channels": 1},
        {"use_scale_shift_norm": True},
        {"image_size": 256, "channel_mult": (1,) * 8, "attention_factors": ()},
    ],
)
def test_what_shapes_tell(changes):
    config = dataclasses.replace(BASE, **changes)
    shapes = shapes_of(config)
    found = infer(shapes, SAY._replace(image_size=config.image_size)).config.unet
    assert shapes_of(found) == shapes
    for name in set(config.to_dict()) - set(INVISIBLE) - {"channel_mult"}:
        # A network of one level has nothing that shows how it would resample.
        if not (name in ("conv_resample", "resblock_updown") and config.depth == 0):
            assert getattr(found, name) == getattr(config, name), name
    assert found.channel_mult == pytest.approx(config.channel_mult, abs=0.02)


@pytest.mark.parametrize("channels", [3, 6])
def test_an_upsampler_is_refused(channels):
    shapes = shapes_of(dataclasses.replace(BASE, in_channels=6, out_channels=channels))
    with pytest.raises(ValueError, match="as guided-diffusion's upsamplers do"):
        infer(shapes, SAY)


def test_options_win_over_presets():
    hidden = Hidden(attention_order="new", num_heads=8, num_steps=250, schedule="cosine", prediction="v")
    found = infer(shapes_of(PRESETS["ffhq_256"].unet), hidden)
    assert found.config.unet.attention_order == "new"
    assert found.config.unet.heads(512) == 8
    assert (found.config.num_steps, found.config.schedule, found.config.prediction) == (250, "cosine", "v")


def test_what_shapes_cannot_tell_is_asked_for():
    shapes = shapes_of(BASE)
    with pytest.raises(ValueError, match="give --image-size and --num-heads or --num-head-channels"):
        infer(shapes, Hidden())
    with pytest.raises(ValueError, match="give --image-size"):
        infer(shapes, Hidden(num_heads=1))
    with pytest.raises(ValueError, match="--num-heads or --num-head-channels, not both"):
        infer(shapes, Hidden(image_size=32, num_heads=2, num_head_channels=8))
    with pytest.raises(ValueError, match="image_size=15 cannot be halved"):
        infer(shapes, Hidden(image_size=15, num_heads=1))
    with pytest.raises(ValueError, match="choose a number that divides"):
        infer(shapes, Hidden(image_size=32, num_head_channels=48))
    with pytest.raises(ValueError, match="variance='learned'"):
        infer(shapes, SAY._replace(variance="learned"))


def test_wrong_presets_and_other_networks():
    shapes = shapes_of(BASE)
    with pytest.raises(ValueError, match=r"not a ffhq_256 network: .*model_channels is 32, not 128"):
        infer(shapes, Hidden(), "ffhq_256")
    with pytest.raises(ValueError, match="no preset 'ffhq'"):
        infer(shapes, Hidden(), "ffhq")
    with pytest.raises(ValueError, match="no guided-diffusion UNet: it has no time_embed"):
        infer({"features.0.weight": (64, 3, 11, 11)}, Hidden())
    with pytest.raises(ValueError, match="input blocks but"):
        infer({k: v for k, v in shapes.items() if not k.startswith("output_blocks.3")}, SAY)
    with pytest.raises(ValueError, match="no whole guided-diffusion UNet"):
        infer({k: v for k, v in shapes.items() if not k.startswith("output_blocks")}, SAY)


def test_flags_are_the_published_ones():
    text = flags(PRESETS["imagenet_512"])
    for flag in (
        "--attention_resolutions 32,16,8", "--class_cond True", "--image_size 512", "--learn_sigma True",
        "--noise_schedule linear", "--num_channels 256", "--num_head_channels 64", "--num_res_blocks 2",
        "--resblock_updown True", "--use_scale_shift_norm True", "--channel_mult 0.5,1,1,2,2,4,4",
    ):  # fmt: skip
        assert flag in text
    assert "--num_heads 4 --num_head_channels -1" in flags(PRESETS["imagenet_128"])


def test_sizes_of_the_published_networks():
    # Counts of ffhq_10m.pt and of OpenAI's 256x256_diffusion_uncond.pt.
    for name, tensors, count in (("ffhq_256", 362, 93_563_910), ("imagenet_256_uncond", 566, 552_814_086)):
        shapes = parameter_shapes(PRESETS[name].unet)
        assert len(shapes) == tensors
        assert sum(math.prod(shape) for shape in shapes.values()) == count
