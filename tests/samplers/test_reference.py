"""Whole runs and guidance gradients of the original DPS code, with its recorded noise."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import parity_diffusion as parity


@pytest.mark.parametrize("name", parity.TRAJECTORIES)
def test_a_recorded_run_is_replayed(name):
    x, residual, record = parity.trajectory(name)
    assert parity.relative(x, parity.image(record["x_final"])) < 2e-5
    if name.startswith("dps"):
        assert parity.relative(residual, record["rec_norm"]) < 1e-5


def test_every_step_of_a_dps_run():
    """Every fifth step of the record: ours from the image before it is the image after it, gradient included."""
    import jax

    import jaxdiff as jd

    record = dict(np.load(parity.GOLDEN / "trajectories" / "dps_gblur_20.npz"))
    denoiser = parity.trained_denoiser()
    problem = jd.Problem(parity.operator_of("dps_gblur_20", record), parity.image(record["y"]), jnp.float32(0.05))
    sampler = jd.samplers.dps(zeta=0.3)
    step = jax.jit(lambda x, z, t, s: sampler.step(z, jd.samplers.State(x), t, s, problem, denoiser))
    times = np.append(record["timestep_map"][::-1], -1)
    after = record["rec_x_out"]
    x = parity.image(record["x_T"])
    recorded = {0: 0, 5: 1, 10: 2, 15: 3, 19: 4}
    for i in range(20):
        state, _ = step(x, parity.image(record["z"][i]), jnp.int32(times[i]), jnp.int32(times[i + 1]))
        x = state.x
        if i in recorded:
            assert parity.relative(x, parity.image(after[recorded[i]])) < 1e-5, i


@pytest.mark.parametrize("task", ["inpainting", "gaussian_blur", "super_resolution"])
def test_guidance_gradients(task):
    rows = parity.gradients((task,))
    assert len(rows) >= 9
    for row in rows:
        assert row.error < row.limit, row
