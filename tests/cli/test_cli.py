"""The command as a user meets it: one sentence and exit code 2 for bad input, nothing half-written, real results."""

import inspect
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import progress
from jaxdiff.cli import bench, console, sample
from jaxdiff.engine import Outcome
from jaxdiff.samplers import METHODS

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def pixels(path):
    with PILImage.open(path) as picture:
        return np.asarray(picture)


def test_info_lists_what_is_here(jaxdiff):
    code, out, _ = jaxdiff("info")
    assert not code
    for name in ("faces64", "ffhq_256", "inpaint_box", "score_ald", "dps", "cpu"):
        assert name in out


def test_flags_of_logging_may_come_first(jaxdiff):
    code, out, _ = jaxdiff("--logtostderr", "info")
    assert not code
    assert "faces64" in out


@pytest.mark.parametrize(
    "words",
    [
        ["jaxdiff", "info"],
        [
            "weights_convert",
            "guided-diffusion",
            GOLDEN / "trained32.pt",
            "OUT",
            "--image-size",
            "32",
            "--num-heads",
            "1",
        ],
    ],
    ids=lambda words: words[0],
)
def test_a_device_that_is_not_there_is_a_sentence(words, tmp_path):
    command = [sys.executable, "-m", *map(str, words)]
    command = [str(tmp_path / "out") if word == "OUT" else word for word in command]
    environment = {**os.environ, "JAX_PLATFORMS": "tpu"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "JAX finds no device (JAX_PLATFORMS='tpu')" in done.stderr
    assert "Traceback" not in done.stderr


def test_brackets_in_paths_are_no_markup(capsys):
    console.say("written to out[best]/x[/b].png")
    assert "out[best]/x[/b].png" in capsys.readouterr().err


def test_want_of_memory_is_a_sentence(jaxdiff, monkeypatch):
    def starve(args):
        raise MemoryError

    monkeypatch.setattr("jaxdiff.cli.info.run", starve)
    code, _, err = jaxdiff("info")
    assert code == 2
    assert "not enough memory" in err


def test_tasks_lists_short_and_published_names(jaxdiff):
    code, out, _ = jaxdiff("tasks")
    assert not code
    for word in (" inpaint_box ", "dps/gaussian_blur", "daps/phase_retrieval", "[-1, 1]", "[0, 1]"):
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
        ("restore", right, "--batch_size", 0, *out): ["--batch-size 0", "auto"],
        ("sample", "--batch_size", "all", "--out", folder / "out.png"): ["--batch-size all", "auto"],
        ("restore", right, "--batch_size", "²", *out): ["--batch-size ²", "auto"],
        ("restore", right, "--noise_std", "1e39", *out): ["--noise-std 1e+39"],
        ("restore", right, "--noise", "poison", *out): ["poison", "'poisson'"],
        ("restore", right, "--noise", "poisson:1,2", *out): ["poisson:1,2", "poisson:0.5"],
        ("restore", right, "--noise", "poisson:0", *out): ["rate must be above 0"],
        ("restore", right, "--noise", "salt-and-pepper:2", *out): ["fraction must lie in"],
        ("restore", right, "--noise", "poisson", "--noise-std", 0.1, *out): ["--noise-std", "--noise poisson"],
        ("restore", right, "--noise", "poisson", "--method", "ddrm", *out): [
            "DDRM",
            "Poisson noise",
            "dps, daps or tds",
        ],
        ("export", "--task", "dps/sr4_poisson", "--out", folder / "p.jaxexport"): ["Poisson noise", "Gaussian"],
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
        ("tune", "--seeds", 0, 2, "--out", folder / "out" / "s.json"): ["--seeds 0 2", "count up by one"],
        ("tune", "--count", 0, "--out", folder / "out" / "s.json"): ["--count 0", "at least 1"],
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
        ("restore", right, "--samples", 0, *out): ["--count 0"],
        ("restore", right, "--count", 10**9, *out): ["--count 1000000000", "GiB", "at most --count"],
        ("restore", right, "--calls", 0, *out): ["--calls 0"],
        ("restore", right, "--noise_std", -1, *out): ["--noise-std -1"],
        ("restore", right, "--noise-std", "nan", *out): ["--noise-std nan"],
        ("restore", right, "--zeta", -1, *out): ["zeta"],
        ("restore", right, "--method", "sdedit", "--zeta", 1, *out): ["sdedit", "zeta"],
        ("restore", right, "--spacing", "odd", *out): ["odd", "trailing"],
        ("restore", right, "--task", "phase_retrieval", "--method", "ddrm", *out): ["DDRM", "PhaseRetrieval", "mmps"],
        ("restore", right, "--task", "jpeg", "--method", "mcg", *out): ["MCG", "JPEG", "dps"],
        ("restore", right, "--task", "inpaint_mask", *out): ["--mask"],
        ("restore", right, "--task", "inpaint_mask", "--mask", folder / "mask.png", *out): ["10×10"],
        ("restore", right, "--task", "inpaint_mask", "--mask", folder / "black.png", *out): ["keeps nothing"],
        ("restore", right, "--out", folder / "file" / "deeper"): ["cannot write"],
        ("sample", "-n", 0): ["--count 0"],
        ("sample", "-n", 10**9): ["--count 1000000000", "GiB", "at most --count"],
        ("sample", "--out", folder / "samples"): ["samples.png"],
        ("sample", "--sampler", "ddmp"): ["ddmp", "ddpm"],
        ("reproduce", "--images", folder / "nowhere", *out): ["not a folder"],
        ("tasks", right, "--size", 7, "--out", folder / "out" / "t.png"): ["--size 7"],
        ("tasks", folder / "text.png", "--out", folder / "out" / "t.png"): ["cannot be read"],
        ("reproduce", "--count", 0, *out): ["--count 0"],
    }


def whole(arguments):
    """A command line with the task that restore asks for."""
    return (
        (*arguments, "--task", "inpaint_box") if arguments[0] == "restore" and "--task" not in arguments else arguments
    )


def test_bad_input_is_one_sentence_and_exit_code_2(jaxdiff, tmp_path):
    inputs = bad_inputs(tmp_path)
    before = {path.name for path in tmp_path.rglob("*")}
    for arguments, words in inputs.items():
        code, _, error = jaxdiff(*whole(arguments))
        assert code == 2, arguments
        lines = [line for line in error.splitlines() if line.startswith("jaxdiff:")]
        assert len(lines) == 1, error
        assert "Traceback" not in error
        for word in words:
            assert word in lines[0], (word, lines[0])
        left = {path.name for path in tmp_path.rglob("*")} - before
        assert not left, f"{arguments} left {left} behind"


def test_sample_writes_a_sheet_and_each_image(jaxdiff, tmp_path):
    command = ("sample", "-n", 2, "--steps", 2, "--sampler", "dpm_solver", "--out", tmp_path / "s" / "sheet.png")
    code, _, error = jaxdiff(*command)
    assert not code, error
    assert error.splitlines()[-1] == f"open {tmp_path / 's' / 'sheet.png'}"
    names = {p.relative_to(tmp_path / "s").as_posix() for p in (tmp_path / "s").rglob("*.png")}
    assert names == {"sheet.png", "sheet/1.png", "sheet/2.png"}
    sheet = pixels(tmp_path / "s" / "sheet.png")
    assert sheet.shape == (64, 2 * 64 + 2, 3)
    np.testing.assert_array_equal(sheet[:, 66:], pixels(tmp_path / "s" / "sheet" / "2.png"))
    code, _, error = jaxdiff(*command)
    assert code == 2
    assert "--overwrite" in error


def test_sample_knows_every_unconditional_sampler():
    assert {*sample.UNCONDITIONAL} == {"ddpm", "ddim", "heun", "dpm_solver"}


def test_sample_writes_no_picture_of_draws_that_are_not_finite(jaxdiff, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "restore_many", lambda *a, **more: Outcome(np.full((2, 64, 64, 3), np.nan), None, 0.0))
    code, _, error = jaxdiff("sample", "-n", 2, "--steps", 2, "--out", tmp_path / "s.png")
    assert code == 2
    assert "ddpm diverged with faces64" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tuned_settings_are_used(jaxdiff, tmp_path, face):
    (tmp_path / "faces").mkdir()
    face.rename(tmp_path / "faces" / "face.png")
    face, settings = tmp_path / "faces" / "face.png", tmp_path / "settings.json"
    flags = ("--images", face.parent, "--count", 1, "--steps", 2, "--budget", 2, "--seeds", 0, 1, "--out", settings)
    flags += ("--dtype", "bfloat16")
    code, stdout, error = jaxdiff("tune", "--task", "inpaint_box", "--method", "ddnm", *flags)
    assert not code, error
    assert "chosen" in stdout
    assert "1 pictures × 2 seeds" in error
    assert '"seeds": 2' in settings.read_text("utf-8")
    used = f"--task inpaint_box --method ddnm --steps 2 --dtype bfloat16 --settings {settings}"
    assert f"jaxdiff restore PICTURE {used}" in error
    report = tmp_path / "settings.report.html"
    assert error.splitlines()[-1] == f"open {report}"
    assert "chosen" in report.read_text("utf-8")
    task = ("--task", "inpaint_box", "--settings", settings, "--out", tmp_path / "out")
    code, _, error = jaxdiff("restore", face, "--steps", 2, *task)
    assert not code, error
    assert "inpaint_box by ddnm (the settings' method)" in error
    code, _, error = jaxdiff("restore", face, "--method", "dps", *task)
    assert code == 2
    assert "they hold ddnm on inpaint_box with faces64" in error


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "jaxdiff", "--help"], capture_output=True, text=True, check=False)
    assert "restore" in done.stdout


def test_info_cuts_no_line_and_has_no_backticks(jaxdiff, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = jaxdiff("info")
    assert not code
    assert "`" not in out
    assert "…" not in out.replace("0 … ", "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for name, method in METHODS.items():
        about = " ".join(inspect.getdoc(method.make).partition("\n\n")[0].replace("`", "").split())
        assert about.endswith(".")
        assert f"{name} {about}" in lines
    assert any(line.startswith("inpaint_mask ") for line in lines)
    assert "jaxdiff tasks" in out


def test_without_a_terminal_each_part_is_a_line_with_the_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress() as add:
        stage = add("bench", 30, 10, [10, 30])
        for count in (5, 5, 10, 10):
            now[0] += count
            stage(count)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["bench part 1/2: 0:00:20 left", "bench part 2/2: done in 0:00:30"]


def test_tables_are_not_cut_at_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    summary = [
        {"task": "jpeg", "method": "annealed_langevin", "diverged": 1, "runs": 10, "network_calls": 1000}
        | {"seconds_per_image": 100.0}
        | {f"{metric}_{part}": 12.3456 for metric in ("psnr", "ssim", "lpips", "misfit") for part in ("mean", "error")}
    ]
    bench._print(bench.Outcome([], summary, {}, {}, 0, {}))
    out = capsys.readouterr().out
    assert "annealed_langevin" in out
    assert "1 of 10" in out
    assert "…" not in out
