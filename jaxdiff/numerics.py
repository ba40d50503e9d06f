"""Small shared mathematics: norms with safe gradients, conjugate gradients, noise by key or by hand."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, Key, PyTree, Scalar, Shape

__all__ = ["CGResult", "conjugate_gradient", "expand", "is_key", "normal", "safe_norm", "safe_sqrt", "stack"]


def safe_norm(x: Array) -> Scalar:
    """Euclidean norm ‖x‖₂ over all entries, with gradient 0 (not NaN) at x = 0; NaN where an entry is.

    >>> float(jax.grad(safe_norm)(jnp.zeros(3)).sum())
    0.0
    """
    squared = jnp.sum(jnp.square(jnp.abs(x)))
    zero = squared == 0  # and not "> 0", which is false of NaN, too: what diverged would look perfect
    return jnp.where(zero, jnp.zeros_like(squared), jnp.sqrt(jnp.where(zero, jnp.ones_like(squared), squared)))


def safe_sqrt(x: Array) -> Array:
    """√max(x, 0), entry by entry, with gradient 0 (not infinity) at 0 and below; NaN of NaN.

    >>> float(jax.grad(safe_sqrt)(0.0))
    0.0
    """
    nothing = x <= 0
    return jnp.where(nothing, jnp.zeros_like(x), jnp.sqrt(jnp.where(nothing, jnp.ones_like(x), x)))


class CGResult(NamedTuple):
    """The solution and the relative residual ‖b − M x‖ / ‖b‖ that was reached."""

    x: Array
    residual: Scalar


def conjugate_gradient(
    matvec: Callable[[Array], Array],
    b: Array,
    *,
    x0: Array | None = None,
    maxiter: int = 50,
    tol: float = 1e-6,
) -> CGResult:
    """Solve M x = b for a symmetric positive (semi-)definite M given by its product.

    ``jax.scipy.sparse.linalg.cg`` with the residual reported: an iterative answer without its residual is a guess.

    Args:
        matvec: v ↦ M v, shapes as ``b``.
        b: the right-hand side, any shape.
        x0: where to start; zeros by default.
        maxiter: most iterations.
        tol: stop at a relative residual of ``tol``.
    """
    x, _ = jax.scipy.sparse.linalg.cg(matvec, b, x0=x0, tol=tol, maxiter=maxiter)
    scale = jnp.maximum(safe_norm(b), jnp.finfo(b.real.dtype).tiny)
    return CGResult(x, safe_norm(b - matvec(x)) / scale)


def is_key(key: Key) -> bool:
    """Whether ``key`` is a PRNG key (new style, or the old pair of uint32) rather than recorded noise."""
    dtype = key.dtype
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key) or jnp.issubdtype(dtype, jnp.unsignedinteger))


def normal(key: Key, shape: Shape, dtype: jnp.dtype | type = jnp.float32) -> Array:
    """Standard normal noise of ``shape``: drawn by ``key``, or ``key`` itself where it is recorded noise.

    The second form lets a whole sampler replay a reference run whose noise was stored.

    Raises:
        ValueError: if recorded noise has another shape.
    """
    if is_key(key):
        return jax.random.normal(key, shape, dtype)
    if key.shape != tuple(shape):
        raise ValueError(f"recorded noise has shape {key.shape}, but this draw needs {tuple(shape)}.")
    return key.astype(dtype)


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
