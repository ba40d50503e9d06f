"""Folders of diffusers: shards, variants, averaged weights, old names, and folders without what is needed."""

import json
import math
import pathlib

import numpy as np
import pytest
import safetensors.numpy

from weights_convert.sources import read_source

FAMILIES = pathlib.Path(__file__).parents[1] / "golden" / "families"
W = np.arange(12, dtype=np.float32).reshape(3, 4)
NAMES = ("time_embedding.linear_1.weight", "down_blocks.0.resnets.0.norm1.weight", "conv_out.weight")
UNET = {name: W for name in NAMES}


def test_a_folder_of_diffusers():
    source = read_source(FAMILIES / "diffusers_ddpm")
    assert (source.family, len(source.tensors)) == ("diffusers", 182)
    assert sum(math.prod(shape) for shape in source.tensors.shapes.values()) == 141259
    assert source.config["unet"]["downsample_padding"] == 0
    assert source.config["unet"]["attn_norm_num_groups"] is None, "the default of the class"
    assert source.config["scheduler"]["variance_type"] == "fixed_small"
    by_file = read_source(FAMILIES / "diffusers_ddpm" / "diffusion_pytorch_model.safetensors")
    assert by_file.config == source.config
    assert by_file.tensors.shapes == source.tensors.shapes


def folder_of(path, tensors, config=None, **files):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"} | (config or {})))
    for name, part in files.items() or {"diffusion_pytorch_model.safetensors": tensors}.items():
        (path / name).write_bytes(safetensors.numpy.save(part))
    return path


def test_shards_and_class_defaults(tmp_path):
    parts = {f"diffusion_pytorch_model-0000{i}-of-00003.safetensors": {n: W + i} for i, n in enumerate(NAMES)}
    folder = folder_of(tmp_path / "x", {}, **parts)
    index = {"weight_map": dict(zip(NAMES, parts, strict=True))}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    source = read_source(folder)
    assert set(source.tensors) == set(NAMES)
    np.testing.assert_array_equal(source.tensors["conv_out.weight"], W + 2)
    assert source.config["unet"]["attention_head_dim"] == 8
    assert source.config["unet"]["norm_eps"] == 1e-5
    index["weight_map"]["conv_out.weight"] = "../../etc/passwd"
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="names files that are not there"):
        read_source(folder)


def test_shards_of_a_variant_and_names_of_a_parallel_module(tmp_path):
    parts = {
        f"diffusion_pytorch_model.fp16-0000{i}-of-00003.safetensors": {f"module.{n}": W} for i, n in enumerate(NAMES)
    }
    folder = folder_of(tmp_path / "x", {}, **parts)
    index = {"weight_map": {f"module.{n}": file for n, file in zip(NAMES, parts, strict=True)}}
    (folder / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(index))
    assert set(read_source(folder).tensors) == set(NAMES)


def test_averaged_weights_that_diffusers_saved_beside_others(tmp_path):
    averaging = {"decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 3, "power": 2 / 3}
    averaging |= {"update_after_step": 0, "use_ema_warmup": True, "layers_per_block": 1}
    folder_of(tmp_path / "unet_ema", {n: W + 1 for n in NAMES}, averaging)
    folder_of(tmp_path / "unet", UNET)
    for place in (tmp_path, tmp_path / "unet_ema"):
        source = read_source(place)
        np.testing.assert_array_equal(source.tensors["conv_out.weight"], W + 1)
        assert source.config["unet"]["layers_per_block"] == 1
        assert "decay" not in source.config["unet"]


def test_weights_by_the_names_of_accelerate(tmp_path):
    folder = folder_of(tmp_path / "x", {}, **{"model.safetensors": UNET})
    assert read_source(folder).key == "model.safetensors"


def test_old_names_of_attention(tmp_path):
    old = {"mid_block.attentions.0.query.weight": W[:, :, None, None], "mid_block.attentions.0.proj_attn.bias": W[0]}
    source = read_source(folder_of(tmp_path / "x", UNET | old))
    assert source.tensors.shapes["mid_block.attentions.0.to_q.weight"] == (3, 4)
    np.testing.assert_array_equal(source.tensors["mid_block.attentions.0.to_q.weight"], W)
    np.testing.assert_array_equal(source.tensors["mid_block.attentions.0.to_out.0.bias"], W[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "its network is UNet2DConditionModel, which is not read"),
        ({"mystery": 3}, "options that are not known: mystery"),
    ],
)
def test_other_configurations(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        read_source(folder_of(tmp_path / "x", UNET, config))


def test_folders_without_what_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"a folder without config\.json"):
        read_source(tmp_path)
    folder = folder_of(tmp_path / "x", UNET)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no diffusion_pytorch_model\.safetensors or \.bin"):
        read_source(folder)
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes(safetensors.numpy.save(UNET))
    with pytest.raises(ValueError, match=r"without config\.json beside it; give the whole folder"):
        read_source(lone)
