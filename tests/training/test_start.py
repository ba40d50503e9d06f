"""What a run starts from: weights of its own architecture or a public one, and teachers."""

import argparse
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxdiff.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from jaxdiff.cli.train import add_arguments, run
from jaxdiff.training import start, train
from jaxdiff.training.config import Teacher
from jaxdiff.training.report import Progress
from jaxdiff.training.state import init_state
from tests.support.networks import quick
from tests.support.runs import rows_of, same
from weights_convert.checkpoint import convert_file

ROOT = pathlib.Path(__file__).parents[2]
FAMILIES = ROOT / "tests" / "golden" / "families"


def test_starting_from_weights(tiny, tmp_path):
    source = tiny(seed=5)
    params = init_state(source).params
    save_checkpoint(tmp_path / "given.safetensors", params, source.prior)
    config = tiny(init=str(tmp_path / "given.safetensors"))
    assert same(start.initial(config).params, params)
    assert start.initial(tiny()) is None
    bigger = tiny(init=str(tmp_path / "given.safetensors"), prior__unet__image_size=16)
    assert same(start.initial(bigger).params, params)
    with pytest.raises(ValueError, match="model_channels is 32 there, 64 here"):
        start.initial(tiny(init=str(tmp_path / "given.safetensors"), prior__unet__model_channels=64))
    assert safetensors.numpy.load_file(tmp_path / "given.safetensors")["out_2/bias"].dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "levels"),
    [("edm_ddpmpp.pkl", "log_normal"), ("edm_adm_cond.pkl", "log_normal"), ("diffusers_ddpm", "uniform")],
)
def test_public_networks_of_any_family_are_trained_on(tmp_path, pictures, file, levels):
    given, out = tmp_path / "given", tmp_path / "run"
    convert_file(FAMILIES / file, given, name="given", origin={})
    classes = load_checkpoint(str(given)).config.unet.num_classes
    data = pictures
    if classes is not None:
        data = tmp_path / "classes"
        for i, path in enumerate(sorted(pictures.iterdir())):
            (data / str(i % classes)).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, data / str(i % classes) / path.name)
    options = ["steps=2", "optimizer.batch_size=4", "optimizer.warmup_steps=0", "report.times=[0]", "report.samples=0"]
    options += [f"loss.levels={levels}", "data.holdout=2", "ema=[0]"]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    flags = [flag for option in options for flag in ("--set", option)]
    assert run(parser.parse_args(["--init", str(given), "--data", str(data), "--out", str(out), *flags])) == 0
    before, after = load_checkpoint(str(given)), load_checkpoint(str(out / "prior.safetensors"))
    assert after.config.network == before.config.network
    assert after.config.preconditioning == before.config.preconditioning
    moved = jax.tree.map(
        lambda a, b: float(np.abs(np.asarray(a, np.float32) - np.asarray(b)).max()), before.params, after.params
    )
    assert 0 < max(jax.tree.leaves(moved)) < 1e-2
    assert all(np.isfinite(float(row["loss"])) for row in rows_of(out / "log.csv"))


def test_weights_of_another_family_are_refused(tiny, tmp_path):
    given = tmp_path / "given"
    convert_file(FAMILIES / "edm_ddpmpp.pkl", given, name="given", origin={})
    with pytest.raises(ValueError, match="is of the family song, the prior to be trained of adm"):
        start.initial(tiny(init=str(given)))


@pytest.mark.slow
def test_what_weights_to_start_from_have_to_unlearn_is_said(tiny, tmp_path, monkeypatch, small_network):
    quick(monkeypatch, small_network)
    source = tiny(prior__prediction="edm")
    given = Checkpoint(init_state(source).params, source.prior, {})
    monkeypatch.setattr(start, "load_checkpoint", lambda _: given)
    told = {"v": Progress(), "edm": Progress()}
    said = {name: [] for name in told}
    for name, listener in told.items():
        monkeypatch.setattr(listener, "say", said[name].append)
    train(tiny(init="given", steps=3), tmp_path / "v", progress=told["v"])
    assert 'prior.prediction is "edm" there and "v" here' in "".join(said["v"])
    train(tiny(init="given", prior__prediction="edm", steps=3), tmp_path / "edm", progress=told["edm"])
    assert said["edm"]
    assert "has to change" not in "".join(said["edm"])


@pytest.mark.slow
def test_going_on_does_not_need_the_weights_of_the_start(tiny, tmp_path, monkeypatch, small_network):
    quick(monkeypatch, small_network)
    config = tiny(init="given")
    given = Checkpoint(init_state(config).params, config.prior, {})
    with monkeypatch.context() as patched:
        patched.setattr(start, "load_checkpoint", lambda _: given)
        train(config, tmp_path / "run", stop_at=3)
    assert train(config, tmp_path / "run").finished


def test_a_teacher_of_another_size_or_schedule_is_refused(tiny, tmp_path):
    config = tiny()
    path = str(tmp_path / "teacher.safetensors")
    save_checkpoint(path, init_state(config).params, config.prior)
    assert start.teachers_of(tiny()) == ()
    assert start.teachers_of(tiny(loss__teachers=(Teacher(path),)))[0].image_shape == (8, 8, 3)
    with pytest.raises(ValueError, match="same size"):
        start.teachers_of(tiny(loss__teachers=(Teacher(path),), prior__unet__image_size=16))
    with pytest.raises(ValueError, match="another noise schedule"):
        start.teachers_of(tiny(loss__teachers=(Teacher(path),), prior__schedule="cosine"))
