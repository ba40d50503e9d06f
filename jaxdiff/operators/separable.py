"""Separable linear operators, Y = R X Cᵀ on each channel: they act on rows, then on columns.

Gaussian blurs with any padding are separable, and so is antialiased resizing. At usual image sizes, two matrix products
are as fast as an FFT. The singular value decompositions of the two small matrices give all closed forms exactly, also at
the boundary.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, check_range, concrete, leaf
from jaxdiff.linalg import shrink
from jaxdiff.numerics import expand
from jaxdiff.operators.base import SpectralOperator
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["Factor", "Separable", "factorize", "separable"]

RCOND = 1e-3


@struct.dataclass(eq=False)
class Factor:
    """One matrix M [m, n] and its singular value decomposition M = U S Vᵀ, padded to n.

    Attributes:
        matrix: M, [m, n].
        left: U, [m, n]. Its columns from min(m, n) on are zero.
        values: the diagonal of S, [n].
        right: V, [n, n], orthogonal.
    """

    matrix: Array
    left: Array
    values: Array
    right: Array


@struct.dataclass(eq=False)
class Separable(SpectralOperator):
    """Y = R X Cᵀ for each channel X [H, W].

    Attributes:
        rows: R [h, H] with its decomposition.
        columns: C [w, W] with its decomposition.
        rcond: singular values up to ``rcond`` times the largest count as zero in ``pinv`` and the spectral form. They would
            only amplify rounding errors and noise. A, its adjoint and ``solve`` use all singular values.
    """

    rows: Factor
    columns: Factor
    rcond: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: R X Cᵀ."""
        return _sandwich(self.rows.matrix, x, self.columns.matrix)

    def adjoint(self, y: Measurement) -> Image:
        """Rᵀ Y C."""
        return _sandwich(self.rows.matrix.T, y, self.columns.matrix.T)

    def to_spectral(self, x: Image) -> Array:
        """V_Rᵀ X V_C."""
        return _sandwich(self.rows.right.T, x, self.columns.right.T)

    def from_spectral(self, z: Array) -> Image:
        """V_R Z V_Cᵀ."""
        return _sandwich(self.rows.right, z, self.columns.right)

    def measurement_to_spectral(self, y: Measurement) -> Array:
        """U_Rᵀ Y U_C. It is zero where the singular value counts as zero."""
        z = self._left(y)
        return jnp.where(self.singular_values > 0, z, jnp.zeros_like(z))

    @property
    def singular_values(self) -> Array:
        """Products of the singular values of R and C. Values up to ``rcond`` times the largest become zero."""
        s = self._all_singular_values()
        largest = jnp.max(self.rows.values) * jnp.max(self.columns.values)
        return jnp.where(s > expand(self.rcond * largest, s), s, jnp.zeros_like(s))

    def solve(self, rho: float | Array, b: Image) -> Image:
        """(Aᵀ A + ρ I)⁻¹ b, with all singular values."""
        s = self._all_singular_values().astype(b.dtype)
        return self.from_spectral(self.to_spectral(b) / (jnp.square(s) + expand(jnp.asarray(rho, b.dtype), s)))

    def ridge(self, rho: float | Array, y: Measurement) -> Image:
        """(Aᵀ A + ρ I)⁻¹ Aᵀ y, with all singular values."""
        return self.from_spectral(shrink(self._left(y), self._all_singular_values().astype(y.dtype), rho))

    def _left(self, y: Measurement) -> Array:
        return _sandwich(self.rows.left.T, y, self.columns.left.T)

    def _all_singular_values(self) -> Array:
        return jnp.broadcast_to(self.rows.values[:, None, None] * self.columns.values[None, :, None], self.image_shape)


def separable(
    rows: Array | np.ndarray, columns: Array | np.ndarray, *, image_shape: Shape, rcond: float | Array = RCOND
) -> Separable:
    """The operator Y = R X Cᵀ on each channel.

    Args:
        rows: R [h, H].
        columns: C [w, W].
        image_shape: (H, W, C).
        rcond: see :class:`Separable`.

    Raises:
        ValueError: if the matrices do not fit the image, are zero, or are not finite.
    """
    height, width, channels = check_image_shape(image_shape)
    for name, matrix, side in (("rows", rows, height), ("columns", columns, width)):
        if np.ndim(matrix) != 2 or np.shape(matrix)[1] != side:
            raise ValueError(f"{name} must be [n, {side}] for a {height}x{width} image, got shape {np.shape(matrix)}.")
        if concrete(leaf(name, matrix)) and not np.asarray(matrix).any():
            raise ValueError(f"{name} is zero everywhere, so nothing would be measured.")
    check_range("rcond", rcond, 0, 1)
    factors = factorize(rows), factorize(columns)
    return Separable(*factors, jnp.asarray(rcond, jnp.float32), image_shape=(height, width, channels))


def factorize(matrix: Array | np.ndarray) -> Factor:
    """The singular value decomposition of a matrix [m, n], in double precision unless the matrix is traced.

    Under ``grad``, A and its adjoint depend on the matrix. Its decomposition counts as constant, because a full one has no
    derivative if singular values are equal. So ``pinv``, ``solve`` and the spectral form count as constant, too.
    """
    m, n = np.shape(matrix)
    decompose = np.linalg.svd if concrete(matrix) else jnp.linalg.svd
    numbers = np.asarray(matrix, np.float64) if concrete(matrix) else jax.lax.stop_gradient(matrix)
    u, s, vt = decompose(numbers, full_matrices=True)
    rank = min(m, n)
    left = jnp.zeros((m, n), jnp.float32).at[:, :rank].set(jnp.asarray(u[:, :rank], jnp.float32))
    values = jnp.zeros((n,), jnp.float32).at[:rank].set(jnp.asarray(s, jnp.float32))
    return Factor(jnp.asarray(matrix, jnp.float32), left, values, jnp.asarray(vt.T, jnp.float32))


def _sandwich(left: Array, x: Array, right: Array) -> Array:
    # Full precision: the default of accelerators rounds the factors of a product to 8 or 10 bits.
    left, right = left.astype(x.dtype), right.astype(x.dtype)
    return jnp.einsum("ih,hwc,jw->ijc", left, x, right, precision="highest")
