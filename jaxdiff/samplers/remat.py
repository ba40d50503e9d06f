"""A scan whose backward pass keeps few states and computes the others anew."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["checkpoint_depth", "checkpointed_scan"]


def checkpoint_depth(checkpoint: str | int | None, count: int) -> int:
    """How deep the scan over ``count`` steps is nested, for an option ``checkpoint`` as ``jd.sample`` describes it.

    Raises:
        ValueError: if there is no such option.
    """
    depths = {None: 0, "step": 1, "sqrt": 2, "log": max(1, int(math.log2(max(count, 2))))}
    if isinstance(checkpoint, int | np.integer) and not isinstance(checkpoint, bool) and checkpoint >= 1:
        return min(int(checkpoint), depths["log"])  # deeper than that there is nothing left to cut
    if checkpoint not in depths:
        raise ValueError(
            f"unknown checkpoint {checkpoint!r}; choose None, 'step', 'sqrt', 'log' or a depth of at least 1."
        )
    return depths[checkpoint]


def checkpointed_scan(body: Callable, state: Any, inputs: Any, count: int, depth: int) -> tuple[Any, Any]:
    """The scan, nested ``depth`` deep in stretches that a backward pass computes anew.

    The steps are cut into stretches of r^(depth−1), r = ⌊count^(1/depth)⌋, which nest evenly, so the whole nest holds
    ``body`` once; what is left over is nested one level less.
    """
    if depth == 0 or count == 0:
        return jax.lax.scan(body, state, inputs)
    radix = max(2, int(count ** (1 / depth) + 1e-9))
    size = radix ** (depth - 1)
    if depth == 1:
        return _nested(body, 1, radix)(state, inputs)
    if size >= count:
        return checkpointed_scan(body, state, inputs, count, depth - 1)
    whole = count // size * size
    first = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), inputs)
    piece = jax.checkpoint(_nested(body, depth - 1, radix), prevent_cse=False)  # type: ignore[arg-type]
    state, infos = jax.lax.scan(piece, state, first)
    infos = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), infos)
    if whole == count:
        return state, infos
    state, rest = checkpointed_scan(body, state, jax.tree.map(lambda a: a[whole:], inputs), count - whole, depth - 1)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), infos, rest)


def _nested(body: Callable, depth: int, radix: int) -> Callable:
    """A scan over radix^depth steps (any number for depth 1), each level of which is computed anew going back."""
    if depth == 1:
        return lambda state, inputs: jax.lax.scan(jax.checkpoint(body, prevent_cse=False), state, inputs)  # type: ignore[arg-type]
    inner = jax.checkpoint(_nested(body, depth - 1, radix), prevent_cse=False)  # type: ignore[arg-type]

    def run_level(state: Any, inputs: Any) -> tuple[Any, Any]:
        cut = jax.tree.map(lambda a: a.reshape(radix, -1, *a.shape[1:]), inputs)
        state, infos = jax.lax.scan(inner, state, cut)
        return state, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), infos)

    return run_level
