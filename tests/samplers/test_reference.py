"""Whole runs and guidance gradients of the original DPS code, with its recorded noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from benchmarks import parity_diffusion as parity
from tests.support.tiers import fast_only


@pytest.mark.parametrize("name", fast_only(["dps_gblur_20"], list(parity.TRAJECTORIES)))
def test_a_recorded_run_is_replayed(name):
    x, residual, record = parity.trajectory(name)
    if name.startswith("dps"):  # in float64, both
        assert parity.relative(x, parity.image(record["x_final_f64"])) < 2e-6
        assert parity.relative(residual, record["rec_norm"]) < 2e-6
    else:
        assert parity.relative(x, parity.image(record["x_final"])) < 2e-5


@pytest.mark.slow  # whole runs are replayed in float64
@pytest.mark.parametrize("name", [name for name in parity.TRAJECTORIES if name.startswith("dps")])
def test_single_steps_in_float32(name):
    """Every fifth step of the record: ours from the image before it is the image after it, gradient included."""
    record = dict(np.load(parity.GOLDEN / "trajectories" / f"{name}.npz"))
    denoiser = parity.trained_denoiser()
    problem = jd.Problem(parity.operator_of(name, record), parity.image(record["y"]), jnp.float32(0.05))
    sampler = jd.samplers.dps(zeta=0.3)
    step = jax.jit(lambda x, z, t, s: sampler.step(z, jd.samplers.State(x), t, s, problem, denoiser)[0].x)
    times = np.append(record["timestep_map"][::-1], -1)
    for place, i in enumerate([0, 5, 10, 15, 19]):
        before, noise = parity.image(record["rec_x_in"][place]), parity.image(record["z"][i])
        found = step(before, noise, jnp.int32(times[i]), jnp.int32(times[i + 1]))
        assert parity.relative(found, parity.image(record["rec_x_out"][place])) < 1e-5, i


@pytest.mark.slow
@pytest.mark.parametrize("task", fast_only(["inpainting"], ["inpainting", "gaussian_blur", "super_resolution"]))
def test_guidance_gradients(task):
    rows = parity.gradients((task,))
    assert len(rows) >= 9
    for row in rows:
        assert row.error < row.limit, row
