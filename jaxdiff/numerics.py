"""Small mathematical functions: norms and roots with safe gradients, noise from keys, stacks of pytrees, wide types."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, DTypeLike, Key, PyTree, Scalar, Shape

__all__ = ["expand", "is_key", "normal", "normal_like", "safe_norm", "safe_sqrt", "stack", "wide"]


def safe_norm(x: Array) -> Scalar:
    """Euclidean norm ‖x‖₂ over all entries, with gradient 0 (not NaN) at x = 0; NaN where an entry is.

    >>> float(jax.grad(safe_norm)(jnp.zeros(3)).sum())
    0.0
    """
    squared = jnp.sum(jnp.square(jnp.abs(x)))
    zero = squared == 0  # not "> 0": NaN must propagate, or a diverged run would report residual 0
    return jnp.where(zero, jnp.zeros_like(squared), jnp.sqrt(jnp.where(zero, jnp.ones_like(squared), squared)))


def safe_sqrt(x: Array) -> Array:
    """√max(x, 0), entry by entry, with gradient 0 (not infinity) at 0 and below; NaN of NaN.

    >>> float(jax.grad(safe_sqrt)(0.0))
    0.0
    """
    nothing = x <= 0
    return jnp.where(nothing, jnp.zeros_like(x), jnp.sqrt(jnp.where(nothing, jnp.ones_like(x), x)))


def is_key(key: Key) -> bool:
    """Whether ``key`` is a PRNG key (new style, or the old pair of uint32) rather than recorded noise."""
    dtype = key.dtype
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key) or jnp.issubdtype(dtype, jnp.unsignedinteger))


def normal(key: Key, shape: Shape, dtype: jnp.dtype | type = jnp.float32) -> Array:
    """Standard normal noise of ``shape``, drawn by ``key``. If ``key`` is recorded noise, that noise itself.

    Recorded noise lets a whole sampler replay a reference run.

    Raises:
        ValueError: if recorded noise has another shape.
    """
    if is_key(key):
        return jax.random.normal(key, shape, dtype)
    if key.shape != tuple(shape):
        raise ValueError(f"recorded noise has shape {key.shape}, but this draw needs {tuple(shape)}.")
    return key.astype(dtype)


def normal_like(key: Key, y: Array) -> Array:
    """Noise of the shape and kind of ``y``: each real number is standard normal, so a complex one has variance 2."""
    if not jnp.issubdtype(y.dtype, jnp.complexfloating):
        return normal(key, y.shape, y.dtype)
    parts = normal(key, (2, *y.shape), y.real.dtype)
    return jax.lax.complex(parts[0], parts[1])


def expand(scalar: Array, like: Array) -> Array:
    """Give a scalar the rank of ``like``, so that no rank is promoted implicitly."""
    return jnp.reshape(scalar, (1,) * like.ndim)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Put pytrees of equal structure side by side along a new first axis.

    Raises:
        ValueError: if they are of different structure or shapes.
    """
    try:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "what is put side by side must be of one kind and shape (problems: one operator, images of one size): run others "
            f"on their own; {' '.join(str(error).split())[:200]}"
        ) from None


def wide(dtype: DTypeLike) -> Any:
    """The type of statistics, sums, softmax and head: at least float32."""
    # Not promote_types, which strict promotion refuses for bfloat16 with float32.
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32
