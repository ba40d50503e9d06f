"""What a run tells besides its own files: writers, the best prior, a trace."""

import json
import struct
import sys

import numpy as np
import pytest

from jaxdiff import cli, load_denoiser
from jaxdiff.cli import bench
from jaxdiff.profiling import Trace
from jaxdiff.training import loop, train
from jaxdiff.training import state as state_module
from jaxdiff.training.report import Table
from jaxdiff.training.writers import Writer, writer_named


class Kept(Writer):
    """Keeps what it gets."""

    def __init__(self):
        self.begun, self.rows, self.closed = None, [], False

    def begin(self, step, config):
        self.begun = (step, config["steps"])

    def write(self, step, scalars, images):
        self.rows.append((step, dict(scalars), {name: pixels.shape for name, pixels in images.items()}))

    def close(self):
        self.closed = True


@pytest.fixture
def quick(monkeypatch, small_network):
    """Three layers instead of a UNet: the paths of the priors that would be written, in turn."""
    exported = []
    monkeypatch.setattr(state_module, "network", small_network)
    monkeypatch.setattr(loop, "network", small_network)
    monkeypatch.setattr(
        loop, "export_averages", lambda config, state, paths: exported.extend(p.name for p in paths.values())
    )
    return exported


def test_a_writer_gets_what_the_files_get(tiny, tmp_path, quick):
    kept = Kept()
    config = tiny(steps=4, report__eval_every=2, report__samples=2, report__sample_steps=2)
    train(config, tmp_path, writers=[kept])
    assert kept.begun == (0, 4)
    assert kept.closed
    log = loop.Table(tmp_path / "log.csv", loop._LOG, 4)
    losses = [(step, scalars["train/loss"]) for step, scalars, _ in kept.rows if "train/loss" in scalars]
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    np.testing.assert_allclose([loss for _, loss in losses], log.column("loss"), rtol=1e-5)
    evaluation = loop.Table(tmp_path / "evaluation.csv", loop._EVALUATION, 4)
    held_out = [scalars for _, scalars, _ in kept.rows if "held_out/psnr" in scalars]
    np.testing.assert_allclose([s["held_out/psnr_t10"] for s in held_out], evaluation.column("psnr")[::2], rtol=1e-5)
    assert held_out[0]["held_out/psnr"] == pytest.approx(np.mean(evaluation.column("psnr")[:2]), rel=1e-5)
    assert [(step, list(images)) for step, _, images in kept.rows if images] == [(2, ["samples"]), (4, ["samples"])]


@pytest.mark.slow
def test_a_run_that_goes_on_begins_its_writer_where_it_is(tiny, tmp_path, quick):
    train(tiny(), tmp_path, stop_at=3)
    kept = Kept()
    train(tiny(), tmp_path, writers=[kept])
    assert kept.begun == (3, 8)
    assert min(step for step, _, _ in kept.rows) == 4


def test_a_writer_is_closed_when_a_run_fails(tiny, tmp_path, quick, monkeypatch):
    kept = Kept()
    monkeypatch.setattr(loop._Run, "go", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(tiny(), tmp_path, writers=[kept])
    assert kept.closed


@pytest.mark.slow
def test_the_best_prior_is_that_of_the_highest_psnr(tiny, tmp_path, quick, monkeypatch):
    psnrs = iter([[20.0, 10.0], [21.0, 11.0], [30.0, 1.0], [np.nan, 40.0]])
    scores = lambda *a, **more: loop_scores(next(psnrs))  # noqa: E731
    monkeypatch.setattr(loop, "denoising_scores", scores)
    config = tiny(report__eval_every=2, report__checkpoint_every=100)
    train(config, tmp_path, stop_at=4)  # the first two
    assert quick.count("prior-best.safetensors") == 2
    train(config, tmp_path)  # 15.5 is not above 16, which a run that goes on remembers; NaN is above nothing
    assert quick.count("prior-best.safetensors") == 2


def loop_scores(psnr):
    from jaxdiff.training.evaluate import DenoisingScores

    return DenoisingScores(np.asarray(psnr), np.zeros(len(psnr)))


def test_the_best_of_an_empty_table_is_beaten_by_anything(tmp_path):
    assert loop._best(Table(tmp_path / "e.csv", loop._EVALUATION, 0)) == -np.inf


@pytest.mark.slow
def test_the_best_prior_can_be_loaded(tiny, tmp_path):
    train(tiny(steps=3), tmp_path)
    assert load_denoiser(str(tmp_path / "prior-best.safetensors")).image_shape == (8, 8, 3)
    assert json.loads((tmp_path / "prior-best.json").read_text())["training"]["updates"] == 3


def events(folder):
    """The events of TensorBoard's files: records of a length, its checksum, the event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event()
            event.ParseFromString(content[place + 12 : place + 12 + length])
            yield event
            place += 16 + length


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_the_numbers_and_the_pictures(tiny, tmp_path, quick):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install 'jaxdiff[tensorboard]'")
    config = tiny(steps=4, report__samples=2, report__sample_steps=2)
    train(config, tmp_path, stop_at=3, writers=[writer_named("tensorboard", tmp_path)])
    train(config, tmp_path, writers=[writer_named("tensorboard", tmp_path)])
    found = list(events(tmp_path / "tensorboard"))
    values = [(event.step, value) for event in found for value in event.summary.value]
    losses = [value.simple_value for _, value in values if value.tag == "train/loss"]
    np.testing.assert_allclose(losses, Table(tmp_path / "log.csv", loop._LOG, 4).column("loss"), rtol=1e-4)
    pictures = [(step, value.image.width) for step, value in values if value.tag == "samples"]
    assert pictures == [(4, 8 + 2 + 8)]
    assert [event.step for event in found if event.session_log.status == 1] == [4], "what is later was dropped"


@pytest.mark.slow
def test_weights_and_biases_offline(tiny, tmp_path, quick, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'jaxdiff[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(tiny(steps=3), tmp_path, writers=[writer_named("wandb", tmp_path)])
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = run.glob("*.wandb")
    content = file.read_bytes()
    assert b"train/loss" in content
    assert b"held_out/psnr" in content


@pytest.mark.parametrize(("name", "library"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, name, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf"pip install 'jaxdiff\[{name}\]'"):
        writer_named(name, tmp_path)


def test_an_unknown_writer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="choose tensorboard or wandb"):
        writer_named("mlflow", tmp_path)


@pytest.mark.slow
def test_a_trace_of_three_updates(tiny, tmp_path, quick):
    trace = Trace(tmp_path / "trace")
    train(tiny(steps=6), tmp_path / "run", trace=trace)
    assert "xprof" in trace.told()
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_a_run_that_is_too_short_is_not_traced(tmp_path):
    trace = Trace(tmp_path / "trace")
    trace()
    trace.close()
    assert "too short" in trace.told()
    assert not (tmp_path / "trace").exists()


def test_a_trace_that_has_begun_ends_with_the_run(tmp_path):
    trace = Trace(tmp_path / "trace", skip=1, count=100)
    trace()
    trace.close()
    trace.close()
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_bench_traces_chunks_that_are_done(tmp_path):
    told, trace = [], Trace(tmp_path / "trace", skip=1, count=1)
    report = bench._traced(told.append, trace)
    for count in (0, 5, 0, 5):
        report(count)
    assert told == [0, 5, 0, 5]
    assert "xprof" in trace.told()
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


@pytest.mark.parametrize(
    ("command", "words"),
    [("train", ("--config", "faces64_minutes", "--data", ".")), ("bench", ("--images", ".", "--tasks", "denoise"))],
)
def test_a_trace_needs_a_folder(tmp_path, capsys, command, words):
    (tmp_path / "file").write_text("x")
    more = ("--methods", "ddnm") if command == "bench" else ()
    command_line = [
        "jaxdiff",
        command,
        *words,
        *more,
        "--out",
        str(tmp_path / "o"),
        "--profile",
        str(tmp_path / "file"),
    ]
    with pytest.raises(SystemExit) as stop:
        cli.entry_point(command_line)
    assert stop.value.code == 2
    assert "is a file); choose another --profile." in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
