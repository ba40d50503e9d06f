"""The kernel distance between two sets of feature vectors, with its standard error: KID, on features of your choice."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, Scalar

__all__ = ["KernelDistance", "kernel_distance"]


class KernelDistance(NamedTuple):
    """An estimate and its standard error.

    Attributes:
        value: squared maximum mean discrepancy. It may be negative, since it is unbiased.
        standard_error: of ``value`` over new draws of both sets.
    """

    value: Scalar
    standard_error: Scalar


def kernel_distance(a: Array, b: Array) -> KernelDistance:
    """Squared maximum mean discrepancy of two sets with the cubic kernel, unbiased.

        mean_{i≠j} k(a_i, a_j) + mean_{i≠j} k(b_i, b_j) − 2 mean_{i,j} k(a_i, b_j),   k(x, y) = (xᵀy/D + 1)³

    On Inception features of images this is KID. Other features give other numbers, so name them beside the number.
    The standard error is the jackknife's: each vector is left out once. Random subsets of small sets overlap, so their
    scatter would understate it.

    Args:
        a: vectors [n, D] of one set, n ≥ 3.
        b: vectors [m, D] of the other, m ≥ 3.

    Raises:
        ValueError: if the vectors have different lengths, or a set has fewer than 3.

    Reference: Bińkowski et al., "Demystifying MMD GANs", 2018, section 4.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 3:
        raise ValueError(
            f"two sets of at least 3 vectors of one length are compared, [n, D] and [m, D]; got {a.shape}, {b.shape}."
        )
    n, m = len(a), len(b)
    within_a, within_b, across = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    rows_a, rows_b = (jnp.sum(k, 1) - jnp.diagonal(k) for k in (within_a, within_b))
    sum_a, sum_b, sum_across = jnp.sum(rows_a), jnp.sum(rows_b), jnp.sum(across)
    mean_a, mean_b = sum_a / (n * (n - 1)), sum_b / (m * (m - 1))
    without_a = (sum_a - 2 * rows_a) / ((n - 1) * (n - 2)) + mean_b - 2 * (sum_across - across.sum(1)) / ((n - 1) * m)
    without_b = mean_a + (sum_b - 2 * rows_b) / ((m - 1) * (m - 2)) - 2 * (sum_across - across.sum(0)) / (n * (m - 1))
    variance = (n - 1) * jnp.var(without_a) + (m - 1) * jnp.var(without_b)
    return KernelDistance(mean_a + mean_b - 2 * sum_across / (n * m), jnp.sqrt(variance))


def _kernel(x: Array, y: Array) -> Array:
    products = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    return (products / x.shape[1] + 1) ** 3
