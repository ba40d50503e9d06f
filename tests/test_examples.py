"""The examples run, on a prior small enough for seconds, and do what they say."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import jaxdiff as jd
from jaxdiff.diffusion import eps_from_x0

FOLDER = pathlib.Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@struct.dataclass
class SmoothPrior:
    """The exact denoiser of a stationary Gaussian: each spatial frequency f has variance s²/(1 + (f/f₀)²)²."""

    schedule: jd.NoiseSchedule
    image_shape: tuple = struct.field(pytree_node=False, default=())

    def __call__(self, x_t, t, s=None):
        level = self.schedule.at(t)
        height, width, _ = x_t.shape
        squared = jnp.fft.fftfreq(height)[:, None] ** 2 + jnp.fft.rfftfreq(width)[None, :] ** 2
        variance = 9.0 / (1 + squared / 0.06**2) ** 2
        gain = jnp.sqrt(level.alpha_bar) * variance / (level.alpha_bar * variance + level.one_minus_alpha_bar)
        x0 = jnp.fft.irfft2(gain[..., None] * jnp.fft.rfft2(x_t, axes=(0, 1)), s=(height, width), axes=(0, 1))
        x0 = x0.astype(x_t.dtype)
        return jd.Prediction(x0, eps_from_x0(x_t, x0, level), None)


@pytest.fixture(scope="module")
def prior():
    return SmoothPrior(jd.schedules.linear(1000), image_shape=(32, 32, 3))


@pytest.mark.slow
def test_learning_a_schedule_lowers_the_error(prior, tmp_path):
    flags = ["--steps", "10", "--iterations", "8", "--train", "3", "--test", "3", "--draw_steps", "10"]
    operator = jd.operators.gaussian_blur(image_shape=prior.image_shape, size=5, std=1.0)
    out = tmp_path / "zeta.png"
    before, after, losses = example("learn_zeta_schedule").main([*flags, "--out", str(out)], prior, operator)
    assert after.mean() > before.mean()  # better than the best constant
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert out.stat().st_size > 0


@pytest.mark.slow
def test_the_gradient_through_the_run_is_that_of_finite_differences(prior):
    module = example("learn_zeta_schedule")
    operator = jd.operators.gaussian_blur(image_shape=prior.image_shape, size=5, std=1.0)
    problem = jd.observe(jax.random.key(0), operator, jnp.zeros(prior.image_shape), 0.05)

    def error(knots):
        return jnp.mean(module.restore(jax.random.key(1), knots, prior, problem, 6, "sqrt") ** 2)

    knots = jnp.zeros(3)
    gradient = jax.grad(error)(knots)
    moved = [float(error(knots.at[1].add(d))) for d in (0.01, -0.01)]
    assert float(gradient[1]) == pytest.approx((moved[0] - moved[1]) / 0.02, rel=0.02)


def test_a_line_is_drawn_as_it_is_described():
    module = example("blind_deconvolution")
    end = module.line(35.0, 6.0)
    assert module.direction_and_length(end) == pytest.approx((35.0, 6.0), abs=1e-4)
    assert module.direction_and_length(-end) == pytest.approx((35.0, 6.0), abs=1e-4)
    kernel = np.asarray(module.draw(end, 9), np.float64)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)  # centred
    y, x = np.indices(kernel.shape) - 4
    # Second moments of a uniform line of half-length 3: 3²/3 along it, and the pen's 1/4 in both directions.
    along = y * np.sin(np.deg2rad(35)) + x * np.cos(np.deg2rad(35))
    across = y * np.cos(np.deg2rad(35)) - x * np.sin(np.deg2rad(35))
    assert (kernel * along**2).sum() == pytest.approx(3.25, rel=0.06)
    assert (kernel * across**2).sum() == pytest.approx(0.25, rel=0.06)


@pytest.mark.slow
def test_blind_deconvolution_runs_and_lowers_the_misfit(prior, tmp_path):
    few = {
        "size": 5,
        "steps": 6,
        "final_steps": 6,
        "iterations": 4,
        "directions": 4,
        "lengths": 1,
        "faces": 2,
        "draw_steps": 10,
    }
    flags = [word for name, value in (few | {"length": 3}).items() for word in (f"--{name}", str(value))]
    out = tmp_path / "blind.png"
    _, psnrs, misfits = example("blind_deconvolution").main([*flags, "--out", str(out)], prior)
    assert misfits[-1] < misfits[0]
    assert np.isfinite(psnrs["found"]).all()
    assert out.stat().st_size > 0
