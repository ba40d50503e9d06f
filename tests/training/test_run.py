"""Whole runs: what they write, killing and going on, and refusals."""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time

import jax
import pytest
from PIL import Image

from jaxdiff import load_denoiser
from jaxdiff.cli.train import _absolute, add_arguments, config_from, run
from jaxdiff.training import TrainConfig, loop, train
from jaxdiff.training.config import Teacher
from jaxdiff.training.folder import alone
from jaxdiff.training.report import Table
from tests.support import networks
from tests.support.networks import quick
from tests.support.runs import rows_of, same

ROOT = pathlib.Path(__file__).parents[2]


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
    _kill_when(second, lambda: int(rows_of(out / "log.csv")[-1]["step"]) in (45, 75), errors)
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
    assert same(ours, theirs)
    assert our_place == their_place
    steps = [int(row["step"]) for row in rows_of(out / "log.csv")]
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
    assert same(denoiser.params, state["ema"]["ema0_9"])
    assert same(load_denoiser(str(out / "prior-ema0_5.safetensors")).params, state["ema"]["ema0_5"])
    assert json.loads((out / "prior.json").read_text())["training"]["images"] == 32

    evaluation = rows_of(out / "evaluation.csv")
    assert [(row["step"], row["t"]) for row in evaluation] == [("4", "10"), ("4", "50")]
    assert float(evaluation[0]["psnr"]) > float(evaluation[1]["psnr"])
    assert (out / "loss.png").stat().st_size > 5000
    report = (out / "report.html").read_text("utf-8")
    assert f"<dd>jaxdiff train --config {out}/config.json --out ANOTHER</dd>" in report
    assert f"{float(evaluation[0]['psnr']):.2f}</td>" in report
    assert "after 4 updates" in report
    with Image.open(out / "samples" / "step_00000004.png") as sheet:
        assert sheet.size == (18, 18)


def test_a_folder_of_another_run_is_refused_and_left_alone(tiny, tmp_path, monkeypatch, small_network):
    quick(monkeypatch, small_network)
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
    quick(monkeypatch, small_network)
    out = tmp_path / "run"
    train(tiny(), out, stop_at=3)
    for file in (out / "checkpoints" / "3").rglob("*"):
        if file.is_file() and file.parent.name != "3":
            file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoint 3 in .* cannot be taken up"):
        train(tiny(), out)


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(tiny, tmp_path, monkeypatch, small_network):
    quick(monkeypatch, small_network)
    config = tiny(optimizer__learning_rate=1e30, optimizer__clip_norm=0.0, report__log_every=8)
    with pytest.raises(ValueError, match="no longer finite"):
        train(config, tmp_path / "run")
    assert not [p for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()]


@pytest.mark.slow
@pytest.mark.parametrize(("checkpoint_every", "advice"), [(8, "clip_norm.$"), (1, "from the last weights with --init")])
def test_what_to_do_after_a_loss_that_is_not_finite(
    tiny, tmp_path, monkeypatch, small_network, checkpoint_every, advice
):
    quick(monkeypatch, small_network)
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


def test_two_processes_do_not_train_in_one_folder(tiny, tmp_path):
    pytest.importorskip("fcntl")
    with alone(tmp_path), pytest.raises(ValueError, match="another process trains"):
        train(tiny(), tmp_path)
    with alone(tmp_path):
        pass


@pytest.mark.slow
def test_an_evaluation_that_a_kill_left_out_is_made(tiny, tmp_path, monkeypatch):
    networks.install()
    config = tiny(steps=6, report__checkpoint_every=2, report__eval_every=2, report__samples=0)
    train(config, tmp_path / "whole")

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "stopped")
    train(config, tmp_path / "stopped")
    ours, theirs = (rows_of(tmp_path / name / "evaluation.csv") for name in ("stopped", "whole"))
    assert [row["step"] for row in theirs] == ["2", "2", "4", "4", "6", "6"]
    assert ours == theirs


def test_a_refused_run_leaves_no_folder(tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = [
        "--config",
        "faces64_minutes",
        "--data",
        str(tmp_path / "nosuch"),
        "--out",
        str(tmp_path / "deep" / "a" / "b"),
    ]
    with pytest.raises(ValueError, match="nosuch"):
        run(parser.parse_args(words))
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("name", ["log.csv", "evaluation.csv"])
def test_a_damaged_table_is_named(tmp_path, name):
    columns = ["step", "loss"]
    (tmp_path / name).write_text("step,loss\nfirst,0.1\n")
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        Table(tmp_path / name, columns, 3)
    assert (tmp_path / name).read_text() == "step,loss\nfirst,0.1\n"
