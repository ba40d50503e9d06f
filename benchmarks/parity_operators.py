"""Parity of the operators with the code of DPS (commit effbde7, torch 2.13, float32): values and gradients.

Run:     python -m benchmarks.parity_operators [FOLDER]
Needs:   tests/golden/operators/dps_64.npz; with a FOLDER that holds the whole operators_64.npz, motion blur, the larger
         phase retrieval and all gradients are compared too.
Seen:    CPU, float32: largest relative L2 error 7.6e-7 (the gradient of phase retrieval), others below 5e-7; masks and
         Poisson exact.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import noise, operators

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "operators" / "dps_64.npz"
LIMIT = 1e-5
SHAPE = (64, 64, 3)


def rows(folder: pathlib.Path | None = None) -> list[tuple[str, float, float]]:
    """Returns (what is compared, relative L2 error, limit)."""
    with np.load(GOLDEN if folder is None else folder / "operators_64.npz") as data:
        golden = {name: _channels_last(data[name]) for name in data}
    table = []
    for name, title, operator in _operators(golden):
        y, pull_back = jax.vjp(operator, jnp.asarray(golden["x"]))
        if f"{name}_y" in golden:
            table.append((f"{title}: A(x)", _error(y, golden[f"{name}_y"]), LIMIT))
        if f"{name}_vjp" in golden:
            (back,) = pull_back(jnp.asarray(golden[f"{name}_u"]))
            table.append((f"{title}: gradient", _error(back, golden[f"{name}_vjp"]), LIMIT))
            if isinstance(operator, operators.LinearOperator):
                back = operator.adjoint(jnp.asarray(golden[f"{name}_u"]))
                table.append((f"{title}: adjoint", _error(back, golden[f"{name}_vjp"]), LIMIT))
    light = np.clip((np.moveaxis(golden["x"], -1, 0)[None] + 1) / 2, 0, None)
    counts = np.moveaxis(np.random.RandomState(5).poisson(light * 255)[0], 0, -1)
    y = noise.poisson(1.0).from_counts(jnp.asarray(counts, jnp.float32))
    return [*table, ("Poisson noise, same counts", _error(y, golden["poisson_rate1_np_seed5"]), LIMIT)]


def _operators(golden: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, operators.Operator]]:
    yield "gblur", "Gaussian blur 61x61", operators.gaussian_blur(image_shape=SHAPE)
    yield "gblur", "the same as any kernel", operators.blur(image_shape=SHAPE, kernel=golden["gblur_kernel"])
    if "mblur_kernel" in golden:
        yield "mblur", "motion blur 61x61", operators.blur(image_shape=SHAPE, kernel=golden["mblur_kernel"])
    for factor in (2, 4, 8):
        operator = operators.super_resolution(image_shape=SHAPE, factor=factor)
        yield f"sr{factor}", f"bicubic resizer x{factor}", operator
    for name in ("inp_random", "inp_box"):
        mask = golden[f"{name}_mask"]
        yield name, name.replace("inp_", "inpainting, ") + " mask", operators.inpaint_mask(image_shape=SHAPE, mask=mask)
    if "phase_y" in golden:
        yield "phase", "phase retrieval 192x192", operators.phase_retrieval(image_shape=SHAPE, padding=64)
    yield "phase_os0.5", "phase retrieval 96x96", operators.phase_retrieval(image_shape=SHAPE, padding=16)


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array[0], 0, -1) if array.ndim == 4 else array


def _error(found: jax.Array, expected: np.ndarray) -> float:
    difference = np.asarray(found, np.float64) - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))


if __name__ == "__main__":
    for name, measured, limit in rows(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(f"{name:40s} {measured:9.2e}  limit {limit:.0e}  {'ok' if measured <= limit else 'FAILED'}")
