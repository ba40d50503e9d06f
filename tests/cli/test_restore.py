"""``jaxdiff restore`` as its user meets it: what is measured, with which settings, what is written and what is said."""

import csv
import re
import shlex

import jax
import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import cli, samplers
from jaxdiff.cli import measurement, method, restore
from jaxdiff.cli.main import parse
from jaxdiff.engine import Outcome
from jaxdiff.operators import gaussian_blur, jpeg, super_resolution
from jaxdiff.operators.kernels import gaussian_kernel
from tests.support.tiers import fast_only

SHAPE = (64, 64, 3)


def pixels(path):
    with PILImage.open(path) as picture:
        return np.asarray(picture)


def options(*words):
    args = parse(["jaxdiff", "restore", *map(str, words)])
    (args.image,) = args.pictures
    measurement.check_operator(args)
    return args


def measured(*words):
    return measurement.problem_of(options(*words, "--measured"), SHAPE, lambda text: None).problem


@pytest.fixture(scope="module")
def done(tmp_path_factory, smooth):
    """One run of nine draws: its folder, standard output and standard error."""
    folder = tmp_path_factory.mktemp("run")
    PILImage.fromarray(smooth).save(folder / "face.png")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    printed = {}
    with patch.context() as local:
        for name in ("say", "open_first"):
            local.setattr(restore, name, lambda text, name=name, **_: printed.setdefault(name, []).append(str(text)))
        local.setattr(restore, "show", lambda table: printed.update(columns=[c.header for c in table.columns]))
        words = shlex.split("face.png --task inpaint_box --method ddnm --steps 2 --count 9")
        with pytest.raises(SystemExit) as stop:
            cli.entry_point(["jaxdiff", "restore", *words])
    patch.undo()
    assert not stop.value.code
    return folder, printed


def test_the_results_are_in_a_folder_named_after_the_run(done):
    folder, printed = done
    out = folder / "out" / "face-inpaint_box-ddnm"
    wanted = {"report.html", "measured.png", "truth.png", "mean.png", "std.png", "overview.png", "metrics.csv"}
    wanted |= {"calibration.png", "calibration.csv", ".jaxdiff.json", *(f"restored_{i + 1}.png" for i in range(9))}
    assert {path.name for path in out.iterdir()} == wanted
    assert printed["open_first"] == ["out/face-inpaint_box-ddnm/report.html"]
    np.testing.assert_array_equal(pixels(out / "truth.png"), pixels(folder / "face.png"))
    overview = pixels(out / "overview.png")
    assert overview.shape[1] > 5 * overview.shape[0], "eight panels in a row"


@pytest.mark.slow
def test_what_is_simulated_is_said(done):
    said = done[1]["say"]
    assert any(text.startswith("simulating inpaint_box of face.png") and "--measured" in text for text in said)
    assert any("0.025 on [0, 1]" in text for text in said), "both noise scales are printed"


@pytest.mark.slow
def test_draws_are_numbered_alike_everywhere(done):
    out = done[0] / "out" / "face-inpaint_box-ddnm"
    with open(out / "metrics.csv", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*(f"draw {i + 1}" for i in range(9)), "mean of the draws"]
    truth = pixels(out / "truth.png").astype(float)
    for i in range(9):
        error = np.mean((pixels(out / f"restored_{i + 1}.png") - truth) ** 2)
        assert 10 * np.log10(255**2 / error) == pytest.approx(float(rows[f"draw {i + 1}"]["psnr"]), abs=0.05)
    with open(out / "calibration.csv", encoding="utf-8") as file:
        levels = [float(row["level"]) for row in csv.DictReader(file)]
    assert levels == [0.2, 0.4, 0.6, 0.8]


def test_a_second_run_asks_before_it_replaces_the_first(done, jaxdiff, monkeypatch):
    folder, _ = done
    monkeypatch.chdir(folder)
    code, _, err = jaxdiff("restore", "face.png", "--task", "inpaint_box", "--method", "ddnm", "--steps", 2)
    assert code == 2
    assert "holds an earlier run; add --overwrite" in err
    assert (folder / "out" / "face-inpaint_box-ddnm" / "restored_9.png").exists()


def answer(monkeypatch, make):
    """Let the engine's runs end in ``make(problem)``; returns what it was asked."""
    asked = {}

    def run(keys, denoiser, problems, sampler, **more):
        problem = jax.tree.map(lambda leaf: leaf[0], problems)
        asked.update(more, sampler=sampler, problem=problem, denoiser=denoiser)
        x = np.stack([np.asarray(make(problem), np.float32)] * len(keys))
        return Outcome(x, np.zeros(len(keys)), 0.0)

    monkeypatch.setattr(restore, "restore_many", run)
    return asked


@pytest.mark.slow
def test_overwrite_replaces_ours_and_never_the_users(jaxdiff, face, tmp_path, monkeypatch):
    answer(monkeypatch, lambda problem: problem.y)
    out = tmp_path / "out"
    command = ("restore", face, "--task", "denoise", "--method", "dps", "--steps", 2, "--out", out)
    assert jaxdiff(*command, "--count", 2)[0] == 0
    (out / "notes.txt").write_text("mine")
    (out / "restored_7.png").write_text("mine")
    assert jaxdiff(*command)[0] == 2
    code, _, err = jaxdiff(*command, "--overwrite")
    assert code == 0, err
    kept = {"notes.txt", "restored_7.png", "restored_1.png", "measured.png", "truth.png", "overview.png", "metrics.csv"}
    kept |= {"report.html"}
    assert {path.name for path in out.iterdir()} == kept | {".jaxdiff.json"}, "mean, std and the second draw are gone"
    (out / "truth.png").write_text("mine by now")
    code, _, err = jaxdiff(*command, "--overwrite")
    assert code == 2
    assert "truth.png is not ours" in err
    assert (out / "truth.png").read_text() == "mine by now"


@pytest.mark.parametrize(
    ("shift", "words"), [(0.2, "does not fit the measurement"), (0.005, "fits the noise"), (0.05, None)]
)
def test_a_fit_that_failed_is_told(jaxdiff, face, tmp_path, monkeypatch, shift, words):
    answer(monkeypatch, lambda problem: problem.y + shift)
    flags = ("--measured", "--noise-std", 0.05, "--method", "dps", "--steps", 2, "--out", tmp_path / "out")
    code, out, err = jaxdiff("restore", face, "--task", "denoise", *flags)
    assert code == 0, err
    assert "misfit RMS" in out
    assert f"{shift:.4f}" in out
    assert ("warning" in err) == (words is not None)
    assert words is None or words in err


@pytest.mark.slow
def test_known_pixels_of_a_photo_stay_as_they_are(jaxdiff, face, tmp_path, monkeypatch):
    mask = np.full((64, 64), 255, np.uint8)
    mask[20:40, 20:40] = 0
    PILImage.fromarray(mask).save(tmp_path / "mask.png")
    asked = answer(monkeypatch, lambda problem: problem.y + 0.01)
    flags = ("--mask", tmp_path / "mask.png", "--measured", "--method", "dps", "--steps", 2, "--out", tmp_path / "out")
    code, _, err = jaxdiff("restore", face, "--task", "inpaint_mask", *flags)
    assert code == 0, err
    assert float(asked["problem"].noise_std) < 0.003
    restored = pixels(tmp_path / "out" / "restored_1.png")
    np.testing.assert_array_equal(restored[mask > 0], pixels(face)[mask > 0])
    assert np.all(restored[mask == 0] == 129), "zero and the method's 0.01"
    assert np.all(pixels(tmp_path / "out" / "measured.png")[25, 25] == 128), "a masked pixel is grey"
    assert "the draws missed them by 0.01" in err


@pytest.mark.parametrize("task", ["motion_blur", "inpaint_random", "dps/inpaint_box", "ddrm/cs4"])
def test_a_photo_was_not_degraded_by_a_random_operator(jaxdiff, face, tmp_path, task):
    code, _, err = jaxdiff("restore", face, "--task", task, "--measured", "--out", tmp_path / "out")
    assert code == 2
    assert "at random" in err
    assert "--kernel FILE" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_operator_can_be_the_users_own(face, tmp_path, smooth):
    x = np.asarray(smooth, np.float32) / 127.5 - 1
    kernel = np.asarray(gaussian_kernel(9, 1.2))
    np.save(tmp_path / "kernel.npy", 3 * kernel)  # any scale: the sum is made 1
    PILImage.fromarray(np.eye(5, dtype=np.uint8) * 255).save(tmp_path / "kernel.png")
    by_file = measured(face, "--task", "motion_blur", "--kernel", tmp_path / "kernel.npy")
    by_width = measured(face, "--task", "gaussian_blur", "--blur-std", 1.2)
    expected = gaussian_blur(image_shape=SHAPE, size=9, std=1.2)(x)
    np.testing.assert_allclose(by_width.operator(x), expected, atol=1e-5)
    np.testing.assert_allclose(by_file.operator(x), expected, atol=2e-3)
    diagonal = measured(face, "--task", "motion_blur", "--kernel", tmp_path / "kernel.png").operator(x)
    np.testing.assert_allclose(diagonal[30, 30], np.mean([x[30 + i, 30 + i] for i in range(-2, 3)], 0), atol=1e-5)
    compressed = measured(face, "--task", "jpeg", "--quality", 35)
    np.testing.assert_allclose(compressed.operator(x), jpeg(image_shape=SHAPE, quality=35)(x), atol=1e-6)
    np.testing.assert_allclose(compressed.y, x, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--task", "jpeg", "--kernel", "k.npy"), "--kernel belongs to --task gaussian_blur or motion_blur, not jpeg"),
        (("--task", "denoise", "--blur-std", "2"), "--blur-std belongs to --task gaussian_blur"),
        (("--task", "gaussian_blur", "--blur-std", "2", "--kernel", "k.npy"), "exclude each other"),
        (("--task", "phase_retrieval", "--measured"), "does not measure one"),
        (("--task", "jaxdiff/mri4", "--measured"), "random"),
        (("--task", "jaxdiff/ct_sparse", "--measured"), "does not measure one"),
        (("--task", "gaussian_blur", "--blur-std", "-1"), "std"),
    ],
)
def test_options_that_do_not_suit_the_task_are_refused(jaxdiff, face, tmp_path, words, sentence):
    code, _, err = jaxdiff("restore", face, *words, "--out", tmp_path / "out")
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_small_photo_and_a_grey_one_are_measurements(tmp_path, smooth):
    PILImage.fromarray(smooth[:16, :16]).save(tmp_path / "small.png")
    PILImage.fromarray(smooth[..., 0]).save(tmp_path / "grey.png")
    small = measured(tmp_path / "small.png", "--task", "super_resolution")
    assert small.y.shape == (16, 16, 3)
    PILImage.fromarray(smooth[:32, :32]).save(tmp_path / "half.png")
    half = measured(tmp_path / "half.png", "--task", "super_resolution", "--factor", 2)
    assert half.operator.measurement_shape == super_resolution(image_shape=SHAPE, factor=2).measurement_shape
    assert half.y.shape == (32, 32, 3)
    grey = measured(tmp_path / "grey.png", "--task", "grayscale")
    np.testing.assert_allclose(grey.y[..., 0], smooth[..., 0] / 127.5 - 1, atol=1e-5)


def test_the_mask_is_resized_with_the_picture(tmp_path, smooth):
    PILImage.fromarray(smooth).resize((160, 128)).save(tmp_path / "wide.png")
    mask = np.full((128, 160), 255, np.uint8)
    mask[40:60, 56:78] = 0  # of the middle 128 columns: 40 … 62, of which half a pixel is left at an edge
    mask[41:60, 55] = 0
    PILImage.fromarray(mask).save(tmp_path / "mask.png")
    words = ("--task", "inpaint_mask", "--mask", tmp_path / "mask.png")
    problem = measured(tmp_path / "wide.png", *words, "--resize")
    expected = np.ones((64, 64))
    expected[20:30, 19:31] = 0  # what is only half known is not known
    np.testing.assert_array_equal(problem.operator.mask[..., 0], expected)
    PILImage.fromarray(mask[:, :150]).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="150×128, the image 160×128"):
        measured(tmp_path / "wide.png", *words, "--resize")


LENGTHS = {
    "--method dps": ("dps", 250),
    "--method dps --steps 40": ("dps", 40),
    "--method dps --calls 30": ("dps", 30),
    "--zeta 0.3": ("dps", 250),
    "--task gaussian_blur": ("flower", 20),
    "--task gaussian_blur --calls 99 --spacing uniform": ("flower", 20),
    "--task gaussian_blur --calls 7": ("flower", 7),
    "--task gaussian_blur --steps 33": ("flower", 33),
}


@pytest.mark.parametrize("line", fast_only(["--method dps --calls 30"], LENGTHS))
def test_steps_are_steps_and_calls_are_calls(jaxdiff, face, tmp_path, monkeypatch, line):
    """Without either, the best known method runs as many calls as it won with: FAST-DIPS won the blur with 20."""
    asked = answer(monkeypatch, lambda problem: problem.y)
    task = () if "--task" in line else ("--task", "denoise")
    code, _, err = jaxdiff("restore", face, *task, *line.split(), "--out", tmp_path / "out")
    assert code == 0, err
    method, steps = LENGTHS[line]
    assert re.search(rf"by {method}\b.*, {steps} steps,", err)
    assert len(asked["steps"].t) == steps


def sampler_of(*words):
    args = options("a.png", *words)
    return method.sampler_of(args, method.method_of(args))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_named_method_is_as_in_python():
    words = ("--task", "gaussian_blur", "--method", "pigdm")
    same(sampler_of(*words), samplers.pigdm())
    same(sampler_of(*words, "--settings", "defaults"), samplers.pigdm())
    recorded = sampler_of(*words, "--settings", "recorded")
    assert jax.tree.structure(recorded) != jax.tree.structure(samplers.pigdm()), "the search found another form"
    same(sampler_of("--task", "denoise", "--zeta", "0.3"), samplers.dps(zeta=0.3))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "pigdm"), True),
        (("--method", "pigdm", "--settings", "defaults"), False),
        (("--method", "pigdm", "--settings", "recorded"), False),
        (("--method", "dps", "--zeta", 2), False),
        (("--zeta", 2), False),
        (("--method", "mmps", "--prior", "other"), False),
        ((), False),
    ],
)
def test_a_named_method_tells_of_recorded_settings_that_it_does_not_take(words, told):
    note = method.settings_note(options("a.png", "--task", "gaussian_blur", *words))
    assert ("--settings recorded" in note) is told


def test_photons_from_the_command_line(jaxdiff, face, tmp_path, monkeypatch):
    asked = answer(monkeypatch, lambda problem: problem.y)
    flags = ("--task", "denoise", "--noise", "poisson:0.5", "--method", "dps", "--steps", 2, "--out", tmp_path / "out")
    code, _, err = jaxdiff("restore", face, *flags)
    assert code == 0, err
    assert "Poisson noise (rate 0.5), about σ = " in err
    assert float(asked["problem"].noise.rate) == 0.5
    counts = (np.asarray(asked["problem"].y, np.float64) + 1) * 63.75
    below_white = counts < 127
    np.testing.assert_allclose(counts[below_white], np.round(counts[below_white]), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "method"),
    [("poisson", "dps"), ("poisson-gaussian:0.5,0.05", "dps"), ("salt-and-pepper:0.2,0.1", "dsg")],
)
def test_a_picture_is_restored_under_a_noise_model(jaxdiff, face, tmp_path, noise, method):
    flags = ("--task", "gaussian_blur", "--noise", noise, "--method", method, "--steps", 30, "--out", tmp_path / "out")
    code, out, err = jaxdiff("restore", face, *flags)
    assert code == 0, err
    assert "warning" not in err
    assert float(re.search(r"restored?\S*.*?(\d+\.\d+)|draw 1\D+(\d+\.\d+)", out).group(2)) > 18
