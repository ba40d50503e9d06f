"""The command line: both formats, every tensor used, round trips, refusals that write nothing, no torch."""

import dataclasses
import json
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

import jaxdiff as jd
from benchmarks import parity_unet as parity
from jaxdiff import metrics
from jaxdiff.checkpoints import load_checkpoint, save_checkpoint
from jaxdiff.models import PriorConfig, UNetConfig, parameter_shapes
from weights_convert import check, cli, export, names
from weights_convert.guided_diffusion import convert_tensors, torch_shapes
from weights_convert.reader import read_tensors, sha256

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TINY = UNetConfig(
    image_size=16,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_factors=(2,),
    num_heads=2,
    use_scale_shift_norm=True,
)
SAY = ["--image-size", "16", "--num-heads", "2"]


@pytest.fixture(scope="module")
def weights():
    return parity.recipe(torch_shapes(parameter_shapes(TINY)))


def convert(*arguments, command="guided-diffusion"):
    return cli.main(cli.parse(["weights_convert", command, *map(str, arguments)]))


def refused(capsys, *arguments, command="guided-diffusion"):
    """The one sentence that a refusal prints."""
    assert convert(*arguments, command=command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def named(path):
    return traverse_util.flatten_dict(load_checkpoint(path).params, sep="/")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["orbax", "safetensors"])
def test_converts_every_tensor_exactly(torch_files, weights, tmp_path, capsys, legacy, kind):
    source = torch_files.checkpoint("tiny.pt", weights, legacy=legacy, location="cuda:0", wrap=lambda d: {"model": d})
    out = tmp_path / ("made.safetensors" if kind == "safetensors" else "made")
    assert convert(source, out.with_suffix(""), "--format", kind, *SAY) == 0
    printed = capsys.readouterr().out
    assert f"{len(weights)} tensors" in printed
    assert (
        "--image_size 16 --num_channels 32 --channel_mult 1,2 --num_res_blocks 1 --attention_resolutions 8" in printed
    )
    back = names.to_torch(named(out))
    assert set(back) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value)
    description = json.loads((out / "prior.json" if kind == "orbax" else out.with_suffix(".json")).read_text())
    assert description["source"]["sha256"] == sha256(source)
    assert description["source"]["file"] == "tiny.pt"
    assert description["prior"]["unet"]["num_heads"] == 2
    assert "terms" in description["licence"]
    assert not list(tmp_path.glob(".*partial*"))


def test_safetensors_and_half_precision_sources(torch_files, weights, tmp_path):
    half = {name: value.astype(np.float16) for name, value in weights.items()}
    torch_files.checkpoint("half.pt", half)
    (tmp_path / "half.safetensors").write_bytes(safetensors.numpy.save(half))
    assert convert(tmp_path / "half.pt", tmp_path / "a", *SAY) == 0
    assert convert(tmp_path / "half.safetensors", tmp_path / "b", "--dtype", "float16", *SAY) == 0
    a, b = named(tmp_path / "a"), named(tmp_path / "b")
    for name, value in names.from_torch(half).items():
        assert a[name].dtype == np.float32
        np.testing.assert_array_equal(a[name], value.astype(np.float32))
        np.testing.assert_array_equal(b[name], a[name])


@pytest.mark.slow
def test_check_passes_with_the_right_options_and_stops_with_wrong_ones(tmp_path, capsys):
    # The recipe's weights at the original's architecture, against what the original computed.
    config = parity.configuration(parity.variants()["ru1_ss1_ls0_na1"])
    state = parity.recipe(torch_shapes(parameter_shapes(config)))
    source = tmp_path / "x.safetensors"
    source.write_bytes(safetensors.numpy.save(state))
    with np.load(GOLDEN / "unet" / "ru1_ss1_ls0_na1.npz") as file:
        np.savez(tmp_path / "reference.npz", x=file["x"], t=file["t"], out=file["out"])
    say = ["--image-size", "32", "--num-head-channels", "16", "--check", tmp_path / "reference.npz"]
    sentence = refused(capsys, source, tmp_path / "legacy", *say)
    assert "not the same network" in sentence
    assert not (tmp_path / "legacy").exists()
    assert convert(source, tmp_path / "new", *say, "--attention-order", "new") == 0
    assert "relative L2 error against reference.npz: output" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "new").config.unet == dataclasses.replace(config, num_heads=1)


X = np.zeros((1, 3, 16, 16), np.float32)
REFERENCE = {"x": X, "t": np.zeros(1), "out": X, "v": X, "grad_x": X}


@pytest.mark.parametrize(
    ("bent", "message"),
    [
        ({"t": np.array(["a"])}, "t must hold numbers; it is <U1"),
        ({"x": X.astype(complex)}, "x must hold numbers"),
        ({name: value[:0] for name, value in REFERENCE.items()}, r"must hold numbers; it is float32 of shape \(0, 3,"),
        ({"v": X[:, :2]}, r"v is \(1, 2, 16, 16\), but out is \(1, 3, 16, 16\)"),
        ({"grad_x": X[..., :8]}, "but x is"),
    ],
)
def test_references_that_cannot_be_compared_with(weights, tmp_path, bent, message):
    np.savez(tmp_path / "reference.npz", **(REFERENCE | bent))
    with pytest.raises(ValueError, match=message):
        check.compare({}, PriorConfig(TINY, variance="fixed_small"), tmp_path / "reference.npz")


def test_names_map_both_ways():
    for config in (TINY, parity.configuration(parity.variants()["classcond10"])):
        for name in parameter_shapes(config):
            assert names.from_torch_name(names.to_torch_name(name)) == name


def test_wrong_tensors_are_listed(torch_files, weights, tmp_path, capsys):
    bent = dict(weights)
    del bent["out.2.bias"]
    bent["input_blocks.1.0.in_layers.2.weight"] = np.zeros((32, 31, 3, 3), np.float32)
    bent["betas"] = np.zeros(5, np.float32)
    sentence = refused(capsys, torch_files.checkpoint("x.pt", bent), tmp_path / "out", *SAY)
    assert "1 missing (out.2.bias)" in sentence
    assert "1 extra (betas)" in sentence
    assert "input_blocks.1.0.in_layers.2.weight is (32, 31, 3, 3), not (32, 32, 3, 3)" in sentence
    assert not (tmp_path / "out").exists()


def test_nan_and_integer_weights(torch_files, weights, tmp_path, capsys):
    bad = {**weights, "out.2.bias": np.array([1, np.nan, 2], np.float32)}
    assert "out.2.bias holds NaN" in refused(capsys, torch_files.checkpoint("x.pt", bad), tmp_path / "out", *SAY)
    bad = {**weights, "out.2.bias": np.array([1, 2, 3])}
    assert "holds int64" in refused(capsys, torch_files.checkpoint("x.pt", bad), tmp_path / "out", *SAY)


def test_other_refusals_are_one_sentence(torch_files, weights, tmp_path, capsys):
    source = torch_files.checkpoint("tiny.pt", weights)
    file = tmp_path / "file"
    file.write_text("x")
    assert "give --image-size" in refused(capsys, source, tmp_path / "out")
    assert "exists already" in refused(capsys, source, file, *SAY)
    assert "cannot be written" in refused(capsys, source, file / "below", *SAY)
    assert "cannot be opened" in refused(capsys, tmp_path / "none.pt", tmp_path / "out", *SAY)
    assert "no guided-diffusion UNet" in refused(capsys, GOLDEN / "torch" / "nested_zip.pt", tmp_path / "out", *SAY)
    assert "Sequential" in refused(capsys, GOLDEN / "torch" / "whole_module.pt", tmp_path / "out", *SAY)
    assert "cannot be read as an npz" in refused(capsys, source, tmp_path / "out", *SAY, "--check", file)
    assert "a safetensors file" in refused(capsys, source, tmp_path / "o.safetensors", *SAY, "--format", "orbax")
    assert not (tmp_path / "out").exists()
    assert file.read_text() == "x"


def test_overwrite(torch_files, weights, tmp_path, capsys):
    source = torch_files.checkpoint("tiny.pt", weights)
    for out in (tmp_path / "out", tmp_path / "out.safetensors"):
        assert convert(source, out, *SAY) == 0
        assert "exists already" in refused(capsys, source, out, *SAY)
        assert convert(source, out, *SAY, "--overwrite", "--steps", "500") == 0
        assert load_checkpoint(out).config.num_steps == 500


def test_what_is_no_prior_stays(torch_files, weights, tmp_path, capsys, monkeypatch):
    torch_files.checkpoint("tiny.pt", weights)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "mine" / "set.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    for out in (".", "tiny.pt"):
        assert "would be lost" in refused(capsys, "tiny.pt", out, *SAY, "--overwrite")
    for out in ("mine", "mine/set.safetensors", "mine/thesis.txt"):
        assert "exists already" in refused(capsys, "tiny.pt", out, *SAY)
        assert "no part of a prior" in refused(capsys, "tiny.pt", out, *SAY, "--overwrite")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("bad", [False, True])
def test_lpips_writes_whole_or_nothing(tmp_path, capsys, monkeypatch, bad):
    monkeypatch.chdir(tmp_path)
    tree = {"AlexNet_0": {}}
    for name, value in metrics.lpips_params("alex").items():
        value = np.full_like(value, np.nan) if bad and name == "linear0" else value
        if name.startswith("linear"):
            tree[f"NetLinLayer_{name[-1]}"] = {"Conv_0": {"kernel": value}}
        else:
            layer, kind = name.removeprefix("conv").split("/")
            tree["AlexNet_0"].setdefault(f"Conv_{layer}", {})[kind] = value
    pathlib.Path("a.ckpt").write_bytes(pickle.dumps(tree, protocol=3))
    if bad:
        assert "not finite NetLinLayer_0" in refused(capsys, "--ckpt", "a.ckpt", "new.safetensors", command="lpips")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt"]
        return
    pathlib.Path("ld").mkdir()
    pathlib.Path("old.safetensors").write_text("x")
    for out in ("ld", "old.safetensors"):
        assert "exists already" in refused(capsys, "--ckpt", "a.ckpt", out, command="lpips")
    assert "cannot be written" in refused(capsys, "--ckpt", "a.ckpt", "ld", "--overwrite", command="lpips")
    both = ["--ckpt", "a.ckpt", "--trunk", "x.pth", "--linear", "y.pth", "new.safetensors"]
    assert "Give --ckpt, or --trunk" in refused(capsys, *both, command="lpips")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt", "ld", "old.safetensors"]
    assert convert("--ckpt", "a.ckpt", "old.safetensors", "--overwrite", command="lpips") == 0
    assert "linear0" in read_tensors("old.safetensors")


def test_export_is_the_exact_inverse(torch_files, weights, tmp_path, capsys):
    assert convert(torch_files.checkpoint("tiny.pt", weights), tmp_path / "made", *SAY) == 0
    assert convert(tmp_path / "made", tmp_path / "back.safetensors", command="export") == 0
    back = read_tensors(tmp_path / "back.safetensors")
    assert set(back) == set(weights)
    for name, value in weights.items():
        assert back[name].dtype == np.float32
        np.testing.assert_array_equal(back[name], value)
    capsys.readouterr()
    assert "must end in" in refused(capsys, tmp_path / "made", tmp_path / "back.bin", command="export")
    (tmp_path / "file").write_text("x")
    below = tmp_path / "file" / "x.safetensors"
    assert "cannot be written (" in refused(capsys, tmp_path / "made", below, command="export")
    assert "no prior 'nope'" in refused(capsys, "nope", tmp_path / "b.safetensors", command="export")
    own = tmp_path / "own.safetensors"
    assert convert(tmp_path / "tiny.pt", own, *SAY) == 0
    before = own.read_bytes()
    assert "would be lost" in refused(capsys, own, own, "--overwrite", command="export")
    assert own.read_bytes() == before
    try:
        import torch  # noqa: F401
    except ImportError:
        assert "needs torch" in refused(capsys, tmp_path / "made", tmp_path / "back.pt", command="export")
        assert not (tmp_path / "back.pt").exists()


def test_the_embedded_prior_survives_a_round_trip(tmp_path):
    assert convert("faces64", tmp_path / "faces.safetensors", command="export") == 0
    told = export.options(load_checkpoint("faces64").config)
    assert convert(tmp_path / "faces.safetensors", tmp_path / "faces", *told) == 0
    made, shipped = jd.load_denoiser(tmp_path / "faces"), jd.load_denoiser("faces64")
    assert made.module.config == shipped.module.config
    assert (made.prediction, made.variance) == (shipped.prediction, shipped.variance)
    a, b = traverse_util.flatten_dict(made.params), traverse_util.flatten_dict(shipped.params)
    assert all(np.array_equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "edm"])
def test_the_printed_command_brings_an_export_back(prediction, weights, tmp_path, capsys):
    config = PriorConfig(TINY, "cosine", 200, prediction, "fixed_small", rescale_timesteps=True)
    params = traverse_util.unflatten_dict(convert_tensors(weights, config), sep="/")
    save_checkpoint(tmp_path / "prior.safetensors", params, config)
    assert convert(tmp_path / "prior.safetensors", tmp_path / "out.safetensors", command="export") == 0
    said = capsys.readouterr().out
    assert ("no flag" in said) == (prediction in ("v", "edm"))
    (back,) = [line for line in said.splitlines() if line.startswith("back: ")]
    words = back.replace("FOLDER", str(tmp_path / "back")).split()[3:]
    assert convert(*words[1:], command=words[0]) == 0
    assert load_checkpoint(tmp_path / "back").config == config


@pytest.mark.parametrize("changes", [{"patch_size": 2}, {"norm_groups": 8}])
def test_a_network_that_guided_diffusion_does_not_have_keeps_our_names_only(changes, tmp_path, capsys):
    config = PriorConfig(dataclasses.replace(TINY, **changes), variance="fixed_small")
    rng = np.random.default_rng(0)
    flat = {k: rng.standard_normal(v).astype(np.float32) for k, v in parameter_shapes(config.adm).items()}
    prior = tmp_path / "prior.safetensors"
    save_checkpoint(prior, traverse_util.unflatten_dict(flat, sep="/"), config)
    assert "no network of patches" in refused(capsys, prior, tmp_path / "a.safetensors", command="export")
    words = (prior, tmp_path / "b.safetensors", "--to")
    assert "no network of patches" in refused(capsys, *words, "torch-names", command="checkpoint")
    assert not [*tmp_path.glob("[ab].safetensors")]
    assert convert(*words, "safetensors", command="checkpoint") == 0
    assert load_checkpoint(tmp_path / "b.safetensors").config == config


USAGES = [[], ["guided-diffusion"], ["nonsense"], ["guided-diffusion", "a", "b", "--steps", "x"]]


@pytest.mark.parametrize("arguments", USAGES)
def test_bad_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.parse(["weights_convert", *arguments])
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_flags_before_the_command_and_none_cut_short(capsys):
    assert cli.parse(["weights_convert", "--logtostderr", "export", "a", "b"]).run is export.run
    with pytest.raises(SystemExit):
        cli.parse(["weights_convert", "export", "a", "b", "--overw"])
    assert "--overw" in capsys.readouterr().err


def test_module_command_needs_no_torch(torch_files, weights, tmp_path):
    # A torch that cannot be imported stands first on the path.
    (tmp_path / "torch.py").write_text("raise ImportError('torch must not be imported')")
    source = torch_files.checkpoint("tiny.pt", weights)
    arguments = ["weights_convert", "guided-diffusion", str(source), str(tmp_path / "out"), *SAY]
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = {arguments!r}\n"
        "from weights_convert.cli import entry_point\n"
        "try:\n    entry_point()\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "out" / "prior.json").is_file()
