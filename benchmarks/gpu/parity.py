"""Does the device compute what a CPU does, and what do TF32 and bfloat16 cost in digits?"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from benchmarks import parity_diffusion
from benchmarks.gpu.record import Record
from benchmarks.step_time import denoiser_of

PRECISIONS = {"float32": "highest", "TF32": "tensorfloat32", "bfloat16 products": "bfloat16"}
"""What a product may round its factors to, by JAX's names."""
T = 300


def run(record: Record, prior: str, until: float) -> None:
    """Rows: relative L2 error of the network and its gradient against the CPU's, and of recorded runs of the DPS code."""
    denoiser = denoiser_of(prior)
    x = jax.random.normal(jax.random.key(0), denoiser.image_shape)
    expected = _on_cpu(denoiser, x)
    for name, precision in PRECISIONS.items():
        with jax.default_matmul_precision(precision):
            found = _outputs(denoiser, x)
        for what, ours, theirs in zip(("forward", "input gradient"), found, expected, strict=True):
            error = parity_diffusion.relative(ours, theirs)
            record.write(
                "parity", what=f"{prior}, {what}", precision=name, error=error, digits=-np.log10(max(error, 1e-16))
            )
        if record.left() < until:
            return
    # A guided run is replayed in float64, where no product is rounded further.
    runs = [("ddpm_20", "x_final", name) for name in PRECISIONS] + [("dps_gblur_20", "x_final_f64", "float32")]
    for name, golden, precision in runs:
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
