"""Compare a converted network with outputs that the original code produced."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.files import open_regular
from jaxdiff.models import PriorConfig, module_of
from jaxdiff.typing import Array, PyTree

__all__ = ["LIMIT", "Comparison", "compare", "report"]

LIMIT = 1e-5
"""Largest relative L2 error that counts as the same network in float32."""


class Comparison(NamedTuple):
    """Relative L2 errors of the output and, where the reference has one, of the input's gradient."""

    output: float
    gradient: float | None


def compare(params: PyTree, config: PriorConfig, reference: str | os.PathLike[str]) -> Comparison:
    """Run the network on the reference's input.

    Args:
        params: parameters, nested by name.
        config: the prior.
        reference: npz with ``x`` [N, C, H, W], ``t`` [N], ``out`` [N, C', H, W] as the original wrote them, ``y`` [N]
            for a class-conditional network, and optionally ``v`` and ``grad_x`` = d⟨out, v⟩/dx.

    Raises:
        ValueError: if the file cannot be read, lacks an array, or holds one of another type or shape.
    """
    arrays = _read(reference)
    x, out = _channels_last(arrays["x"]), _channels_last(arrays["out"])
    t = jnp.asarray(arrays["t"])
    y = jnp.asarray(arrays["y"], jnp.int32) if "y" in arrays else None
    module = module_of(config.unet, jnp.float32)

    def apply(params: PyTree, x: Array) -> Any:
        return module.apply({"params": params}, x, t.astype(jnp.float32), y)

    output = np.asarray(jax.jit(apply)(params, x))
    if output.shape != out.shape:
        raise ValueError(f"{reference}: the network's output is {output.shape}, the reference's {out.shape} (NHWC).")
    gradient = None
    if "v" in arrays and "grad_x" in arrays:
        v = _channels_last(arrays["v"])
        found = jax.jit(jax.grad(lambda x, params: jnp.sum(apply(params, x) * v)))(x, params)
        gradient = relative_error(np.asarray(found), np.asarray(_channels_last(arrays["grad_x"])))
    return Comparison(relative_error(output, np.asarray(out)), gradient)


def report(comparison: Comparison, reference: str | os.PathLike[str]) -> str:
    """One line on the comparison.

    Raises:
        ValueError: if an error is above the limit.
    """
    parts = [f"output {comparison.output:.1e}"]
    if comparison.gradient is not None:
        parts.append(f"input gradient {comparison.gradient:.1e}")
    line = f"relative L2 error against {os.path.basename(reference)}: {', '.join(parts)} (limit {LIMIT:.0e})"
    if not max(comparison.output, comparison.gradient or 0.0) <= LIMIT:
        raise ValueError(
            f"{line}: not the same network, and nothing was written; "
            "check --num-heads, --num-head-channels and --attention-order, which shapes cannot tell."
        )
    return line


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float(np.linalg.norm((found - expected).ravel()) / np.linalg.norm(expected.ravel()))


def _channels_last(array: np.ndarray) -> Array:
    if array.ndim != 4:
        raise ValueError(f"the reference's images must be [N, C, H, W], got shape {array.shape}.")
    return jnp.asarray(array.transpose(0, 2, 3, 1), jnp.float32)


def _read(reference: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        with open_regular(reference) as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise ValueError(f"{reference} cannot be read as an npz file of plain arrays.") from error
    if missing := [name for name in ("x", "t", "out") if name not in arrays]:
        raise ValueError(f"{reference} has no {', '.join(missing)}; a reference needs x, t and out.")
    arrays = {name: arrays[name] for name in ("x", "t", "out", "y", "v", "grad_x") if name in arrays}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or not array.size:
            raise ValueError(f"{reference}: {name} must hold numbers; it is {array.dtype} of shape {array.shape}.")
    for name, like in (("v", "out"), ("grad_x", "x")):
        if name in arrays and arrays[name].shape != arrays[like].shape:
            raise ValueError(f"{reference}: {name} is {arrays[name].shape}, but {like} is {arrays[like].shape}.")
    return arrays
