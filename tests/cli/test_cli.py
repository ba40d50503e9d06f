"""The command as a user meets it: one sentence and exit code 2 for bad input, nothing half-written, real results."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import cli
from jaxdiff.cli import console as common
from jaxdiff.cli import restore


def run(capsys, *arguments):
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stop:
        cli.entry_point(["jaxdiff", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def pixels(path):
    with PILImage.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def face(tmp_path):
    """A smooth 64×64 picture: enough for the prior to chew on."""
    rows, columns = np.mgrid[:64, :64]
    pixels = np.stack([128 + 60 * np.sin(rows / 9), 128 + 60 * np.cos(columns / 7), 90 + rows], -1)
    PILImage.fromarray(pixels.astype(np.uint8)).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def test_info_lists_what_is_here(capsys):
    code, out, _ = run(capsys, "info")
    assert not code
    for name in ("faces64", "ffhq_256", "inpaint_box", "score_ald", "dps", "cpu"):
        assert name in out


def test_flags_of_logging_may_come_first(capsys):
    code, out, _ = run(capsys, "--logtostderr", "info")
    assert not code
    assert "faces64" in out


def test_a_device_that_is_not_there_is_a_sentence():
    command = [sys.executable, "-m", "jaxdiff", "info"]
    environment = {**os.environ, "JAX_PLATFORMS": "tpu"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "JAX finds no device (JAX_PLATFORMS='tpu')" in done.stderr
    assert "Traceback" not in done.stderr


def test_brackets_in_paths_are_no_markup(capsys):
    common.console.print("written to out[best]/x[/b].png")
    assert "out[best]/x[/b].png" in capsys.readouterr().err


def test_want_of_memory_is_a_sentence(capsys, monkeypatch):
    def starve(args):
        raise MemoryError

    monkeypatch.setattr("jaxdiff.cli.info.run", starve)
    code, _, err = run(capsys, "info")
    assert code == 2
    assert "not enough memory" in err


def test_tasks_lists_the_published_ones(capsys):
    code, out, _ = run(capsys, "tasks")
    assert not code
    for word in ("dps/gaussian_blur", "daps/phase_retrieval", "[-1, 1]", "[0, 1]"):
        assert word in out


def bad_inputs(folder):
    """Arguments → words that the sentence has."""
    (folder / "text.png").write_text("no picture")
    PILImage.new("RGB", (80, 80)).save(folder / "large.png")
    PILImage.new("RGB", (64, 64)).save(folder / "right.png")
    PILImage.new("L", (10, 10)).save(folder / "mask.png")
    PILImage.new("L", (64, 64)).save(folder / "black.png")
    (folder / "prior.safetensors").write_bytes(b"\x00" * 50)
    (folder / "file").write_text("x")
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / "words.json").write_text('{"faces64": {"inpaint_box": {"dps": {"zeta": "foo"}}}}')
    np.save(folder / "words.npy", np.array(["x"]))
    (folder / "folder.png").mkdir()
    (folder / "own").mkdir()
    PILImage.new("RGB", (64, 64)).save(folder / "own" / "truth.png")
    (folder / "dps.json").write_text("{}")
    right, out = folder / "right.png", ("--out", folder / "out")
    grid = ("--tasks", "inpaint_box", "--methods", "dps")
    return {
        ("restore", folder / "none.png", *out): ["none.png"],
        ("restore", folder / "text.png", *out): ["cannot be read"],
        ("restore", folder / "large.png", *out): ["80×80", "--resize"],
        ("restore", right, "--task", "inpaint_bx", *out): ["inpaint_bx", "inpaint_box"],
        ("restore", right, "--method", "score_ad", *out): ["score_ad", "'score_ald'"],
        ("restore", right, "--prior", "faces46", *out): ["faces46", "faces64"],
        ("restore", right, "--prior", folder / "prior.safetensors", *out): ["prior"],
        ("restore", right, "--dtype", "float17", *out): ["float17", "bfloat16"],
        ("restore", right, "--batch_size", 0, *out): ["--batch_size 0", "auto"],
        ("sample", "--batch_size", "all", "--out", folder / "out.png"): ["--batch_size all", "auto"],
        ("restore", right, "--batch_size", "²", *out): ["--batch_size ²", "auto"],
        ("restore", right, "--noise_std", "1e39", *out): ["--noise_std 1e+39"],
        ("restore", right, "--label", 3, *out): ["not class-conditional"],
        ("restore", folder / "own" / "truth.png", "--steps", 2, "--out", folder / "own"): ["read by this run"],
        ("export", "--out", folder / "dps.jaxexport"): ["dps.json is there already"],
        ("restore", right, "--steps", 0, *out): ["--steps 0", "1000"],
        ("restore", right, "--steps", 5000, *out): ["--steps 5000", "1000"],
        ("restore", right, "--settings", folder / "none.json", *out): ["none.json", "jaxdiff tune"],
        ("restore", right, "--settings", folder / "text.png", *out): ["text.png", "jaxdiff tune"],
        ("tune", "--task", "inpaint_bx", "--out", folder / "out" / "s.json"): ["inpaint_bx", "inpaint_box"],
        ("tune", "--method", "ddp", "--out", folder / "out" / "s.json"): ["ddp", "dps"],
        ("tune", "--metric", "psn", "--out", folder / "out" / "s.json"): ["psn", "psnr"],
        ("tune", "--budget", 0, "--out", folder / "out" / "s.json"): ["--budget 0"],
        ("tune", "--seeds", 0, "--out", folder / "out" / "s.json"): ["--seeds 0", "at least 1"],
        ("tune", "--images", folder / "none", "--out", folder / "out" / "s.json"): ["none"],
        ("tune", "--out", folder / "out"): ["--out", ".json"],
        ("restore", right, "--settings", folder / "deep.json", *out): ["deep.json", "nested too deeply"],
        ("restore", right, "--settings", folder / "words.json", "--method", "dps", *out): ["zeta", "'foo'"],
        ("restore", right, "--seed", 2**64, *out): [f"--seed {2**64}", str(2**32 - 1)],
        ("restore", right, "--seed", -1, *out): ["--seed -1"],
        ("restore", right, "--out", ""): ["the value of out is empty"],
        ("restore", right, "--zeta", "inf", *out): ["zeta", "finite"],
        ("restore", right, "--start", 2000, *out): ["--start 2000", "1000"],
        ("restore", right, "--method", "dps", "--start", 100, *out): ["dps does not take 'start'", "zeta"],
        ("restore", right, "--task", "inpaint_mask", "--mask", folder / "none.npy", *out): [
            "there is no file",
            "none.npy",
        ],
        ("restore", right, "--task", "inpaint_mask", "--mask", folder / "words.npy", *out): ["words.npy", "numbers"],
        ("sample", "--columns", -2, "--out", folder / "out" / "s.png"): ["--columns -2"],
        ("sample", "--prior", folder / "none", "--out", folder / "out" / "s.png"): ["none"],
        ("sample", "--out", folder / "folder.png"): ["folder.png is a folder", "samples.png"],
        ("sample", "--seed", 2**32, "--out", folder / "out" / "s.png"): [f"--seed {2**32}"],
        ("tasks", right, "--out", folder / "folder.png"): ["folder.png is a folder"],
        ("tune", "--out", folder / "file" / "s.json"): ["cannot write", "is a file"],
        ("reproduce", "--out", folder / "file"): ["cannot write", "is a file"],
        ("reproduce", "--steps", 0, *out): ["--steps 0", "1000"],
        ("bench", "--data", folder, *grid, "--devices", 99, *out): ["devices=99", "this process has"],
        ("bench", "--data", folder, *grid, "--seeds", 0, 2**32, *out): [f"--seeds {2**32}"],
        ("restore", right, "--samples", 0, *out): ["--samples 0"],
        ("restore", right, "--noise_std", -1, *out): ["--noise_std -1"],
        ("restore", right, "--noise_std", "nan", *out): ["--noise_std nan"],
        ("restore", right, "--zeta", -1, *out): ["zeta"],
        ("restore", right, "--method", "sdedit", "--zeta", 1, *out): ["sdedit", "zeta"],
        ("restore", right, "--spacing", "odd", *out): ["odd", "trailing"],
        ("restore", right, "--task", "phase_retrieval", "--method", "ddrm", *out): ["DDRM", "PhaseRetrieval", "mmps"],
        ("restore", right, "--task", "jpeg", "--method", "mcg", *out): ["MCG", "JPEG", "dps"],
        ("restore", right, "--task", "inpaint_mask", *out): ["--mask"],
        ("restore", right, "--task", "inpaint_mask", "--mask", folder / "mask.png", *out): ["10×10"],
        ("restore", right, "--task", "inpaint_mask", "--mask", folder / "black.png", *out): ["keeps nothing"],
        ("restore", right, "--out", folder / "file" / "deeper"): ["cannot write"],
        ("sample", "-n", 0): ["-n 0"],
        ("sample", "--out", folder / "samples"): ["samples.png"],
        ("sample", "--sampler", "ddmp"): ["ddmp", "ddpm"],
        ("reproduce", "--images", folder / "nowhere", *out): ["not a folder"],
        ("tasks", right, "--size", 7, "--out", folder / "out" / "t.png"): ["--size 7"],
        ("tasks", folder / "text.png", "--out", folder / "out" / "t.png"): ["cannot be read"],
        ("reproduce", "--seeds", 0, *out): ["--seeds 0"],
    }


def test_bad_input_is_one_sentence_and_exit_code_2(capsys, tmp_path):
    inputs = bad_inputs(tmp_path)
    before = {path.name for path in tmp_path.rglob("*")}
    for arguments, words in inputs.items():
        code, _, error = run(capsys, *arguments)
        assert code == 2, arguments
        lines = [line for line in error.splitlines() if line.startswith("jaxdiff:")]
        assert len(lines) == 1, error
        assert "Traceback" not in error
        for word in words:
            assert word in lines[0], (word, lines[0])
        left = {path.name for path in tmp_path.rglob("*")} - before
        assert not left, f"{arguments} left {left} behind"


@pytest.mark.parametrize(
    "arguments",
    [(), ("restorx",), ("restore",), ("restore", "a.png", "--nosuchflag"), ("restore", "a.png", "--meth", "dps")],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments):
    assert run(capsys, *arguments)[0] == 2


def test_sample_writes_a_sheet(capsys, tmp_path):
    code, _, error = run(capsys, "sample", "-n", 2, "--steps", 2, "--out", tmp_path / "s" / "sheet.png")
    assert not code, error
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["sheet.png"]
    assert pixels(tmp_path / "s" / "sheet.png").shape == (64, 2 * 64 + 2, 3)


def test_restore_writes_pictures_and_scores(capsys, tmp_path, face):
    out = tmp_path / "out"
    code, stdout, error = run(capsys, "restore", face, "--steps", 2, "--samples", 8, "--out", out)
    assert not code, error
    assert "0.025 on [0, 1]" in error, "both noise scales are printed"
    names = {p.name for p in out.iterdir()}
    wanted = {
        "measured.png",
        "truth.png",
        *(f"restored_{i}.png" for i in range(8)),
        "mean.png",
        "std.png",
        "overview.png",
        "calibration.png",
        "calibration.csv",
        "metrics.csv",
    }
    assert names == wanted
    with open(out / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert all(0 < float(row["psnr"]) < 60 for row in rows)
    assert "PSNR" in stdout
    np.testing.assert_array_equal(pixels(out / "truth.png"), pixels(face))
    with open(out / "calibration.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["level"]) for row in rows] == [0.111, 0.333, 0.556, 0.778]
    assert all(0 <= float(row["coverage"]) <= 1 for row in rows)
    assert pixels(out / "overview.png").shape[1] > 5 * pixels(out / "overview.png").shape[0], "eight panels in a row"


def test_tuned_settings_are_used(capsys, tmp_path, face):
    (tmp_path / "faces").mkdir()
    face.rename(tmp_path / "faces" / "face.png")
    face, settings = tmp_path / "faces" / "face.png", tmp_path / "settings.json"
    flags = ("--images", face.parent, "--num_images", 1, "--steps", 2, "--budget", 2, "--seeds", 2, "--out", settings)
    flags += ("--dtype", "bfloat16")
    code, stdout, error = run(capsys, "tune", "--task", "inpaint_box", "--method", "ddnm", *flags)
    assert not code, error
    assert "chosen" in stdout
    assert "1 pictures × 2 seeds" in error
    assert '"seeds": 2' in settings.read_text("utf-8")
    used = f"--task inpaint_box --method ddnm --steps 2 --dtype bfloat16 --settings {settings}"
    assert f"jaxdiff restore PICTURE {used}" in error
    code, _, error = run(capsys, "restore", face, "--steps", 2, "--settings", settings, "--out", tmp_path / "out")
    assert not code, error
    assert "inpaint_box by ddnm (the settings' method)" in error
    code, _, error = run(capsys, "restore", face, "--settings", settings, "--method", "dps", "--out", tmp_path / "out")
    assert code == 2
    assert "they hold ddnm on inpaint_box with faces64" in error


@pytest.mark.parametrize(("steps", "made", "more"), [(250, 20, ()), (99, 20, ("--spacing", "uniform")), (7, 7, ())])
def test_the_default_is_run_with_the_calls_that_it_won_with(capsys, tmp_path, face, monkeypatch, steps, made, more):
    """FAST-DIPS won the blur with 20 calls and gets worse by more."""
    taken = {}

    def keep(*args, **options):
        taken.update(options)
        raise ValueError("enough")

    monkeypatch.setattr(restore, "restore_many", keep)
    flags = ("--task", "gaussian_blur", "--steps", steps, "--out", tmp_path / "out")
    code, _, error = run(capsys, "restore", face, *flags, *more)
    assert code == 2
    assert f"{made} are made" in error
    assert len(taken["steps"].t) == made


def test_restore_takes_a_measurement_as_it_is(capsys, tmp_path, face):
    mask = np.full((64, 64), 255, np.uint8)
    mask[20:40, 20:40] = 0
    PILImage.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("restored_5.png", "truth.png", "metrics.csv", "std.png", "overview.png"):
        (out / name).write_text("of an earlier run")
    flags = ("--task", "inpaint_mask", "--mask", tmp_path / "mask.png", "--measured", "--steps", 2, "--out", out)
    code, _, error = run(capsys, "restore", face, *flags)
    assert not code, error
    assert {p.name for p in out.iterdir()} == {"measured.png", "restored_0.png", "overview.png"}, "of this run alone"
    measured = pixels(out / "measured.png")
    assert np.all(measured[25, 25] == 128), "a masked pixel is grey"


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "jaxdiff", "--help"], capture_output=True, text=True, check=False)
    assert "restore" in done.stdout
