"""Whole runs: what they write, killing and going on, stopping, starting from weights, and refusals."""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from jaxdiff import load_denoiser
from jaxdiff.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from jaxdiff.cli.console import progress
from jaxdiff.cli.train import Told, _absolute, add_arguments, config_from, run
from jaxdiff.training import TrainConfig, denoising_scores, loop, start, train
from jaxdiff.training import state as state_module
from jaxdiff.training.config import Teacher
from jaxdiff.training.data import Stream
from jaxdiff.training.report import Progress
from jaxdiff.training.state import init_state
from tests.support.tiers import fast_only
from weights_convert.checkpoint import convert_file

ROOT = pathlib.Path(__file__).parents[2]
FAMILIES = ROOT / "tests" / "golden" / "families"


def _quick(monkeypatch, small_network):
    """Three layers instead of a UNet, and so no export of a prior."""
    monkeypatch.setattr(state_module, "network", small_network)
    monkeypatch.setattr(loop, "network", small_network)
    monkeypatch.setattr(loop, "_export", lambda *_: None)


def _same(a, b):
    leaves = jax.tree.leaves(jax.tree.map(lambda x, y: bool((np.asarray(x) == np.asarray(y)).all()), a, b))
    return all(leaves)


def _rows(file):
    header, *rows = file.read_text().splitlines()
    return [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]


def _start(script, errors):
    with errors.open("w") as file:
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=file)


def _kill_when(process, condition, errors, patience=600):
    deadline = time.monotonic() + patience
    while not condition():
        assert process.poll() is None, errors.read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_and_started_again_it_reaches_the_same_weights(tiny, tmp_path, monkeypatch):
    # A cache of its own, since the kill may come in the middle of anything.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    config = tiny(steps=90, report__checkpoint_every=30, report__log_every=5, data__holdout=0)
    (tmp_path / "config.json").write_text(config.to_json())
    out, errors = tmp_path / "killed", tmp_path / "errors.txt"

    def script(folder):
        return (
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from tests.support import networks; networks.install()\n"
            "from jaxdiff.training import load_config, train\n"
            f"train(load_config({str(tmp_path / 'config.json')!r}), {str(folder)!r})"
        )

    whole = _start(script(tmp_path / "whole"), errors)
    assert whole.wait(900) == 0, errors.read_text()[-2000:]

    # Once while the second checkpoint is being written, once between two checkpoints, then to the end.
    first = _start(script(out), errors)
    _kill_when(first, lambda: list(out.glob("checkpoints/60*tmp*")), errors)
    assert {p.name for p in out.glob("checkpoints/[0-9]*") if p.name.isdigit()} <= {"30", "60"}
    second = _start(script(out), errors)
    _kill_when(second, lambda: int(_rows(out / "log.csv")[-1]["step"]) in (45, 75), errors)
    third = _start(script(out), errors)
    assert third.wait(900) == 0, errors.read_text()[-2000:]

    ends = []
    for folder in (out, tmp_path / "whole"):
        checkpoints = loop.Checkpoints(folder / "checkpoints")
        assert checkpoints.latest() == 90
        ends.append(checkpoints.read(90))
        checkpoints.close()
    (ours, our_place), (theirs, their_place) = ends
    assert (
        len(jax.tree.leaves(ours)) == 1 + 5 * 6 + 2
    )  # updates done; parameters, moments, averages; the moments' counts
    assert _same(ours, theirs)
    assert our_place == their_place
    steps = [int(row["step"]) for row in _rows(out / "log.csv")]
    assert steps == sorted(set(steps))
    assert not list(out.glob("checkpoints/*tmp*"))


@pytest.mark.slow
def test_a_whole_run_of_a_real_network(pictures, tiny, tmp_path, capfd):
    (tmp_path / "config.json").write_text(tiny(steps=4, report__samples=3, report__sample_steps=2).to_json())
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    out = tmp_path / "run"
    assert run(parser.parse_args(["--config", str(tmp_path / "config.json"), "--out", str(out)])) == 0
    assert f"4 updates done; the prior is {out / 'prior.safetensors'}" in capfd.readouterr().out
    assert TrainConfig.from_json((out / "config.json").read_text()).steps == 4

    denoiser = load_denoiser(str(out / "prior.safetensors"))
    assert (denoiser.prediction, denoiser.image_shape) == ("v", (8, 8, 3))
    checkpoints = loop.Checkpoints(out / "checkpoints")
    state, _ = checkpoints.read(4)
    checkpoints.close()
    assert _same(denoiser.params, state["ema"]["ema0_9"])
    assert _same(load_denoiser(str(out / "prior-ema0_5.safetensors")).params, state["ema"]["ema0_5"])
    assert json.loads((out / "prior.json").read_text())["training"]["images"] == 32

    evaluation = _rows(out / "evaluation.csv")
    assert [(row["step"], row["t"]) for row in evaluation] == [("4", "10"), ("4", "50")]
    assert float(evaluation[0]["psnr"]) > float(evaluation[1]["psnr"])
    assert (out / "loss.png").stat().st_size > 5000
    report = (out / "report.html").read_text("utf-8")
    assert f"<dd>jaxdiff train --config {out}/config.json --out ANOTHER</dd>" in report
    assert f"{float(evaluation[0]['psnr']):.2f}</td>" in report
    assert "after 4 updates" in report
    with Image.open(out / "samples" / "step_00000004.png") as sheet:
        assert sheet.size == (18, 18)


@pytest.mark.slow
@pytest.mark.parametrize("apart", fast_only([True], [False, True]))
def test_held_out_images_are_denoised_with_their_own_classes(
    tiny, pictures, tmp_path, monkeypatch, small_network, apart
):
    _quick(monkeypatch, small_network)
    for i, file in enumerate(sorted(pictures.iterdir())):
        for place in ("all", "apart") if i in (8, 15) else ("all",):
            folder = tmp_path / place / ("cat" if i < 12 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).write_bytes(file.read_bytes())
    config = tiny(
        steps=4,
        prior__unet__num_classes=2,
        data__sources=[{"path": str(tmp_path / "all")}],
        data__holdout_path=str(tmp_path / "apart") if apart else None,
        report__eval_every=2,
    )
    result = train(config, tmp_path / "run")
    rows = _rows(tmp_path / "run" / "evaluation.csv")
    assert [int(row["step"]) for row in rows] == [2, 2, 4, 4]
    data = loop._read_data(config, Progress())
    denoiser = loop.denoiser_of(config, result.state.ema["ema0_9"])
    images = data.holdout.astype(np.float32) / 127.5 - 1
    expected = denoising_scores(denoiser, images, (10, 50), labels=np.array([0, 1]))
    np.testing.assert_allclose([float(row["psnr"]) for row in rows[2:]], expected.psnr, rtol=1e-5)


@pytest.mark.slow
def test_an_evaluation_that_fails_costs_no_updates(tiny, tmp_path, monkeypatch, small_network):
    _quick(monkeypatch, small_network)

    def fail(*_, **__):
        raise ValueError("no memory for it")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "denoising_scores", fail)
        for reached in (3, 6):
            with pytest.raises(ValueError, match="no memory for it"):
                train(tiny(report__eval_every=3), tmp_path / "run")
            assert (tmp_path / "run" / "checkpoints" / str(reached)).is_dir()
    assert train(tiny(report__eval_every=3), tmp_path / "run").finished


@pytest.mark.slow
def test_scores_of_classes_are_those_of_each_image_with_its_own(tiny, monkeypatch, small_network):
    _quick(monkeypatch, small_network)
    config = tiny(prior__unet__num_classes=2)
    denoiser = loop.denoiser_of(config, jax.tree.map(lambda p: p + 0.1, init_state(config).params))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)

    def scores(count, label):
        one_class = denoiser.replace(label=np.int32(label))
        return np.asarray(denoising_scores(one_class, images[:count], (10, 50), batch_size=2))

    found = denoising_scores(denoiser, images, (10, 50), labels=np.array([0, 1]), batch_size=2)
    second_image = 2 * scores(2, 1) - scores(1, 1)
    np.testing.assert_allclose(found, (scores(1, 0) + second_image) / 2, rtol=1e-4)
    assert np.abs(np.asarray(found) / scores(2, 0) - 1).max() > 1e-3


@pytest.mark.slow
def test_stopped_anywhere_and_gone_on(tiny, tmp_path, monkeypatch, small_network):
    _quick(monkeypatch, small_network)
    config = tiny(steps=11)
    expected = train(config, tmp_path / "whole")
    for stop_at in (1, 4, 5, 11):
        result = train(config, tmp_path / "parts", stop_at=stop_at)
        assert (result.step, result.finished) == (stop_at, stop_at == 11)
    assert expected.finished
    assert _same(result.state, expected.state)
    rows = _rows(tmp_path / "parts" / "log.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 12))
    for ours, theirs in zip(rows, _rows(tmp_path / "whole" / "log.csv"), strict=True):
        assert ours["loss"] == theirs["loss"]
    again = train(config, tmp_path / "parts")
    assert again.finished
    assert _same(again.state, expected.state)


def test_sigterm_saves_and_stops(tiny, tmp_path, monkeypatch, small_network, capfd):
    _quick(monkeypatch, small_network)
    following = Stream.__next__
    seen = []

    def next_(self):
        seen.append(1)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return following(self)

    monkeypatch.setattr(Stream, "__next__", next_)
    before = signal.getsignal(signal.SIGTERM)
    with progress() as bar:
        result = train(tiny(steps=50), tmp_path / "run", progress=Told(bar))
    assert (result.step, result.finished) == (5, False)
    assert (tmp_path / "run" / "checkpoints" / "5").is_dir()
    assert signal.getsignal(signal.SIGTERM) is before
    err = capfd.readouterr().err
    assert "22 images (2 held out, 0 unreadable)" in err
    assert "the same command goes on from there" in err
    assert "images/s" in err


@pytest.mark.slow
def test_runs_outside_the_main_thread(tiny, tmp_path, monkeypatch, small_network):
    _quick(monkeypatch, small_network)
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tiny(steps=3), tmp_path / "r")))
    thread.start()
    thread.join()
    assert results[0].finished


def test_a_folder_of_another_run_is_refused_and_left_alone(tiny, tmp_path, monkeypatch, small_network):
    _quick(monkeypatch, small_network)
    out = tmp_path / "run"
    train(tiny(), out, stop_at=3)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"optimizer.learning_rate is 0.002 there and 0.1 here"):
        train(tiny(optimizer__learning_rate=0.1), out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    longer = train(tiny(steps=10, report__log_every=5), out)
    assert longer.step == 10


def test_files_where_the_prior_will_go_are_refused_at_once(tiny, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "prior.json").write_text('{"mine": 1}')
    with pytest.raises(ValueError, match=r"prior.json is no part of a prior that jaxdiff wrote"):
        train(tiny(), out)
    assert [p.name for p in out.iterdir()] == ["prior.json"]


def test_a_damaged_checkpoint_is_named(tiny, tmp_path, monkeypatch, small_network):
    _quick(monkeypatch, small_network)
    out = tmp_path / "run"
    train(tiny(), out, stop_at=3)
    for file in (out / "checkpoints" / "3").rglob("*"):
        if file.is_file() and file.parent.name != "3":
            file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoint 3 in .* cannot be taken up"):
        train(tiny(), out)


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(tiny, tmp_path, monkeypatch, small_network):
    _quick(monkeypatch, small_network)
    config = tiny(optimizer__learning_rate=1e30, optimizer__clip_norm=0.0, report__log_every=8)
    with pytest.raises(ValueError, match="no longer finite"):
        train(config, tmp_path / "run")
    assert not [p for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()]


@pytest.mark.slow
@pytest.mark.parametrize(("checkpoint_every", "advice"), [(8, "clip_norm.$"), (1, "from the last weights with --init")])
def test_what_to_do_after_a_loss_that_is_not_finite(
    tiny, tmp_path, monkeypatch, small_network, checkpoint_every, advice
):
    _quick(monkeypatch, small_network)
    given = {"optimizer__learning_rate": 1e20, "optimizer__clip_norm": 0.0, "optimizer__warmup_steps": 0}
    (tmp_path / "config.json").write_text(tiny(**given, report__checkpoint_every=checkpoint_every).to_json())
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["--config", str(tmp_path / "config.json"), "--out", str(tmp_path / "run"), "--no-progress"]
    with pytest.raises(ValueError, match=rf"start a new run .* lower .*{advice}"):
        run(parser.parse_args(words))
    assert (tmp_path / "run" / "log.csv").exists()
    assert any((tmp_path / "run" / "checkpoints").glob("[0-9]*")) == (checkpoint_every == 1)


def test_batches_that_devices_cannot_share_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="multiple of 16"):
        loop._check_devices(tiny(optimizer__batch_size=8, optimizer__accumulate=2), 8)
    loop._check_devices(tiny(optimizer__batch_size=16, optimizer__accumulate=2), 8)


def test_starting_from_weights(tiny, tmp_path):
    source = tiny(seed=5)
    params = init_state(source).params
    save_checkpoint(tmp_path / "given.safetensors", params, source.prior)
    config = tiny(init=str(tmp_path / "given.safetensors"))
    assert _same(start.initial(config).params, params)
    assert start.initial(tiny()) is None
    bigger = tiny(init=str(tmp_path / "given.safetensors"), prior__unet__image_size=16)
    assert _same(start.initial(bigger).params, params)
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
    assert all(np.isfinite(float(row["loss"])) for row in _rows(out / "log.csv"))


def test_weights_of_another_family_are_refused(tiny, tmp_path):
    given = tmp_path / "given"
    convert_file(FAMILIES / "edm_ddpmpp.pkl", given, name="given", origin={})
    with pytest.raises(ValueError, match="is of the family song, the prior to be trained of adm"):
        start.initial(tiny(init=str(given)))


@pytest.mark.slow
def test_what_weights_to_start_from_have_to_unlearn_is_said(tiny, tmp_path, monkeypatch, small_network):
    _quick(monkeypatch, small_network)
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
    _quick(monkeypatch, small_network)
    config = tiny(init="given")
    given = Checkpoint(init_state(config).params, config.prior, {})
    with monkeypatch.context() as patched:
        patched.setattr(start, "load_checkpoint", lambda _: given)
        train(config, tmp_path / "run", stop_at=3)
    assert train(config, tmp_path / "run").finished


def test_several_hosts_leave_at_the_same_update(monkeypatch):
    here = types.SimpleNamespace(asked=False)
    assert not loop._told_to_stop(here, 10, 5)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    told = []
    monkeypatch.setattr(loop, "process_allgather", lambda mine: told.append(bool(mine)) or np.array([mine, True]))
    assert not loop._told_to_stop(here, 9, 5)
    assert told == []
    assert loop._told_to_stop(here, 10, 5)  # the other host was asked
    monkeypatch.setattr(loop, "process_allgather", lambda mine: np.array([mine, False]))
    assert not loop._told_to_stop(here, 10, 5)
    here.asked = True
    assert not loop._told_to_stop(here, 9, 5)
    assert loop._told_to_stop(here, 10, 5)


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


def test_unwritable_folder(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to"):
        train(tiny(), tmp_path / "file" / "run")


def test_paths_that_exist_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"")
    assert _absolute("a.zip") == str(tmp_path / "a.zip")
    assert _absolute("faces64") == "faces64"


def test_files_named_by_a_field_become_absolute_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher.safetensors").write_bytes(b"")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["--config", "faces64_minutes", "--out", "run", "--set", 'loss.teachers=["teacher.safetensors"]']
    config = config_from(parser.parse_args([*words, "--set", "data.holdout_path=.", "--init", "faces64"]))
    assert config.loss.teachers == (Teacher(str(tmp_path / "teacher.safetensors")),)
    assert config.data.holdout_path == str(tmp_path)
    assert config.init == "faces64"


@pytest.mark.slow
def test_evaluation_is_the_same_for_every_split_into_batches(tiny, monkeypatch, small_network):
    _quick(monkeypatch, small_network)
    from jaxdiff.training.evaluate import draw

    config = tiny()
    denoiser = loop.denoiser_of(config, init_state(config).params)
    images = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 3)).astype(np.float32)
    a, b = (denoising_scores(denoiser, images, (10, 50), batch_size=size) for size in (2, 5))
    np.testing.assert_allclose(a, b, rtol=1e-5)
    fewer, more = (draw(denoiser, 3, steps=3, batch_size=size) for size in (2, 3))
    np.testing.assert_allclose(fewer, more, atol=1e-5)
    assert fewer.shape == (3, 8, 8, 3)


def test_scores_of_a_network_of_zeros_are_known_from_the_noise(tiny, monkeypatch, small_network):
    """v̂ = 0, so x̂₀ = √ᾱ x_t and ε̂ = √(1−ᾱ) x_t."""
    _quick(monkeypatch, small_network)
    config = tiny()
    denoiser = loop.denoiser_of(config, jax.tree.map(np.zeros_like, init_state(config).params))
    images = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 3)).astype(np.float32)
    found = denoising_scores(denoiser, images, (10, 50), seed=4, batch_size=2)
    alpha_bar = np.cumprod(1 - np.linspace(0.001, 0.2, 100))  # the linear schedule of 100 steps
    for row, t in enumerate((10, 50)):
        key = jax.random.fold_in(jax.random.key(4), t)
        noise = np.stack([jax.random.normal(jax.random.fold_in(key, i), (8, 8, 3)) for i in range(3)])
        signal, spread = np.sqrt(alpha_bar[t]), np.sqrt(1 - alpha_bar[t])
        x_t = signal * images + spread * noise
        error = np.mean((np.clip(signal * x_t, -1, 1) - images) ** 2, axis=(1, 2, 3)) / 4
        np.testing.assert_allclose(found.psnr[row], np.mean(-10 * np.log10(error)), rtol=1e-5)
        np.testing.assert_allclose(found.eps_mse[row], np.mean((spread * x_t - noise) ** 2), rtol=1e-5)
