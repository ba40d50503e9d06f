"""The original DPS code's grids, trajectories and guidance gradients, replayed with its recorded noise.

Run:     python -m benchmarks.parity_diffusion, or as a part of benchmarks.parity.
Needs:   tests/golden/respacing.npz, dps_gradients.npz and trajectories.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

import jaxdiff as jd
from jaxdiff.models import UNet, UNetConfig
from jaxdiff.numerics import safe_norm
from weights_convert.names import from_torch
from weights_convert.reader import read_tensors

GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden"
ARCHITECTURE = UNetConfig(
    image_size=32,
    out_channels=6,
    model_channels=32,
    num_res_blocks=2,
    channel_mult=(1, 2, 2),
    attention_factors=(2, 4),
    num_heads=4,
    num_head_channels=16,
    use_scale_shift_norm=True,
    resblock_updown=True,
)
"""Of trained32.pt, as ../unet/variants.json names it: ru1_ss1_ls1_na0."""


class Row(NamedTuple):
    """A relative L2 error and what it may be."""

    name: str
    error: float
    limit: float


def relative(found: jax.Array, expected: np.ndarray) -> float:
    """‖found − expected‖ / ‖expected‖ in float64."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def image(array: np.ndarray) -> jax.Array:
    """[1, C, H, W] as the original stores it → [H, W, C]."""
    return jnp.asarray(np.moveaxis(array[0], 0, -1))


def trained_denoiser(**options: object) -> jd.Denoiser:
    """The small network that the original code trained, with its learned variance."""
    params = traverse_util.unflatten_dict(from_torch(read_tensors(GOLDEN / "trained32.pt")), sep="/")
    given = {"schedule": jd.schedules.linear(1000), "variance": "learned_range", **options}
    return jd.Denoiser(jax.tree.map(jnp.asarray, params), module=UNet(ARCHITECTURE), image_shape=(32, 32, 3), **given)


def double(tree: Any) -> Any:
    """The floats of a pytree in float64."""
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def trajectory(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Our last image and residuals of a recorded run, and the record.

    Guided runs are replayed in float64. A pixel of x̂₀ has a gradient inside the clip and none outside, and dps_sr4_20 has
    one 2.5e-6 from the clip in its second step, where ε is amplified a hundred times: in float32 the processor's rounding
    decides on which side it falls, and the last image is 3e-5 away on the other. In float32 single steps are compared.
    """
    record = dict(np.load(GOLDEN / "trajectories" / f"{name}.npz"))
    guided = name.startswith("dps")
    with jax.enable_x64(guided):
        return *map(np.asarray, _replay(name, record, double if guided else lambda tree: tree)), record


def _replay(name: str, record: dict[str, np.ndarray], cast: Callable[[Any], Any]) -> tuple[jax.Array, jax.Array]:
    denoiser = trained_denoiser(
        schedule=jd.schedules.cosine(1000) if "cosine" in name else jd.schedules.linear(1000),
        variance="fixed_small" if "fixedsmall" in name else "learned_range",
    )
    sampler, problem = jd.samplers.ddim(eta=1.0) if "ddim" in name else jd.samplers.ddpm(), None
    if name.startswith("dps"):
        problem = jd.Problem(operator_of(name, record), image(record["y"]), jnp.float32(0.05))
        sampler = jd.samplers.dps(zeta=0.3)
    noise = jnp.asarray(np.moveaxis(record["z"][:, 0], 1, -1))
    run = jax.jit(
        lambda denoiser, problem, sampler, x, noise: jd.sample(
            jax.random.key(0), denoiser, problem, sampler, steps=20, x_init=x, noise=noise
        )
    )
    x, info = run(*cast((denoiser, problem, sampler, image(record["x_T"]), noise)))
    return x, info.residual


def operator_of(name: str, record: dict[str, np.ndarray]) -> jd.operators.Operator:
    """The operator of a recorded DPS run."""
    if "gblur" in name:
        return jd.operators.blur(image_shape=(32, 32, 3), kernel=record["kernel"])
    return jd.operators.super_resolution(image_shape=(32, 32, 3), factor=4)


TRAJECTORIES = ("ddpm_20", "ddpm_fixedsmall_20", "ddpm_cosine_20", "ddim_eta1_20", "dps_gblur_20", "dps_sr4_20")


def _gradient(x: jax.Array, t: jax.Array, problem: jd.Problem, denoiser: jd.Denoiser) -> jax.Array:
    """∇_{x_t} ‖y − A(x̂₀)‖, by what DPS takes it from."""
    at = jd.samplers.Step(jax.random.key(0), t, t - 1, problem, denoiser)
    return at.misfit_gradient(x, lambda x0: safe_norm(problem.residual(x0)))[0]


def gradients(tasks: tuple[str, ...] = ("inpainting", "gaussian_blur", "super_resolution")) -> list[Row]:
    """x̂₀, log-variance and ∇‖y − A(x̂₀)‖ at several t, x̂₀ clipped or not."""
    golden = np.load(GOLDEN / "dps_gradients.npz")
    shape = (32, 32, 3)
    made = {
        "inpainting": lambda: jd.operators.inpaint_mask(image_shape=shape, mask=image(golden["mask"])),
        "gaussian_blur": lambda: jd.operators.gaussian_blur(image_shape=shape, size=61, std=3.0),
        "super_resolution": lambda: jd.operators.super_resolution(image_shape=shape, factor=4),
    }
    rows = []
    for clip in (1, 0):
        denoiser = trained_denoiser(clip=bool(clip))
        predict = jax.jit(lambda x, t, denoiser: denoiser(x, t))
        guide = jax.jit(lambda x, t, problem, denoiser: _gradient(x, t, problem, denoiser))
        for t in (50, 500, 999):
            name = f"clip{clip}/t{t}"
            if f"{name}/x0_hat" not in golden:
                continue
            x_t = image(golden[f"t{t}/x_t"])
            prediction = predict(x_t, jnp.int32(t), denoiser)
            rows.append(Row(f"x0, {name}", relative(prediction.x0, image(golden[f"{name}/x0_hat"])), 3e-5))
            expected = image(golden[f"{name}/log_variance"])
            rows.append(Row(f"log-variance, {name}", relative(prediction.log_variance, expected), 1e-5))
            for task in tasks:
                problem = jd.Problem(made[task](), image(golden[f"{task}/y"]), jnp.float32(0.05))
                found = guide(x_t, jnp.int32(t), problem, denoiser)
                # At t = 999 ε is amplified 157 times and x̂₀ saturates: torch's own float32 error is 4e-5 there.
                limit = 2e-4 if t == 999 else 2e-5
                rows.append(
                    Row(f"DPS gradient, {task}, {name}", relative(found, image(golden[f"{name}/{task}/grad"])), limit)
                )
    return rows


def rows() -> list[Row]:
    """Every comparison."""
    found = []
    golden = np.load(GOLDEN / "respacing.npz")
    for name in golden.files:
        if name.startswith("betas"):
            kind, steps = name.split("_")[1:]
            ours = getattr(jd.schedules, f"{kind}_betas")(int(steps))
            found.append(Row(f"betas {kind} {steps}", relative(ours, golden[name]), 1e-12))
        else:
            total, text = name.split("_", 1)
            grid = jd.schedules.timestep_grid(int(total), text.replace("_", ","))
            same = np.array_equal(grid.t[::-1], golden[name])
            found.append(Row(f"grid {text} of {total}", 0.0 if same else 1.0, 0.0))
    for name in TRAJECTORIES:
        x, residual, record = trajectory(name)
        if name.startswith("dps"):
            found.append(Row(f"trajectory {name}, last image", relative(x, image(record["x_final_f64"])), 2e-6))
            found.append(Row(f"trajectory {name}, ‖r‖ by step", relative(residual, record["rec_norm"]), 2e-6))
        else:
            found.append(Row(f"trajectory {name}, last image", relative(x, image(record["x_final"])), 2e-5))
    return found + gradients()


if __name__ == "__main__":
    print(json.dumps([row._asdict() for row in rows()], indent=1))
