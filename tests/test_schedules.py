import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import schedules
from jaxdiff.schedules import levels

GOLDEN = "tests/golden/respacing.npz"


@pytest.fixture(scope="module")
def golden(request):
    return np.load(request.config.rootpath / GOLDEN)


def test_betas_equal_the_original(golden):
    np.testing.assert_array_equal(levels.linear_betas(1000), golden["betas_linear_1000"])
    np.testing.assert_array_equal(levels.linear_betas(400), golden["betas_linear_400"])
    np.testing.assert_array_equal(levels.cosine_betas(1000), golden["betas_cosine_1000"])


def test_grids_equal_the_original(golden):
    names = [name for name in golden.files if not name.startswith("betas")]
    assert len(names) > 5
    for name in names:
        total, text = name.split("_", 1)
        grid = schedules.timestep_grid(int(total), text.replace("_", ","))
        np.testing.assert_array_equal(grid.t[::-1], golden[name], err_msg=name)


@pytest.mark.parametrize("make", [schedules.linear, schedules.cosine, schedules.scaled_linear])
def test_alpha_bar_and_its_complement_are_rounded_from_float64(make):
    schedule = make(1000)
    total = np.asarray(schedule.alpha_bar, np.float64) + np.asarray(schedule.one_minus_alpha_bar, np.float64)
    np.testing.assert_allclose(total, 1, atol=6e-8)
    assert np.all(np.diff(schedule.alpha_bar) < 0)
    assert 0 < schedule.one_minus_alpha_bar[0] < 1e-2


def test_the_first_level_of_the_linear_schedule_is_beta_0():
    assert schedules.linear().one_minus_alpha_bar[0] == np.float32(1e-4)


def test_at_minus_one_is_the_clean_image():
    level = schedules.linear().at(jnp.array([-1, 0, 999]))
    np.testing.assert_array_equal(level.alpha_bar[0], 1)
    np.testing.assert_array_equal(level.one_minus_alpha_bar[0], 0)
    assert level.alpha_bar[2] < 1e-4


def test_fractional_times_meet_the_whole_ones_and_lie_between():
    schedule = schedules.linear()
    whole, fraction = schedule.at(jnp.array([3, 500])), schedule.at(jnp.array([3.0, 500.0]))
    np.testing.assert_allclose(fraction.alpha_bar, whole.alpha_bar, rtol=1e-5)
    np.testing.assert_allclose(fraction.one_minus_alpha_bar, whole.one_minus_alpha_bar, rtol=1e-5)
    between = schedule.at(jnp.float32(3.5)).alpha_bar
    assert schedule.alpha_bar[4] < between < schedule.alpha_bar[3]


@pytest.mark.parametrize("spacing", schedules.SPACINGS)
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_every_spacing_has_its_length_descends_and_ends_clean(spacing, steps):
    grid = schedules.timestep_grid(1000, steps, spacing)
    assert len(grid.t) == len(grid.s) == steps
    assert np.all(grid.t > grid.s)
    assert grid.s[-1] == -1
    np.testing.assert_array_equal(grid.t[1:], grid.s[:-1])
    assert grid.t.max() <= 999


def test_spacings_do_what_they_say():
    assert schedules.timestep_grid(1000, 50, "dps").t[0] == 999
    assert schedules.timestep_grid(1000, 50, "ddim").t[0] == 980
    assert schedules.timestep_grid(1000, 10, "trailing").t.tolist() == list(range(999, 0, -100))
    quad = schedules.timestep_grid(1000, 20, "quad").t
    assert quad[0] == 999
    assert quad[-1] == 0
    assert np.diff(quad)[-1] > np.diff(quad)[0], "dense at low noise"
    np.testing.assert_array_equal(schedules.timestep_grid(10, 10).t, np.arange(10)[::-1])


@pytest.mark.parametrize("spacing", schedules.SPACINGS)
def test_a_single_step_is_from_pure_noise(spacing):
    assert schedules.timestep_grid(1000, 1, spacing).t.tolist() == [999]
    assert schedules.timestep_grid(1000, "1").t.tolist() == [0], "the original's string form keeps its own rule"


def test_a_grid_below_a_start_keeps_the_lower_part():
    grid = schedules.timestep_grid(1000, 1000).below(10)
    np.testing.assert_array_equal(grid.t, np.arange(10)[::-1])
    with pytest.raises(ValueError, match="start=5"):
        schedules.timestep_grid(1000, 1, "trailing").below(5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1000, 0), "between 1 and 1000"),
        ((1000, 5000), "between 1 and 1000"),
        ((1000, 10, "nope"), "unknown spacing"),
        ((1000, "ddim400"), "integer stride"),
        ((1000, "5", "trailing"), "spread itself"),
        ((1000, "5,,5"), "not understood"),
        ((10, "20,1"), "section of 5"),
        ((1000, 1000, "quad"), "twice"),
        (("1000", 10), "num_train_steps must be an integer"),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedules.timestep_grid(*arguments)


@pytest.mark.parametrize("betas", [[], [0.0, 0.1], [1.5], [[0.1]]])
def test_impossible_betas_are_refused(betas):
    with pytest.raises(ValueError, match="beta"):
        schedules.from_betas(np.array(betas))


@pytest.mark.parametrize("sigmas", [[], [2.0, 1.0], [-1.0, 2.0], [0.0, 1.0], [1.0, np.inf], [[1.0]]])
def test_impossible_sigmas_are_refused(sigmas):
    with pytest.raises(ValueError, match="positive, finite numbers that increase"):
        schedules.from_sigmas(np.array(sigmas))


def test_a_negative_variance_is_refused():
    with pytest.raises(ValueError, match="variances of a step, above 0, got -1 and"):
        schedules.scaled_linear(1000, start=-1)


def test_a_schedule_in_float64_is_rounded_once():
    """Betas of float64 give products exact to its precision, not to that of float32 on the way."""
    betas = np.linspace(1e-4, 0.02, 1000)
    with jax.enable_x64(True):
        found = schedules.linear(1000, dtype=jnp.float64)
        np.testing.assert_allclose(found.alpha_bar, np.cumprod(1 - betas), rtol=1e-12)
        np.testing.assert_allclose(found.alpha_bar + found.one_minus_alpha_bar, 1, atol=1e-15)


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.linear(1000, end=0.3),
        lambda: schedules.from_betas(np.full(200, 0.5)),
        lambda: schedules.from_sigmas([1e-25, 1.0]),
        lambda: schedules.karras(sigma_max=1e20),
    ],
)
def test_levels_that_float32_rounds_to_nothing_are_refused(make):
    with pytest.raises(ValueError, match="which is 0 in float32"):
        make()


def test_a_schedule_needs_the_digits_of_float32():
    with pytest.raises(ValueError, match="float32 or float64, got dtype=float16"):
        schedules.linear(100, dtype=jnp.float16)
