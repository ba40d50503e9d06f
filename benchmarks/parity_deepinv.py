"""deepinv's DDRM, DiffPIR and DPS, replayed with its draws on a denoiser that both share.

Run:     python -m benchmarks.parity_deepinv
         PYTHON -m benchmarks.record_deepinv makes the references anew, PYTHON with torch and deepinv.
Shows:   relative L2 differences of every iterate (the worst) and of the last image.
Seen:    docs/against_deepinv.md.

Absorbed, because the two then compute the same map:

- [0, 1] and [-1, 1]: σ and norms of residuals double, y ↦ 2 y − A(1).
- DDRM divides every draw by √2: ours are divided too. Its draws are in the basis of the operator's V, in which a draw has
  more entries than the image where V is half of a Fourier transform. deepinv's V took the draws to images.
- DiffPIR's proximal step has 2ρ where the paper has ρ: λ is doubled (λ/4 is ours for the other scale, so λ/2).
- DiffPIR starts from Aᵀ y: its first iterate is given. It returns the x_t of its last timestep and not x̂₀, so that its
  last network call has no effect: our grid ends there. Its ᾱ is a product in float32: so is ours here.
- DPS guides inside the score, so that ζ varies: ζ_t = w √(ᾱ_t ᾱ_s) (σ_t² − σ_s²), σ² = (1−ᾱ)/ᾱ, halved for residuals on
  [0, 1]; on the VP-SDE's ᾱ(t) = exp(−0.1 t − 9.95 t²), at deepinv's times. It clips x̂₀ to [-1, 1] on the range of *its*
  images, which is [-3, 1] on ours, unless it is told that they are on [-1, 1] (``dps_native``).
"""

from __future__ import annotations

import functools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

import jaxdiff as jd
from benchmarks.parity_diffusion import Row, relative
from jaxdiff.schedules import TimeGrid

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "deepinv"
LIMIT = 2e-5
DATA_STD, NOISE = 0.7, 0.1
"""As in ``record_deepinv``."""


@struct.dataclass
class Shared:
    """The denoiser of ``record_deepinv``, clipped to [low, high]."""

    weights: dict[str, jax.Array]
    schedule: jd.NoiseSchedule
    low: jax.Array
    high: jax.Array
    image_shape: tuple[int, int, int] = struct.field(pytree_node=False)

    def __call__(self, x_t: jax.Array, t: jax.Array, s: jax.Array | None = None) -> jd.Prediction:
        """x̂₀ = D(x_t/√ᾱ_t; σ_t)."""
        del s
        level = self.schedule.at(t)
        signal, noise = jnp.sqrt(level.alpha_bar), jnp.sqrt(level.one_minus_alpha_bar)
        sigma, x = noise / signal, x_t / signal
        total = jnp.sqrt(sigma**2 + DATA_STD**2)
        bias = self.weights["bias"] + self.weights["level"] * jnp.log(sigma) / 4
        hidden = jnp.tanh(_circular(x / total, self.weights["first"]) + bias[None, None])
        free = (DATA_STD / total) ** 2 * x + sigma * DATA_STD / total * _circular(hidden, self.weights["second"])
        x0 = jnp.clip(free, self.low, self.high)
        return jd.Prediction(x0, (x_t - signal * x0) / noise, None)


def _circular(x: jax.Array, weight: jax.Array) -> jax.Array:
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="wrap")[None]
    return jax.lax.conv_general_dilated(padded, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "OIHW", "NHWC"))[0]


class Run(NamedTuple):
    """A recorded run: what it was, and what jaxdiff is given to walk the same way."""

    denoiser: Shared
    problem: jd.Problem
    sampler: jd.samplers.Sampler
    grid: TimeGrid
    noise: jax.Array
    record: dict[str, np.ndarray]


@functools.cache
def shared() -> dict[str, np.ndarray]:
    """What all runs have in common."""
    return dict(np.load(GOLDEN / "shared.npz"))


def operator(name: str) -> jd.operators.LinearOperator:
    """deepinv convolves where we correlate."""
    shape, kernel = shared()["image"].shape, shared()["kernel"][::-1, ::-1]
    if name == "inpainting":
        return jd.operators.inpaint_mask(image_shape=shape, mask=shared()["mask"])
    if name == "blur":
        return jd.operators.blur(image_shape=shape, kernel=kernel, padding="circular")
    return jd.operators.blur_downsample(image_shape=shape, kernel=kernel, factor=2)


def _variance_exploding(sigma: np.ndarray) -> jd.NoiseSchedule:
    """ᾱ = 1/(1+σ²) of increasing levels."""
    square = np.asarray(sigma, np.float64) ** 2
    return jd.NoiseSchedule(jnp.asarray(1 / (1 + square), jnp.float32), jnp.asarray(square / (1 + square), jnp.float32))


def ddrm(steps: int) -> tuple[jd.samplers.Sampler, jd.NoiseSchedule, TimeGrid]:
    """The levels that ``record_deepinv`` gives deepinv, all of them visited."""
    sampler = jd.samplers.ddrm(eta=float(shared()["eta"]), eta_b=float(shared()["etab"]))
    return sampler, _variance_exploding(np.geomspace(0.05, 10, steps)), _downwards(steps)


def diffpir(steps: int) -> tuple[jd.samplers.Sampler, jd.NoiseSchedule, TimeGrid]:
    """Half of its λ, its own ᾱ, and a grid that ends at the last timestep's x_t."""
    alpha_bar = shared()["alpha_bar"]
    grid = jd.schedules.timestep_grid(len(alpha_bar), steps, "quad")
    sampler = jd.samplers.diffpir(lam=float(shared()["lambda_"]) / 2, zeta=float(shared()["zeta"]))
    schedule = jd.NoiseSchedule(jnp.asarray(alpha_bar), jnp.asarray(1 - alpha_bar))
    return sampler, schedule, TimeGrid(grid.t[:-1], grid.s[:-1])


def dps(steps: int, *, unit: bool = True) -> tuple[jd.samplers.Sampler, jd.NoiseSchedule, TimeGrid]:
    """ζ_t = w √(ᾱ_t ᾱ_s) (σ_t² − σ_s²), half of it where residuals are on [0, 1]."""
    t = np.linspace(0, 1, steps + 1)
    integral = 0.1 * t + 19.9 * t**2 / 2
    scale, square = np.exp(-integral / 2), np.expm1(integral)
    zeta = shared()["weight"] * scale[1:] * scale[:-1] * np.diff(square) / (2 if unit else 1)
    return (
        jd.samplers.dps(zeta=jnp.asarray(zeta, jnp.float32)),
        _variance_exploding(np.sqrt(square[1:])),
        _downwards(steps),
    )


def _downwards(steps: int) -> TimeGrid:
    t = np.arange(steps, dtype=np.int32)[::-1]
    return TimeGrid(t, t - 1)


METHODS = {"ddrm": ddrm, "diffpir": diffpir, "dps": dps, "dps_native": functools.partial(dps, unit=False)}
CLIPS = {"ddrm": (-np.inf, np.inf), "dps": (-3, 1)}
RUNS = tuple(tuple(path.stem.rsplit("_", 1)) for path in sorted(GOLDEN.glob("*_*.npz")))


def recorded(method: str, name: str) -> Run:
    """A recorded run, translated."""
    record = dict(np.load(GOLDEN / f"{method}_{name}.npz"))
    sampler, schedule, grid = METHODS[method](len(record["iterates"]))
    weights = {key: jnp.asarray(shared()[key]) for key in ("first", "bias", "level", "second")}
    low, high = (jnp.float32(bound) for bound in CLIPS.get(method, (-1, 1)))
    denoiser = Shared(weights, schedule, low, high, shared()["image"].shape)
    problem = jd.Problem(operator(name), jnp.asarray(shared()[f"{name}_y"]), jnp.float32(NOISE))
    noise = record.get("noise", shared()["noise"]) / np.float32(2**0.5 if method == "ddrm" else 1)
    return Run(denoiser, problem, sampler, grid, jnp.asarray(noise), record)


def replay(run: Run) -> tuple[jax.Array, jax.Array]:
    """x_t/√ᾱ_t before each step, [N, H, W, C], and the last image."""
    steps = len(run.grid.t)
    # The first draw is the start's; the step to the clean image asks for one too, and does not use it.
    noise = jnp.concatenate([run.noise, jnp.zeros_like(run.noise[:1])])[: steps + 1]
    t, s = (jnp.asarray(times) for times in run.grid)
    return _walk(run.denoiser, run.problem, run.sampler, t, s, noise, jnp.asarray(run.record["iterates"][0]))


@jax.jit
def _walk(
    denoiser: Shared,
    problem: jd.Problem,
    sampler: jd.samplers.Sampler,
    t: jax.Array,
    s: jax.Array,
    noise: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    def body(state: tuple, inputs: tuple) -> tuple:
        t, s, z = inputs
        return sampler.step(z, state, t, s, problem, denoiser)[0], state.x / jnp.sqrt(denoiser.schedule.at(t).alpha_bar)

    start = sampler.init(noise[0], problem, denoiser, t[0])
    if sampler.title != "DDRM":  # DDRM's start is its own; the others' is told
        start = start._replace(x=first * jnp.sqrt(denoiser.schedule.at(t[0]).alpha_bar))
    state, iterates = jax.lax.scan(body, start, (t, s, noise[1:]))
    return iterates, state.x


def differences(run: Run) -> tuple[float, float]:
    """Relative L2 difference of the worst iterate and of the last image."""
    iterates, last = replay(run)
    worst = max(map(relative, iterates, run.record["iterates"]))
    return worst, relative(last, run.record["output"])


def rows() -> list[Row]:
    """Every comparison."""
    found = []
    for name in ("inpainting", "blur", "downsampling"):
        clean = operator(name)(jnp.asarray(shared()["image"]))
        found.append(Row(f"A(x), {name}", relative(clean, shared()[f"{name}_clean"]), 1e-6))
    for method, name in RUNS:
        worst, last = differences(recorded(method, name))
        found.append(Row(f"{method}, {name}, worst iterate", worst, LIMIT))
        found.append(Row(f"{method}, {name}, last image", last, LIMIT))
    return found


if __name__ == "__main__":
    print(json.dumps([row._asdict() for row in rows()], indent=1))
