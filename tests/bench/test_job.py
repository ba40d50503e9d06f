"""The grid as one job: killed, shared, short of disk, with pictures that cannot be read, it ends with the same table."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import cli
from jaxdiff.bench import job as bench
from jaxdiff.bench import summary
from jaxdiff.engine.bookmark import Bookmark
from jaxdiff.files import load_image
from tests.support.jobs import GRID, SMALL, rows_of
from tests.support.networks import tiny_denoiser


@pytest.fixture(scope="module")
def unbroken(data, tiny, tmp_path_factory):
    """The rows of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("unbroken")
    outcome = bench.Job(GRID, data, out, tiny).run()
    assert outcome.missing == 0
    return rows_of(out)


def test_every_image_has_a_row_for_each_task_method_and_seed(unbroken):
    assert len(unbroken) == 5 * 2 * 2 * 2
    assert len({(row["task"], row["method"], row["seed"], row["image"]) for row in unbroken}) == len(unbroken)
    assert {row["status"] for row in unbroken} == {"ok"}
    assert {row["image"] for row in unbroken} == {"0", "1", "2", "more/3", "more/4"}
    calls = {row["method"]: row["network_calls"] for row in unbroken}
    assert calls == {"dps": "12", "ddrm": "12"}


@pytest.mark.slow
def test_rows_do_not_depend_on_parts_or_batches(data, tiny, tmp_path, unbroken):
    grid = replace(GRID, part=5, pictures=False)
    bench.Job(grid, data, tmp_path, tiny).run(batch_size=3)
    for ours, theirs in zip(rows_of(tmp_path), unbroken, strict=True):
        assert [ours[k] for k in ("task", "method", "seed", "image")] == [
            theirs[k] for k in ("task", "method", "seed", "image")
        ]
        assert float(ours["psnr"]) == pytest.approx(float(theirs["psnr"]), abs=2e-3)
    assert not (tmp_path / "pictures").exists()


@pytest.mark.slow
def test_pictures_are_what_was_scored(data, tiny, tmp_path, unbroken):
    job = bench.Job(GRID, data, tmp_path, tiny)
    job.run()
    row = next(row for row in unbroken if row["image"] == "more/3" and row["task"] == "grayscale")
    with PILImage.open(job.picture("grayscale", row["method"], int(row["seed"]), 3)) as picture:
        restored = np.asarray(picture, np.float64) / 255
    truth = (load_image(job.images[3], size=(32, 32), resize=True).pixels.astype(np.float64) + 1) / 2
    assert -10 * np.log10(np.mean((restored - truth) ** 2)) == pytest.approx(float(row["psnr"]), abs=0.05)
    assert job.picture("inpaint_random", "measured", 0, 0).exists()


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("moments", [(2, 3), (1, 4), (9, 5)])
def test_killed_twice_it_ends_with_the_same_table(data, tiny, tmp_path, unbroken, monkeypatch, moments):
    monkeypatch.setattr(Bookmark, "every", 0.0)
    for moment in moments:
        calls = []

        def stop(count, calls=calls, moment=moment):
            calls.append(count)
            if len(calls) == moment:
                raise Killed

        with pytest.raises(Killed):
            bench.Job(GRID, data, tmp_path, tiny).run(report=stop)
    assert not (tmp_path / "results.csv").exists()
    job = bench.Job(GRID, data, tmp_path, tiny)
    done = len(list((tmp_path / "parts").glob("*.csv")))
    assert len(job.open_parts()) == len(job.parts()) - done, "what is done is not done again"
    job.run()
    assert rows_of(tmp_path) == unbroken
    assert not list((tmp_path / ".runs").iterdir())


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import jax
jax.config.update("jax_compilation_cache_dir", sys.argv[4])
from jaxdiff.bench import job as bench
from tests.support.jobs import GRID
from tests.support.networks import tiny_denoiser
bench.Job(GRID, sys.argv[2], Path(sys.argv[3]), tiny_denoiser((32, 32, 3))).run()
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_nothing_broken(data, tmp_path, unbroken):
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "out"
    out.mkdir()
    root = str(pathlib.Path(__file__).parents[2])
    cache = str(jax.config.jax_compilation_cache_dir)
    command = [sys.executable, str(tmp_path / "script.py"), root, str(data), str(out), cache]
    for parts in (1, 6):
        process = subprocess.Popen(command)
        while process.poll() is None and len(list((out / "parts").glob("*.csv"))) < parts:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    subprocess.run(command, check=True, timeout=600)
    assert rows_of(out) == unbroken


@pytest.mark.slow
def test_a_full_disk_stops_with_nothing_half_written(data, tiny, tmp_path, unbroken, monkeypatch):
    original, written = os.replace, []

    def full(*arguments):
        written.append(arguments)
        if len(written) > 14:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        bench.Job(GRID, data, tmp_path, tiny).run()
    monkeypatch.undo()
    for path in (tmp_path / "parts").iterdir():
        assert not path.name.startswith("."), "no temporary file stays"
        assert path.read_text().endswith("\n")
    bench.Job(GRID, data, tmp_path, tiny).run()
    assert rows_of(tmp_path) == unbroken


def test_a_picture_that_cannot_be_read_is_told_and_the_rest_done(data, tiny, tmp_path, unbroken):
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes((data / f"{i}.png").read_bytes())
    (folder / "1.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(2):  # the second time nothing is open, and it is told again
        outcome = bench.Job(GRID, folder, out, tiny).run()
        assert list(outcome.unreadable) == ["1"]
        assert "cannot be read" in outcome.unreadable["1"]
        assert {row["image"] for row in outcome.rows} == {"0", "2"}
    # The others' masks and noise are those of their places in the list.
    expected = {(r["task"], r["method"], r["seed"], r["image"]): float(r["psnr"]) for r in unbroken}
    for row in rows_of(out):
        key = (row["task"], row["method"], row["seed"], row["image"])
        assert float(row["psnr"]) == pytest.approx(expected[key], abs=2e-3)


@pytest.mark.slow
def test_a_picture_that_was_repaired_is_taken_up(data, tiny, tmp_path, unbroken):
    folder, out = tmp_path / "data", tmp_path / "data" / "out"  # the job's own pictures are not its data
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes((data / f"{i}.png").read_bytes())
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[:60])
    out.mkdir()
    bench.Job(GRID, folder, out, tiny).run()
    assert "1" not in {row["image"] for row in rows_of(out)}
    assert not bench.Job(GRID, folder, out, tiny).open_parts(), "it cannot be read yet"
    (folder / "1.png").write_bytes(whole)
    job = bench.Job(GRID, folder, out, tiny)
    assert {(part.first, part.last) for part in job.open_parts()} == {(0, 2)}
    outcome = job.run()
    assert not outcome.unreadable
    expected = {(r["task"], r["method"], r["seed"], r["image"]): float(r["psnr"]) for r in unbroken}
    found = {(r["task"], r["method"], r["seed"], r["image"]): float(r["psnr"]) for r in rows_of(out)}
    assert {key[3] for key in found} == {"0", "1", "2"}
    assert found == pytest.approx({key: expected[key] for key in found}, abs=2e-3)


def test_other_weights_are_another_job(data, tiny, tmp_path):
    grid = replace(GRID, tasks=("grayscale",), methods=("ddrm",), seeds=(0,))
    bench.Job(grid, data, tmp_path, tiny)
    other = tiny.replace(params=jax.tree.map(lambda leaf: leaf + 1, tiny.params))
    with pytest.raises(ValueError, match="holds a job with weights = "):
        bench.Job(grid, data, tmp_path, other)


def test_what_is_added_joins_the_tables(data, tiny, tmp_path):
    grid = replace(GRID, tasks=("grayscale",), methods=("ddrm",), seeds=(0,))
    bench.Job(grid, data, tmp_path, tiny).run()
    outcome = bench.Job(replace(grid, methods=("dps",)), data, tmp_path, tiny).run()
    assert {row["method"] for row in rows_of(tmp_path)} == {"ddrm", "dps"}
    assert len(outcome.rows) == 10


def test_pictures_of_which_none_can_be_read_make_no_job(tiny, tmp_path):
    folder, out = tmp_path / "data", tmp_path / "out"
    folder.mkdir()
    for i in range(2):
        (folder / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"no picture could be read, of 2; the first: .*0\.png"):
        bench.Job(GRID, folder, out, tiny)
    assert not out.exists()


@pytest.mark.slow
def test_a_run_that_diverges_is_marked_and_the_others_are_untouched(data, tiny, tmp_path, unbroken, monkeypatch):
    original = bench.restore_many

    def spoiled(*arguments, **options):
        outcome = original(*arguments, **options)
        x = outcome.x.copy()
        x[1:2] = np.nan
        return outcome._replace(x=x)

    monkeypatch.setattr(bench, "restore_many", spoiled)
    outcome = bench.Job(GRID, data, tmp_path, tiny).run()
    found, before = rows_of(tmp_path), unbroken
    assert sum(row["status"] == "diverged" for row in found) == 16  # the second of the first two parts
    for ours, theirs in zip(found, before, strict=True):
        assert ours["status"] == "diverged" or ours == theirs
    assert all(line["diverged"] == 4 for line in outcome.summary)
    assert all(np.isfinite(line["psnr_mean"]) for line in outcome.summary)


@pytest.mark.slow
def test_a_method_that_cannot_do_a_task_is_left_out_with_its_reason(data, tiny, tmp_path):
    grid = bench.Grid(tasks=("jpeg", "denoise"), methods=("ddrm",), seeds=(0,), steps=3, prior="none", part=5)
    outcome = bench.Job(grid, data, tmp_path, tiny).run()
    assert "singular value" in outcome.refused["jpeg", "ddrm"]
    assert {row["task"] for row in outcome.rows} == {"denoise"}
    assert "ddrm cannot do jpeg" in (tmp_path / "summary.md").read_text()


@pytest.mark.slow
def test_a_method_whose_spacing_has_not_so_many_steps_is_left_out(data, tiny, tmp_path):
    grid = bench.Grid(
        tasks=("denoise",), methods=("diffpir", "ddnm"), seeds=(0,), steps=40, prior="none", pictures=False
    )
    outcome = bench.Job(grid, data, tmp_path / "both", tiny, most=1).run()
    assert "DiffPIR cannot run so long: spacing 'quad' with 40 steps" in outcome.refused["denoise", "diffpir"]
    assert {row["method"] for row in outcome.rows} == {"ddnm"}
    assert "diffpir cannot do denoise" in (tmp_path / "both" / "summary.md").read_text("utf-8")
    with pytest.raises(ValueError, match="fewer steps, or another spacing"):
        bench.Job(replace(grid, methods=("diffpir",)), data, tmp_path / "none", tiny)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_hosts_share_a_job_and_the_last_writes_the_tables(data, tiny, tmp_path, unbroken, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    names = []
    for index in (1, 0):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        job = bench.Job(GRID, data, tmp_path, tiny)
        names.append({part.file for part in job.open_parts()})
        outcome = job.run()
        assert bool(outcome.missing) == (index == 1)
    assert not names[0] & names[1], "no two processes write one file"
    assert rows_of(tmp_path) == unbroken


@pytest.mark.slow
def test_images_too_small_for_a_score_have_the_others(data, tiny, tmp_path):
    """SSIM's window has 11 pixels: without it there are PSNR and misfit, and no run is lost."""
    outcome = bench.Job(replace(SMALL, steps=2), data, tmp_path, tiny.replace(image_shape=(8, 8, 3))).run()
    assert {row["status"] for row in outcome.rows} == {"ok"}
    assert {row["ssim"] for row in outcome.rows} == {row["lpips"] for row in outcome.rows} == {"nan"}
    assert all(np.isfinite(float(row["psnr"])) for row in outcome.rows)
    assert "| –" in (tmp_path / "summary.md").read_text("utf-8")


def test_tables_as_latex_and_markdown(unbroken):
    lines = summary.summarise([row | {"seconds": "0.1"} for row in unbroken])
    assert [(line["task"], line["method"]) for line in lines] == [
        (task, method) for task in GRID.tasks for method in GRID.methods
    ]
    by_hand = np.mean([float(r["psnr"]) for r in unbroken if (r["task"], r["method"]) == ("grayscale", "dps")])
    chosen = next(line for line in lines if (line["task"], line["method"]) == ("grayscale", "dps"))
    assert chosen["psnr_mean"] == pytest.approx(by_hand)
    text = summary.markdown_tables(lines)
    assert f"{by_hand:.2f}" in text
    assert text.count("**") % 2 == 0
    tex = summary.latex(lines)
    assert tex.count(r"\\") == 1 + len(lines)
    assert r"inpaint\_random" in tex


def test_what_is_left_of_a_method_that_diverged_is_not_the_best(unbroken):
    rows = [row | {"seconds": "0.1"} for row in unbroken]
    best = [row for row in rows if (row["task"], row["method"]) == ("grayscale", "dps")]
    for row in best:
        row["psnr"] = "90.0"
    assert "**90.00" in summary.markdown_tables(summary.summarise(rows))
    best[0]["status"] = "diverged"
    lines = summary.summarise(rows)
    table = summary.markdown_tables([line for line in lines if line["task"] == "grayscale"])
    assert "**90.00" not in table
    assert "90.00" in table
    assert rf"grayscale & dps (1 of {len(best)} diverged) & " in summary.latex(lines)


def test_from_the_command_line(data, tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    arguments = ["--data", data, "--tasks", "grayscale", "--methods", "ddnm", "--steps", 2, "--num_images", 1]
    with pytest.raises(SystemExit) as stop:
        cli.entry_point(["jaxdiff", "bench", *map(str, arguments), "--out", str(tmp_path / "out"), "--open"])
    assert not stop.value.code, capsys.readouterr().err
    captured = capsys.readouterr()
    assert "ddnm" in captured.out
    assert captured.err.splitlines()[-1] == f"open {tmp_path / 'out' / 'report.html'}"
    assert shown == [(tmp_path / "out" / "report.html").as_uri()]
    for name in ("results.csv", "summary.md", "summary.tex", "overview_grayscale.png"):
        assert (tmp_path / "out" / name).exists()
    for wrong, word in (
        (["--seeds", "-1"], "--seeds -1"),
        (["--batch_size", "many"], "--batch-size many"),
        (["--noise_std", "-1"], "--noise-std -1"),
        (["--noise", "poison"], "'poisson'"),
        (["--part", "0"], "--part 0"),
        (["--steps", "5000"], "--steps 5000"),
        (["--settings", "none.json"], "there is no file none.json"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.entry_point(["jaxdiff", "bench", *map(str, arguments), "--out", str(tmp_path / "not"), *wrong])
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert word in message
        assert len(message.strip().splitlines()) == 1
        assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("name", ["report.html", "results.csv", "summary.md"])
def test_a_folder_with_files_of_the_user_is_refused(data, tiny, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} is not of a job"):
        bench.Job(GRID, data, tmp_path, tiny)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_picture_that_changed_is_not_mixed_with_the_old_one(tiny, tmp_path):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    PILImage.new("RGB", (8, 8), "red").save(pictures / "a.png")
    grid = replace(GRID, tasks=("denoise",), methods=("ddnm",), seeds=(0,))
    bench.Job(grid, pictures, out, tiny).run()
    PILImage.new("RGB", (8, 8), "blue").save(pictures / "a.png")
    with pytest.raises(ValueError, match="a has changed since this job began"):
        bench.Job(replace(grid, seeds=(1,)), pictures, out, tiny).run()


def test_an_own_task_that_fails_leaves_no_record(data, tiny, tmp_path):
    with pytest.raises(ValueError, match="must be a function"):
        bench.Job(replace(GRID, tasks=("json:dumps",)), data, tmp_path / "o", tiny)
    assert not (tmp_path / "o").exists()


def test_a_grey_prior_takes_the_grey_values(data, tmp_path):
    grid = replace(GRID, tasks=("denoise",), methods=("ddnm",), seeds=(0,))
    outcome = bench.Job(grid, data, tmp_path, tiny_denoiser((8, 8, 1), clip=True)).run()
    assert {row["status"] for row in outcome.rows} == {"ok"}
    with PILImage.open(next((tmp_path / "pictures" / "denoise" / "ddnm").rglob("*.png"))) as picture:
        assert picture.mode == "L"
