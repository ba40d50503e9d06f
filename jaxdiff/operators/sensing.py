"""Compressed sensing: subsampled Hadamard transforms, randomized or in a camera's order, and dense matrices."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, check_key, check_range, concrete, leaf
from jaxdiff.linalg import shrink
from jaxdiff.operators import pictures
from jaxdiff.operators.base import SpectralOperator
from jaxdiff.operators.separable import RCOND, Factor, factorize
from jaxdiff.typing import Array, Image, Key, Measurement, Shape

__all__ = ["Hadamard", "Matrix", "compressed_sensing", "from_matrix", "gaussian_sensing", "single_pixel_camera"]

LARGEST_MATRIX = 8192


@struct.dataclass(eq=False)
class Hadamard(SpectralOperator):
    """y [m, C] = some coefficients of the orthonormal Walsh-Hadamard transform of signs ⊙ x, for each channel.

    Attributes:
        signs: [H, W], ±1 at each pixel.
        indices: [m], the coefficients that are kept, each once. They are numbered in natural order, by rows, then columns.
    """

    signs: Array
    indices: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: the kept coefficients."""
        return jnp.reshape(self.to_spectral(x), (-1, x.shape[-1]))[self.indices]

    def adjoint(self, y: Measurement) -> Image:
        """Put the coefficients in their places, transform back, and multiply by the signs."""
        return self.from_spectral(self.measurement_to_spectral(y))

    def pinv(self, y: Measurement) -> Image:
        """Aᵀ y, because the rows of A are orthonormal."""
        return self.adjoint(y)

    def to_spectral(self, x: Image) -> Array:
        """H (signs ⊙ x)."""
        return hadamard(self.signs.astype(x.dtype)[..., None] * x)

    def from_spectral(self, z: Array) -> Image:
        """signs ⊙ H z."""
        return self.signs.astype(z.dtype)[..., None] * hadamard(z)

    def measurement_to_spectral(self, y: Measurement) -> Array:
        """The coefficients in their places, and zeros at the others."""
        height, width, channels = self.image_shape
        flat = jnp.zeros((height * width, channels), y.dtype).at[self.indices].set(y, unique_indices=True)
        return jnp.reshape(flat, self.image_shape)

    def view(self, y: Measurement) -> Array:
        """The logarithm of the coefficients' magnitudes, in their places, beside Aᵀ y."""
        coefficients = pictures.log_magnitude(jnp.abs(self.measurement_to_spectral(y)))
        return pictures.side_by_side([pictures.picture(coefficients), pictures.picture(self.adjoint(y))])

    @property
    def singular_values(self) -> Array:
        """1 for the kept coefficients, and 0 for the others."""
        return self.measurement_to_spectral(jnp.ones((self.indices.shape[0], self.image_shape[2]), jnp.float32))


@struct.dataclass(eq=False)
class Matrix(SpectralOperator):
    """y = M x for any matrix M. It acts on the whole flattened image, or on each channel.

    Attributes:
        matrix: M [m, n] with its decomposition. n is H·W·C, or H·W with ``per_channel``.
        rcond: singular values up to ``rcond`` times the largest count as zero in ``pinv`` and the spectral form.
        per_channel: whether M acts on each channel. Then y is [m, C], else [m].
    """

    matrix: Factor
    rcond: Array
    per_channel: bool = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: M x."""
        return self._shape_out(_product(self.matrix.matrix, self._columns(x)))

    def adjoint(self, y: Measurement) -> Image:
        """Mᵀ y."""
        return jnp.reshape(_product(self.matrix.matrix.T, self._columns(y)), self.image_shape)

    def to_spectral(self, x: Image) -> Array:
        """Vᵀ x, [n] or [n, C]."""
        return self._shape_out(_product(self.matrix.right.T, self._columns(x)))

    def from_spectral(self, z: Array) -> Image:
        """V z."""
        return jnp.reshape(_product(self.matrix.right, self._columns(z)), self.image_shape)

    def measurement_to_spectral(self, y: Measurement) -> Array:
        """Uᵀ y. It is zero where the singular value counts as zero."""
        z = self._left(y)
        return jnp.where(self.singular_values > 0, z, jnp.zeros_like(z))

    @property
    def singular_values(self) -> Array:
        """The singular values of M. Values up to ``rcond`` times the largest become zero."""
        s = self.matrix.values
        return self._spread(jnp.where(s > self.rcond * jnp.max(s), s, jnp.zeros_like(s)))

    def solve(self, rho: float | Array, b: Image) -> Image:
        """(Mᵀ M + ρ I)⁻¹ b, with all singular values."""
        s = self._spread(self.matrix.values).astype(b.dtype)
        return self.from_spectral(self.to_spectral(b) / (jnp.square(s) + jnp.asarray(rho, b.dtype)))

    def ridge(self, rho: float | Array, y: Measurement) -> Image:
        """(Mᵀ M + ρ I)⁻¹ Mᵀ y, with all singular values."""
        return self.from_spectral(shrink(self._left(y), self._spread(self.matrix.values).astype(y.dtype), rho))

    def _left(self, y: Measurement) -> Array:
        return self._shape_out(_product(self.matrix.left.T, self._columns(y)))

    def _spread(self, s: Array) -> Array:
        return jnp.broadcast_to(s[:, None], (s.shape[0], self.image_shape[2])) if self.per_channel else s

    def _columns(self, x: Array) -> Array:
        return jnp.reshape(x, (-1, self.image_shape[2] if self.per_channel else 1))

    def _shape_out(self, columns: Array) -> Array:
        return columns if self.per_channel else columns[:, 0]


def compressed_sensing(
    key: Key, *, image_shape: Shape, ratio: float | None = None, samples: int | None = None, signs: bool = True
) -> Hadamard:
    """The subsampled randomized Hadamard transform.

    It multiplies the pixels by random signs, transforms them, and keeps random coefficients. Its rows are orthonormal, so
    A⁺ = Aᵀ.

    Args:
        key: for signs and coefficients.
        image_shape: (H, W, C). H and W must be powers of two.
        ratio: measurements for each pixel, in ]0, 1]. Give this or ``samples``.
        samples: number of measurements for each channel.
        signs: multiply the pixels by random signs. Without them, as in DDRM, the mean is a single coefficient.

    Raises:
        ValueError: if a side is not a power of two, or if nothing or too much would be measured.

    >>> compressed_sensing(jax.random.key(0), image_shape=(16, 16, 3), ratio=0.25).measurement_shape
    (64, 3)
    """
    check_key(key)
    shape, count = _check_hadamard(image_shape, ratio, samples)
    sign_key, place_key = jax.random.split(key)
    flips = jax.random.rademacher(sign_key, shape[:2], jnp.float32) if signs else jnp.ones(shape[:2], jnp.float32)
    places = jax.random.permutation(place_key, shape[0] * shape[1])[:count]
    return Hadamard(flips, places.astype(jnp.int32), image_shape=shape)


def single_pixel_camera(ratio: float | None = None, *, image_shape: Shape, samples: int | None = None) -> Hadamard:
    """Walsh-Hadamard patterns of ±1 from coarse to fine, as in a single-pixel camera.

    Patterns are sorted by their number of sign changes, along rows and columns together. They are scaled so that the rows
    of A are orthonormal.

    Args:
        ratio: patterns for each pixel, in ]0, 1]. Give this or ``samples``.
        image_shape: (H, W, C). H and W must be powers of two.
        samples: number of patterns for each channel.

    Raises:
        ValueError: as for :func:`compressed_sensing`.
    """
    shape, count = _check_hadamard(image_shape, ratio, samples)
    rows, columns = (_sign_changes(side) for side in shape[:2])
    order = np.argsort((rows[:, None] + columns[None, :]).ravel(), kind="stable")
    signs = jnp.ones(shape[:2], jnp.float32)
    return Hadamard(signs, jnp.asarray(order[:count], jnp.int32), image_shape=shape)


def gaussian_sensing(key: Key, *, image_shape: Shape, ratio: float | None = None, samples: int | None = None) -> Matrix:
    """Multiply each channel by a dense matrix of independent normal numbers with variance 1/m. This is for small images.

    Args:
        key: for the matrix.
        image_shape: (H, W, C).
        ratio: measurements for each pixel, in ]0, 1]. Give this or ``samples``.
        samples: number m of measurements for each channel.

    Raises:
        ValueError: if nothing or too much would be measured, or if the image is too large for a dense matrix.
    """
    check_key(key)
    shape = check_image_shape(image_shape)
    pixels = shape[0] * shape[1]
    count = _count(pixels, ratio, samples)
    _check_small(pixels)
    matrix = jax.random.normal(key, (count, pixels), jnp.float32) / math.sqrt(count)
    return from_matrix(matrix, image_shape=shape, per_channel=True)


def from_matrix(
    matrix: Array | np.ndarray, *, image_shape: Shape, per_channel: bool = False, rcond: float = RCOND
) -> Matrix:
    """Make an operator from any matrix. Its singular value decomposition gives all closed forms.

    Args:
        matrix: [m, H·W·C] for the image flattened in C order, or [m, H·W] with ``per_channel``.
        image_shape: (H, W, C).
        per_channel: apply the matrix to each channel.
        rcond: see :class:`Matrix`.

    Raises:
        ValueError: if the matrix does not fit the image, is zero, or is too large to decompose.
    """
    shape = check_image_shape(image_shape)
    pixels = shape[0] * shape[1] * (1 if per_channel else shape[2])
    m = leaf("matrix", matrix)
    if m.ndim != 2 or m.shape[1] != pixels:
        raise ValueError(f"matrix must be [m, {pixels}] for image_shape {shape}, got shape {m.shape}.")
    _check_small(max(m.shape))
    check_range("rcond", rcond, 0, 1)
    if concrete(m) and not np.asarray(m).any():
        raise ValueError("matrix is zero everywhere, so nothing would be measured.")
    factor = factorize(matrix if concrete(matrix) else m)
    return Matrix(factor, jnp.asarray(rcond, jnp.float32), per_channel, image_shape=shape)


def hadamard(x: Array) -> Array:
    """The orthonormal Walsh-Hadamard transform over the first two axes (powers of two); its own inverse."""
    for axis in (0, 1):
        x = jnp.moveaxis(_hadamard_axis(jnp.moveaxis(x, axis, -1)), -1, axis)
    return x


def _hadamard_axis(x: Array) -> Array:
    # A transform of 2^(a+b) points is one of 2^a times one of 2^b: products with matrices of at most 16x16.
    side = x.shape[-1]
    split = min(side, 16)
    blocks = jnp.reshape(x, (*x.shape[:-1], side // split, split))
    blocks = jnp.matmul(blocks, _hadamard_matrix(split, x.dtype), precision="highest")
    if side > split:
        blocks = jnp.swapaxes(_hadamard_axis(jnp.swapaxes(blocks, -1, -2)), -1, -2)
    return jnp.reshape(blocks, x.shape)


def _hadamard_matrix(side: int, dtype: jnp.dtype) -> Array:
    matrix = np.ones((1, 1))
    while matrix.shape[0] < side:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / math.sqrt(2)
    return jnp.asarray(matrix, dtype)


def _sign_changes(side: int) -> np.ndarray:
    """How often each row of the Hadamard matrix in natural order changes its sign."""
    matrix = np.ones((1, 1), int)
    while matrix.shape[0] < side:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.count_nonzero(np.diff(matrix, axis=1), axis=1)


def _check_hadamard(image_shape: Shape, ratio: float | None, samples: int | None) -> tuple[Shape, int]:
    shape = check_image_shape(image_shape)
    if any(side & (side - 1) for side in shape[:2]):
        raise ValueError(
            f"a Hadamard transform needs sides that are powers of two, but the image is {shape[0]}x{shape[1]}; "
            "pad it first (operators.pad)."
        )
    return shape, _count(shape[0] * shape[1], ratio, samples)


def _count(pixels: int, ratio: float | None, samples: int | None) -> int:
    if (ratio is None) == (samples is None):
        raise ValueError("give either ratio or samples, the number of measurements a channel.")
    count: Any = samples
    if ratio is not None:
        check_range("ratio", ratio, 0, 1, open_low=True)
        count = round(pixels * ratio)
    if not isinstance(count, int | np.integer) or not 1 <= count <= pixels:
        raise ValueError(f"between 1 and {pixels} measurements a channel are possible, not {count}.")
    return int(count)


def _check_small(pixels: int) -> None:
    if pixels > LARGEST_MATRIX:
        raise ValueError(
            f"a dense matrix of side {pixels} is too large to decompose (at most {LARGEST_MATRIX}); "
            "use compressed_sensing or from_linear_function."
        )


def _product(matrix: Array, columns: Array) -> Array:
    return jnp.matmul(matrix.astype(columns.dtype), columns, precision="highest")
