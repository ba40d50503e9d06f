"""What many draws say: a calibrated posterior lies on the diagonal, and levels are those that n draws can have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import operators, plots
from jaxdiff.experiments import restored
from jaxdiff.experiments.defaults import default_for
from jaxdiff.problems import observe
from jaxdiff.samplers.posterior import coverage

SHAPE = (32, 32, 3)


@pytest.mark.parametrize("count", [8, 9, 16, 64, 101])
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


def test_without_matplotlib_there_are_pictures_all_the_same(tmp_path, monkeypatch, capsys):
    def missing():
        raise ValueError("figures need matplotlib; install it with: pip install 'jaxdiff[plots]'.")

    monkeypatch.setattr(plots, "_pyplot", missing)
    truth = np.zeros(SHAPE, np.float32)
    problem = observe(jax.random.key(0), operators.denoise(image_shape=SHAPE), truth, 0.1)
    draws = np.asarray(0.1 * jax.random.normal(jax.random.key(1), (8, *SHAPE)))
    restored.write(tmp_path, draws, problem, truth)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"overview.png", "mean.png", "metrics.csv"} <= names
    assert not names & {"std.png", "calibration.png", "calibration.csv"}
    with PILImage.open(tmp_path / "overview.png") as picture:
        assert picture.size == (6 * 32 + 5 * 2, 32)
    assert "matplotlib" in capsys.readouterr().err


def test_the_default_is_the_best_within_the_calls_at_hand():
    table = {
        "p": {"t": [{"calls": 100, "method": "b", "options": {}}, {"calls": 20, "method": "a", "options": {"x": 1}}]}
    }
    assert default_for("t", "p", 50, table)[:2] == ("a", {"x": 1})
    assert default_for("t", "p", 100, table).method == "b"
    assert default_for("t", "p", 5, table).method == "a", "the cheapest known, where none is cheap enough"
    assert default_for("t", "q", 50, table)[:2] == ("dps", None)
    assert default_for("u", "p", 50, table)[:2] == ("dps", None)
