"""``jaxdiff convert SRC OUT``: what it makes, what it asks for, and what it refuses without a trace."""

import dataclasses
import json
import pathlib
import pickle

import jax
import numpy as np
import pytest
from flax import serialization, traverse_util

import jaxdiff as jd
from jaxdiff.checkpoints import load_checkpoint
from jaxdiff.cli.main import main, parse
from weights_convert import denoise_check
from weights_convert.families import score_sde
from weights_convert.published import known_file, score_sde_configs
from weights_convert.sources import read_source

FAMILIES = pathlib.Path(__file__).parents[1] / "golden" / "families"
SCORE = FAMILIES / "score_ve_ncsnpp.pth"


def convert(*words):
    return main(parse(["jaxdiff", "convert", *map(str, words)]))


def refused(capsys, out, *words):
    """The one sentence that a refusal prints; nothing is left."""
    assert convert(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert not out.exists()
    assert not list(out.parent.glob(".*partial*"))
    return lines[0]


@pytest.mark.slow
def test_an_edm_pickle_becomes_a_prior(tmp_path, capsys):
    out = tmp_path / "out"
    assert convert(FAMILIES / "edm_ncsnpp.pkl", out) == 0
    printed = capsys.readouterr().out
    assert "NVIDIA's EDM; 205 tensors, 102,859 parameters under 'ema'" in printed
    assert "WARNING: the prior takes no noise away at σ = 0.1" in printed, "random weights are not a prior"
    assert printed.splitlines()[-1] == f"open {out / 'prior.json'}"
    about = json.loads((out / "prior.json").read_text())
    assert about["source"]["family"] == "edm"
    assert about["source"]["file"] == "edm_ncsnpp.pkl"
    denoiser = jd.load_denoiser(out)
    with np.load(FAMILIES / "edm_ncsnpp.npz") as golden:
        x, sigma, expected = golden["x"].transpose(0, 2, 3, 1), golden["sigma"], golden["D64"].transpose(0, 2, 3, 1)
    found = jax.vmap(denoiser.denoise)(x, sigma.astype(np.float32))
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
    assert main(parse(["jaxdiff", "info", str(out)])) == 0
    printed = capsys.readouterr().out
    for word in ("song, 16×16×3", "form edm, told edm", "[-1, 1]", "102,859", "edm_ncsnpp.pkl", "terms"):
        assert word in printed


def test_what_only_the_user_knows_is_asked_for(tmp_path, capsys):
    out = tmp_path / "out"
    assert "give it with --image-size" in refused(capsys, out, SCORE, out)
    assert convert(SCORE, out, "--image-size", 16, "--config", "celebahq_256_ncsnpp_continuous", "--no-check") == 0
    config = load_checkpoint(out).config
    assert config.preconditioning.data_range == (0.0, 1.0)
    assert config.schedule_range == pytest.approx((0.02, 696))
    assert config.unet.attend_down == (1,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--family", "edm"], "its tensors are those of score_sde (score-sde), not of edm"),
        (["--family", "gan"], "there is no family 'gan'; choose one of"),
        (["--config", "ffhq_256"], "did you mean"),
        (["--config", "cifar10_ncsnpp_continuous"], "could be subvp/cifar10_ncsnpp_continuous or"),
        (["--key", "nothing"], "nothing under the key"),
    ],
)
def test_options_that_do_not_fit(tmp_path, capsys, words, message):
    assert message in refused(capsys, tmp_path / "out", SCORE, tmp_path / "out", *words)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": "x"}, "image_size is 'x'; write a value such as 256"),
        ({"ch_mult": 2}, "ch_mult is 2; write a value such as"),
        ({"sigma_max": None}, "sigma_max is None; write a value such as 50.0"),
        ({"sigma_max": 10**400}, "sigma_max is 1000"),
        ({"continuous": 1}, "continuous is 1; write a value such as True"),
        ({"ch_mult": []}, "channels"),
    ],
)
def test_a_configuration_with_a_value_of_another_kind(tmp_path, capsys, changes, message):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(score_sde_configs()["ve/celebahq_256_ncsnpp_continuous"] | changes))
    assert message in refused(capsys, tmp_path / "out", SCORE, tmp_path / "out", "--config", file)


def test_options_for_a_folder(tmp_path, capsys):
    folder, out = FAMILIES / "diffusers_ddpm", tmp_path / "out"
    assert "(diffusers), not of edm" in refused(capsys, out, folder, out, "--family", "edm")
    assert "there is no family 'gan'" in refused(capsys, out, folder, out, "--family", "gan")
    assert "leave out --key" in refused(capsys, out, folder, out, "--key", "ema")
    assert convert(folder, out, "--no-check", "--family", "diffusers", "--steps", 7, "--image-size", 16) == 0
    assert "without effect: --steps; the file tells this itself" in capsys.readouterr().out


def test_a_link_to_itself(tmp_path, capsys):
    loop, out = tmp_path / "loop", tmp_path / "out"
    loop.symlink_to(loop)
    assert "loop cannot be opened" in refused(capsys, out, loop, out)
    assert "loop cannot be opened" in refused(capsys, out, "guided-diffusion", loop, out)


def test_a_pickle_whose_configuration_is_damaged(tmp_path, capsys, monkeypatch):
    source = read_source(FAMILIES / "edm_ncsnpp.pkl")
    arguments = source.config["init_kwargs"] | {"channel_mult": None}
    bent = dataclasses.replace(source, config=source.config | {"init_kwargs": arguments})
    monkeypatch.setattr("weights_convert.checkpoint.read_source", lambda *_, **__: bent)
    sentence = refused(capsys, tmp_path / "out", FAMILIES / "edm_ncsnpp.pkl", tmp_path / "out")
    assert "its configuration is damaged ('NoneType'" in sentence


def test_a_prior_is_never_written_over_its_source(tmp_path, capsys):
    source = tmp_path / "diffusers_ddpm"
    source.mkdir()
    for file in (FAMILIES / "diffusers_ddpm").iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    assert convert(source, source / "out", "--no-check") == 0
    capsys.readouterr()
    assert convert(source, source, "--overwrite") == 2
    assert "would be lost" in capsys.readouterr().err


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (pathlib.Path.touch, (self.marker,))


@pytest.mark.parametrize(
    "content",
    [
        lambda marker: pickle.dumps({"ema": Attack(marker)}),
        lambda marker: (FAMILIES / "edm_ncsnpp.pkl").read_bytes()[:300_000],
        lambda marker: b"\x80\x04" + b"]" * 100_000 + b".",
        lambda marker: b"\x80\x04B\xff\xff\xff\xff.",
        lambda marker: SCORE.read_bytes()[:-40],
        lambda marker: b"",
    ],
    ids=["executing", "truncated", "nested", "oversized", "cut zip", "empty"],
)
def test_hostile_files_leave_nothing(tmp_path, capsys, content):
    source, out, marker = tmp_path / "x.pkl", tmp_path / "out", tmp_path / "ran"
    source.write_bytes(content(marker))
    assert str(source) in refused(capsys, out, source, out)
    assert not marker.exists()


def test_flax_files_make_the_same_prior(tmp_path, capsys):
    whole, flat = tmp_path / "a", tmp_path / "b"
    values = score_sde_configs()["ve/celebahq_256_ncsnpp_continuous"]
    values = values | {"nf": 8, "ch_mult": [1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [8], "image_size": 16}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert convert(SCORE, whole, "--config", tmp_path / "config.json", "--no-check") == 0
    params, config, _ = load_checkpoint(whole)
    tensors = score_sde.rules.restore(params, score_sde.names(config.unet, flax=True))
    nested = traverse_util.unflatten_dict({tuple(name.split(".")): value for name, value in tensors.items()})
    source = tmp_path / "checkpoint_7"
    source.write_bytes(serialization.msgpack_serialize({"step": 7, "params_ema": nested}))
    assert "give --config" in refused(capsys, flat, source, flat)
    assert convert(source, flat, "--config", tmp_path / "config.json", "--no-check") == 0
    again = load_checkpoint(flat)
    assert again.config == config
    jax.tree.map(np.testing.assert_array_equal, again.params, params)


def test_a_bare_state_dict_of_edm(torch_files, tmp_path, capsys):
    source = read_source(FAMILIES / "edm_ncsnpp.pkl")
    state = {name: np.array(value) for part in (source.tensors, source.unused) for name, value in part.items()}
    del state["model.map_augment.weight"]
    path, out = torch_files.checkpoint("x.pt", state, wrap=lambda d: {"net": {}, "ema": d, "step": 7}), tmp_path / "out"
    assert "say with --config what surrounds it" in refused(capsys, out, path, out)
    assert convert(path, out, "--config", "edm", "--no-check") == 0
    assert convert(FAMILIES / "edm_ncsnpp.pkl", tmp_path / "whole", "--no-check") == 0
    bare, whole = load_checkpoint(out), load_checkpoint(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, bare.params, whole.params)
    dropout = dataclasses.replace(bare.config.unet, dropout=whole.config.unet.dropout)
    assert dataclasses.replace(bare.config, unet=dropout) == whole.config


def test_back_to_diffusers_is_exact(tmp_path, capsys):
    original, prior, back = FAMILIES / "diffusers_ddpm", tmp_path / "prior", tmp_path / "back"
    assert convert(original, prior, "--no-check") == 0
    assert convert(prior, back, "--to", "diffusers") == 0
    first, again = read_source(original), read_source(back)
    assert set(first.tensors) == set(again.tensors)
    for name, value in first.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)
    assert again.config["unet"] == first.config["unet"]
    assert convert(back, tmp_path / "twice", "--no-check") == 0
    assert load_checkpoint(tmp_path / "twice").config == load_checkpoint(prior).config
    assert convert(prior, back, "--to", "diffusers", "--overwrite") == 0
    (back / "note.txt").write_text("mine")
    sentence = "note.txt is no part of a folder that was converted"
    assert convert(prior, back, "--to", "diffusers", "--overwrite") == 2
    assert sentence in capsys.readouterr().err
    assert convert(prior, back, "--to", "torch-names", "--overwrite") == 2  # neither by its ending nor by its kind
    assert (back / "note.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".*partial*"))


def test_back_to_names(tmp_path, capsys):
    prior, back = tmp_path / "prior", tmp_path / "back.safetensors"
    assert convert(FAMILIES / "edm_ncsnpp.pkl", prior, "--no-check") == 0
    assert convert(prior, back, "--to", "torch-names") == 0
    first, again = read_source(FAMILIES / "edm_ncsnpp.pkl"), read_source(back)
    assert set(first.tensors) == set(again.tensors)
    for name, value in first.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)
    assert convert(prior, tmp_path / "own", "--to", "safetensors") == 0
    assert load_checkpoint(tmp_path / "own.safetensors").config == load_checkpoint(prior).config
    sentence = refused(capsys, tmp_path / "folder", prior, tmp_path / "folder", "--to", "diffusers")
    assert "cannot express this network" in sentence
    assert convert(prior, back, "--to", "torch-names") == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert convert(prior, back, "--to", "torch-names", "--overwrite") == 0
    assert convert(prior, tmp_path / "own", "--to", "safetensors", "--overwrite") == 0
    for own in (tmp_path, prior):
        assert convert(prior, own, "--to", "diffusers", "--overwrite") == 2
        assert "holds the prior itself" in capsys.readouterr().err


def test_weights_that_are_not_finite(torch_files, tmp_path, capsys):
    source = read_source(FAMILIES / "edm_ncsnpp.pkl")
    state = {name: np.array(value) for name, value in source.tensors.items()}
    state["model.map_layer0.bias"][1] = np.nan
    path, out = torch_files.checkpoint("x.pt", state), tmp_path / "out"
    assert "model.map_layer0.bias holds NaN" in refused(capsys, out, path, out, "--config", "edm")


def test_published_files_are_known_by_name():
    assert known_file("cd_cat256_l2.pt").values == {"config": "cd", "image_size": 256, "num_head_channels": 64}
    assert known_file("edm-ffhq-64x64-uncond-vp.pkl").licence.startswith("CC BY-NC-SA")
    assert known_file("ffhq_10m.pt").values == {"preset": "ffhq_256"}
    assert known_file("mine.pt") is None


class Ideal:
    """A denoiser that knows the picture, or one that is wrong."""

    def __init__(self, answer):
        self.answer = answer

    def denoise(self, x, sigma):
        return self.answer(x, sigma)


def test_the_check_sees_a_wrong_range():
    picture = denoise_check.test_picture(32, 3)
    assert picture.shape == (32, 32, 3)
    assert abs(picture).max() <= 1
    shrunk = jax.tree_util.Partial(lambda x, sigma: 0.9 * picture + 0.1 * x)
    jax.tree_util.register_pytree_node(Ideal, lambda d: ((d.answer,), None), lambda _, c: Ideal(*c))
    assert denoise_check.warning(denoise_check.gains(Ideal(shrunk), picture)) is None
    halved = jax.tree_util.Partial(lambda x, sigma: (picture + 1) / 2)
    found = denoise_check.gains(Ideal(halved), picture)
    assert "data range" in denoise_check.warning(found)
    assert denoise_check.report(found).count("dB denoised") == 3
    assert read_source(SCORE).family == "score-sde"
