"""A run on the page: it can be stopped, it leaves nothing on disk, and its lines make its pixels again."""

import contextlib
import io
import json
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import jaxdiff as jd
from jaxdiff import cli
from jaxdiff.app import picture, show
from jaxdiff.app.wish import MASK, Wish, words
from jaxdiff.app.work import Commands, Failure, Order, Restored, Result, Stopped, measured, runs
from jaxdiff.checkpoints import load_denoiser
from jaxdiff.cli.app import commands
from jaxdiff.engine import Glimpse
from jaxdiff.photos import Framing
from tests.support.networks import tiny_denoiser

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
ORDER = Order(Wish("inpaint_box", Framing(4, 2, 16), draws=2), PICTURE)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where temporary files go; nothing is left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not [*folder.iterdir()]


def restoring(restore):
    return Commands(tiny_denoiser((16, 16, 3)), lambda said: pytest.fail("not asked for"), restore)


def glimpse(done):
    x = np.zeros((2, 16, 16, 3), np.float32)
    return Glimpse(x, x, 0, done, 10)


def outcome(*arguments):
    return [*runs(*arguments, threading.Event())]


def test_a_result_has_all_files_and_the_lines_that_repeat_it():
    problem = jd.Problem.of(jd.operators.denoise(image_shape=(16, 16, 3)), np.zeros((16, 16, 3), np.float32), 0.05)

    def restore(said, watch):
        out = Path(said[said.index("--out") + 1])
        assert Path(said[1]).is_file()
        out.mkdir()
        for name in (".jaxdiff.json", "measured.png", "restored_1.png", "restored_2.png", "mean.png", "std.png"):
            (out / name).write_bytes(show.png(PICTURE))
        watch(glimpse(10))
        rows = [{"psnr": 20.0 + i, "lpips": 0.1} for i in range(3)]
        return Restored(problem, False, rows, [f"6 files in {out}"], "dps (it <won>)")

    seen, result = outcome(restoring(restore), ORDER)
    assert seen.done == 10
    with zipfile.ZipFile(io.BytesIO(result.zip())) as archive:
        pictures = [f"restored/{name}.png" for name in ("mean", "measured", "restored_1", "restored_2", "std")]
        expected = ["picture.png", *pictures, "repeat.py", "repeat.sh"]
        assert sorted(archive.namelist()) == sorted(f"jaxdiff/{name}" for name in expected)
        assert archive.read("jaxdiff/repeat.sh").decode() == f"{result.command}\n"
        held = PILImage.open(io.BytesIO(archive.read("jaxdiff/picture.png")))
        np.testing.assert_array_equal(np.asarray(held), PICTURE)
    page = show.results(result)
    assert "it &lt;won&gt;" in page
    assert "22.00 dB" in page
    assert "6 files in restored<" in page


def test_stop_ends_the_run_at_the_next_chunk():
    chunks = []

    def restore(said, watch):
        for done in range(1, 1000):
            chunks.append(done)
            watch(glimpse(done))
            time.sleep(0.001)

    stop, seen = threading.Event(), []
    for event in runs(restoring(restore), ORDER, stop):
        seen.append(event)
        if len(seen) == 3:
            stop.set()
    assert isinstance(seen[-1], Stopped)
    assert len(chunks) < 500


def test_a_visitor_who_leaves_ends_the_run():
    ended = threading.Event()

    def restore(said, watch):
        try:
            while True:
                watch(glimpse(1))
                time.sleep(0.001)
        finally:
            ended.set()

    run = runs(restoring(restore), ORDER, threading.Event())
    next(run)
    run.close()
    assert ended.is_set()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("mmps diverged."), "mmps diverged."),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GB"), "the run failed (RuntimeError)"),
        (KeyError("ours"), "the run failed (KeyError)"),
    ],
)
def test_a_run_that_fails_says_so(error, sentence):
    def restore(said, watch):
        raise error

    (failed,) = outcome(restoring(restore), ORDER)
    assert isinstance(failed, Failure)
    assert failed.sentence.startswith(sentence)


def test_a_sentence_does_not_tell_where_temporary_files_are(temporary):
    random = ORDER._replace(wish=Wish("inpaint_random", Framing(4, 2, 16), measured=True))
    with pytest.raises(ValueError, match=r"was never done to picture\.png") as refused:
        measured(commands(tiny_denoiser((16, 16, 3))), random)
    assert str(temporary) not in str(refused.value)


@pytest.mark.slow
def test_the_measurement_is_that_of_the_frame():
    view, truth = measured(commands(tiny_denoiser((16, 16, 3))), ORDER)
    assert view.shape == (16, 16, 3)
    np.testing.assert_allclose((truth + 1) * 127.5, PICTURE[4:20, 2:18], atol=1e-3)


FRAME = Framing(4, 2, 16)
STROKES = json.dumps({"strokes": [{"width": 0.2, "points": [[0.3, 0.5], [0.7, 0.6]]}]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "frame", "measured", "method"),
    [
        ("inpaint_box", None, False, ""),
        (MASK, FRAME, False, "ddnm"),
        (MASK, FRAME, True, "ddnm"),
        ("grayscale", None, True, "dps"),
        ("super_resolution", FRAME, True, ""),
    ],
)
def test_page_command_line_and_python_make_the_same_pixels(prior, tmp_path, monkeypatch, task, frame, measured, method):
    wish = Wish(task, frame, measured, method, calls=6, draws=2, seed=3, prior=str(prior))
    order = Order(wish, PICTURE, picture.hidden(STROKES, (16, 16)) if task == MASK else None)
    *seen, result = outcome(commands(load_denoiser(prior)), order)
    assert isinstance(result, Result), result
    assert [glimpse.done for glimpse in seen][-1:] == [seen[-1].total]
    with zipfile.ZipFile(io.BytesIO(result.zip())) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path / "jaxdiff")
    shown = [Path(f"restored/restored_{i}.png").read_bytes() for i in (1, 2)]
    Path("restored").rename("page")
    with pytest.raises(SystemExit) as stop:
        cli.entry_point(["jaxdiff", *words(wish)])
    assert not stop.value.code
    assert [Path(f"restored/restored_{i}.png").read_bytes() for i in (1, 2)] == shown
    with contextlib.chdir(tmp_path / "jaxdiff"):
        exec(compile(result.script, "repeat.py", "exec"), {})
    assert [Path(f"restored_{i}.png").read_bytes() for i in (1, 2)] == shown
