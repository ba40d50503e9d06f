"""Figures show the pictures, numbers and titles that they are given."""

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff.evaluation import calibration
from jaxdiff.files import to_uint8

SHAPE = (12, 12, 3)
RNG = np.random.default_rng(4)
TRUTH = np.clip(RNG.normal(size=SHAPE) / 2, -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def found():
    prior = jd.denoisers.gaussian_prior(jnp.zeros(SHAPE), jnp.eye(432) * 0.2, jd.schedules.linear(100))
    operator = jd.operators.super_resolution(image_shape=SHAPE, factor=2)
    problem = jd.observe(jax.random.key(0), operator, jnp.asarray(TRUTH), 0.1)
    return prior, problem, jd.posterior(jax.random.key(1), prior, problem, jd.samplers.dps(), n=3, steps=4)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def pictures(figure):
    """The axes that hold a picture, and their pixels."""
    return [(axes, np.asarray(axes.images[0].get_array())) for axes in figure.axes if axes.images]


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_triplets_show_measurement_restoration_truth_and_psnr(found):
    _, problem, draws = found
    figure = jd.plots.triplets([problem, problem], draws.samples[:2], [TRUTH, TRUTH], titles=["a", "b"])
    shown = [pixels for _, pixels in pictures(figure)]
    assert len(shown) == 6
    assert shown[0].shape == (6, 6, 3)
    np.testing.assert_array_equal(shown[1], to_uint8(np.asarray(draws.samples[0])))
    np.testing.assert_array_equal(shown[5], to_uint8(TRUTH))
    text = words(figure)
    for i in range(2):
        assert f"{float(jd.metrics.psnr(draws.samples[i], TRUTH)):.1f} dB" in text
    assert {"measurement", "restoration", "ground truth", "a", "b"} <= set(text)
    assert len(pictures(jd.plots.triplets(problem, draws.mean))) == 2
    with pytest.raises(ValueError, match="2 problems need as many"):
        jd.plots.triplets([problem, problem], draws.samples, None)


def test_an_inset_is_the_square_enlarged_in_the_far_corner(found):
    _, problem, draws = found
    figure = jd.plots.triplets(problem, draws.mean, TRUTH, inset=(2, 7, 4))
    parts = [axes for axes, _ in pictures(figure)]
    assert len(parts) == 3
    assert [len(axes.child_axes) for axes in parts] == [0, 1, 1]  # the measurement is smaller
    corner = parts[2].child_axes[0]
    np.testing.assert_array_equal(corner.images[0].get_array(), to_uint8(TRUTH[2:6, 7:11]))
    figure.canvas.draw()
    inside, whole = corner.get_position(), parts[2].get_position()
    assert inside.x0 < whole.x0 + whole.width / 2
    assert inside.y1 < whole.y0 + whole.height / 2
    with pytest.raises(ValueError, match="does not lie in a picture of 12×12"):
        jd.plots.triplets(problem, draws.mean, TRUTH, inset=(10, 0, 4))


def test_draws_and_their_spread(found):
    _, problem, draws = found
    figure = jd.plots.draws(draws, TRUTH, problem=problem, most=2, columns=3)
    assert len(pictures(figure)) == 4
    assert {"measurement", "ground truth"} <= set(words(figure))
    figure = jd.plots.spread(draws, TRUTH)
    maps = [pixels for _, pixels in pictures(figure) if pixels.ndim == 2]
    np.testing.assert_allclose(maps[0], np.sqrt(np.mean(np.asarray(draws.std) ** 2, -1)), rtol=1e-6)
    np.testing.assert_allclose(maps[1], np.sqrt(np.mean((np.asarray(draws.mean) - TRUTH) ** 2, -1)), rtol=1e-6)


def test_a_trajectory_has_its_times_and_both_rows(found):
    prior, problem, _ = found
    _, _, path = jd.sample(jax.random.key(1), prior, problem, jd.samplers.dps(), steps=4, trajectory=3)
    figure = jd.plots.trajectory(path)
    shown = [pixels for _, pixels in pictures(figure)]
    np.testing.assert_array_equal(shown[1], to_uint8(np.asarray(path.x[1])))
    np.testing.assert_array_equal(shown[3], to_uint8(np.asarray(path.x0[0])))
    assert {"result", f"t = {float(path.t[0]):.4g}"} <= set(words(figure))


def test_calibration_is_drawn_with_its_distance(found):
    result = calibration(found[2].samples, TRUTH, levels=5)
    figure = jd.plots.calibration(result, samples=3)
    assert f"3 draws, mean distance {float(result.error):.3f}" in words(figure)
    line = figure.axes[0].lines[1]
    np.testing.assert_allclose(line.get_ydata()[1:-1], result.coverage)


def test_plots_leave_the_backend_as_it_is(found):
    before = matplotlib.get_backend()
    jd.plots.spread(found[2])
    assert matplotlib.get_backend() == before


def test_an_axis_of_steps_has_no_fractions():
    figure = jd.plots.curves({"loss": (range(4), [4.0, 3.0, 2.0, 1.0])}, x="step", y="loss")
    assert all(tick == round(tick) for tick in figure.axes[0].get_xticks())


def test_the_overview_is_a_picture_for_two_channels():
    from jaxdiff.plots.layout import image_table

    figure = image_table([[np.zeros((4, 4, 2)), np.zeros((4, 4, 4))]])
    assert [axes.images[0].get_array().shape for axes in figure.axes if axes.images] == [(4, 4), (4, 4)]


@pytest.mark.parametrize(
    "draw", [lambda n: jd.plots.triplets([], [], columns=n), lambda n: jd.plots.draws([], columns=n)]
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(ValueError, match="at least one image"):
        draw(6)
    with pytest.raises(ValueError, match="columns is 0; it must be at least 1"):
        draw(0)
