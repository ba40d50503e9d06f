"""What is written of many draws: a calibrated posterior lies on the diagonal, and n draws can have few levels."""

import argparse
import json
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import operators, plots
from jaxdiff.cli import method
from jaxdiff.evaluation import coverage, restored
from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.problems import observe
from jaxdiff.samplers import METHODS
from jaxdiff.tasks.choice import default_for
from tests.support.tiers import fast_only

SHAPE = (32, 32, 3)


@pytest.mark.parametrize("count", fast_only([9], [8, 9, 16, 64, 101]))
def test_draws_from_the_truths_own_distribution_are_on_the_diagonal(count):
    key = jax.random.key(count)
    draws, truth = jax.random.normal(key, (count, 64, 64, 3)), jax.random.normal(jax.random.key(1), (64, 64, 3))
    levels = restored._levels(count)
    assert 0 < levels.min() < levels.max() < 1
    assert len(levels) <= 20
    for level in levels:
        # 12288 independent pixels: a standard error of at most 0.0045.
        assert float(coverage(draws, truth, jnp.asarray(level))) == pytest.approx(float(level), abs=0.02)


def test_the_standard_deviation_is_that_of_the_draws():
    draws = np.asarray(0.2 * jax.random.normal(jax.random.key(0), (500, *SHAPE)))
    assert restored._std(draws) == pytest.approx(np.full((32, 32), 0.2), rel=0.15)


@pytest.mark.slow
def test_without_matplotlib_there_are_pictures_all_the_same(tmp_path, monkeypatch):
    def missing():
        raise ValueError("figures need matplotlib; install it with: pip install 'jaxdiff[plots]'.")

    monkeypatch.setattr(plots.layout, "pyplot", missing)
    truth = np.zeros(SHAPE, np.float32)
    problem = observe(jax.random.key(0), operators.denoise(image_shape=SHAPE), truth, 0.1)
    draws = np.asarray(0.1 * jax.random.normal(jax.random.key(1), (8, *SHAPE)))
    written = restored.write_restored(ResultsFolder(tmp_path), draws, problem, truth)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*written.files, ".jaxdiff.json"}
    assert {"report.html", "overview.png", "mean.png", "metrics.csv", "calibration.csv"} <= names
    assert not names & {"std.png", "calibration.png"}
    with PILImage.open(tmp_path / "overview.png") as picture:
        assert picture.size == (6 * 32 + 5 * 2, 32)
    assert "matplotlib" in written.notes[0]


def test_restore_takes_the_winning_settings_and_no_others():
    """Settings of the search are not laid under published ones that won."""
    table = json.loads(resources.files("jaxdiff.tasks").joinpath("best.json").read_text("utf-8"))
    own = dict.fromkeys(method.IMPLIED)
    args = argparse.Namespace(settings=None, prior="faces64", task="", method=None, noise=None, noise_std=None, **own)
    for task, entries in table["faces64"].items():
        args.task = task
        for entry in entries:
            chosen = default_for(task, "faces64", entry["calls"])
            assert chosen.calls == entry["network_calls"] <= entry["calls"]
            ours, won = method.sampler_of(args, chosen), METHODS[entry["method"]](**entry["options"])
            assert jax.tree.structure(ours) == jax.tree.structure(won)
            jax.tree.map(np.testing.assert_array_equal, ours, won)


def test_the_misfit_is_over_what_was_observed(tmp_path):
    """An image that fits the noise exactly where it was measured has none, however noise is drawn on hidden pixels."""
    truth = np.zeros(SHAPE, np.float32)
    operator = operators.inpaint_box(image_shape=SHAPE, size=16)
    problem = observe(jax.random.key(0), operator, truth, 0.05)
    exact = np.asarray(operator.keep_observed(problem.y))
    assert restored.score_draws(exact[None], problem, truth)[0]["misfit_rms"] == 0
    restored_truth = restored.score_draws(truth[None], problem, truth)[0]["misfit_rms"]
    assert restored_truth == pytest.approx(0.05, rel=0.1)


def test_what_a_run_reads_is_not_overwritten(tmp_path):
    folder = ResultsFolder(tmp_path)
    (tmp_path / "restored_1.png").write_text("x")
    folder.wrote("restored_1.png")
    names = restored.file_names(1, truth=True)
    with pytest.raises(ValueError, match=r"restored_1.png is read by this run"):
        folder.check(names, overwrite=True, inputs=[str(tmp_path / "." / "restored_1.png"), None])
    folder.check(names, overwrite=True, inputs=[str(tmp_path / "other.png"), None])
    (tmp_path / "truth.png").mkdir()
    with pytest.raises(ValueError, match=r"truth.png is not ours"):
        folder.check(names, overwrite=True)


@pytest.mark.slow
def test_images_too_small_for_lpips_have_the_other_scores(tmp_path):
    small = (16, 16, 3)
    truth = np.zeros(small, np.float32)
    problem = observe(jax.random.key(0), operators.denoise(image_shape=small), truth, 0.1)
    restored.write_restored(ResultsFolder(tmp_path), np.asarray(problem.y)[None], problem, truth)
    text = (tmp_path / "metrics.csv").read_text()
    assert "nan" in text.splitlines()[1]
    assert float(text.splitlines()[1].split(",")[1]) == pytest.approx(26.0, abs=0.5)  # 20 log10(2 / 0.1)
