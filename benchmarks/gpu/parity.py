"""Does the device compute what a CPU does, and what do TF32 and bfloat16 cost in digits?"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from benchmarks import parity_diffusion
from benchmarks.gpu.record import Record

PRECISIONS = {"float32": "highest", "TF32": "tensorfloat32", "bfloat16 products": "bfloat16"}
"""What a product may round its factors to, by JAX's names."""
RUNS = (
    ("ddpm_20", "x_final", "float32"),
    ("dps_gblur_20", "x_final_f64", "float32"),
    ("ddpm_20", "x_final", "TF32"),
    ("ddpm_20", "x_final", "bfloat16 products"),
)
"""Recorded runs of the DPS code: name, last image, precision. A guided run is replayed in float64."""
T = 300


def run(record: Record, denoiser: jd.Denoiser, until: float, runs: int | None = None) -> None:
    """Rows: relative L2 error of the network and its gradient against the CPU's, and of recorded runs of the DPS code."""
    x = jax.random.normal(jax.random.key(0), denoiser.image_shape)
    expected = _on_cpu(denoiser, x)
    for name, precision in PRECISIONS.items():
        with jax.default_matmul_precision(precision):
            found = _outputs(denoiser, x)
        for what, ours, theirs in zip(("forward", "input gradient"), found, expected, strict=True):
            error = parity_diffusion.relative(ours, theirs)
            record.write("parity", what=what, precision=name, error=error, digits=-np.log10(max(error, 1e-16)))
        if record.left() < until:
            return
    for name, golden, precision in RUNS[:runs]:
        if record.left() < until:
            return
        with jax.default_matmul_precision(PRECISIONS[precision]):
            x_0, _, recorded = parity_diffusion.trajectory(name)
        error = parity_diffusion.relative(x_0, parity_diffusion.image(recorded[golden]))
        record.write("parity", what=f"recorded run {name}", precision=precision, error=error)


def _outputs(denoiser: jd.Denoiser, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    def both(denoiser: jd.Denoiser, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x0, back = jax.vjp(lambda x: denoiser(x, jnp.int32(T)).x0, x)
        return x0, back(x0)[0]

    return jax.jit(both)(denoiser, x)


def _on_cpu(denoiser: jd.Denoiser, x: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu), jax.default_matmul_precision("highest"):
        x0, gradient = _outputs(*jax.device_put((denoiser, x), cpu))
    return np.asarray(x0), np.asarray(gradient)
