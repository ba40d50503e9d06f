"""Lower resolution: block averages, antialiased bicubic resizing, every n-th pixel, or a blur before every n-th pixel."""

from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_divides, check_factor, check_image_shape, check_range, check_size
from jaxdiff.linalg import divide_or_zero
from jaxdiff.numerics import expand
from jaxdiff.operators.base import LinearOperator, PixelOperator, SpectralOperator
from jaxdiff.operators.convolution import CircularBlur, Padding, blur
from jaxdiff.operators.separable import RCOND, Separable, separable
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = [
    "BlockAverage",
    "BlurDownsample",
    "Subsample",
    "block_average",
    "blur_downsample",
    "nearest_downsample",
    "resize",
    "resize_matrix",
    "super_resolution",
]


@struct.dataclass(eq=False)
class BlockAverage(SpectralOperator):
    """y = the mean of each f x f block.

    The spectral form is an array [H/f, W/f, f², C]. A Householder reflection of each block's f² pixels maps the constant
    block to the first coordinate.
    """

    factor: int = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: block means."""
        return jnp.mean(self._blocks(x), axis=2)

    def adjoint(self, y: Measurement) -> Image:
        """Each value divided by f², and repeated over its block."""
        spread = jnp.repeat(jnp.repeat(y, self.factor, axis=0), self.factor, axis=1)
        return spread / self.factor**2

    def pinv(self, y: Measurement) -> Image:
        """Each value repeated over its block."""
        return self.adjoint(y) * self.factor**2

    def solve(self, rho: float | Array, b: Image) -> Image:
        """(Aᵀ A + ρ I)⁻¹ b: the means of the blocks and the rest have different factors."""
        scale = jnp.asarray(rho, b.dtype)
        mean = self.pinv(self(b))
        return (b - mean) / scale + mean / (scale + self.factor**-2)

    def to_spectral(self, x: Image) -> Array:
        """Vᵀ x: each block, reflected."""
        return self._reflect(self._blocks(x))

    def from_spectral(self, z: Array) -> Image:
        """V z: the same reflection, then the blocks in their places."""
        h, w, _, channels = z.shape
        blocks = jnp.reshape(self._reflect(z), (h, w, self.factor, self.factor, channels))
        return jnp.reshape(jnp.transpose(blocks, (0, 2, 1, 3, 4)), self.image_shape)

    def measurement_to_spectral(self, y: Measurement) -> Array:
        """Uᵀ y: each value at the first coordinate of its block."""
        return jnp.pad(y[:, :, None, :], ((0, 0), (0, 0), (0, self.factor**2 - 1), (0, 0)))

    @property
    def singular_values(self) -> Array:
        """1/f for the means of the blocks, and 0 for the rest."""
        height, width, channels = self.image_shape
        first = jnp.arange(self.factor**2) == 0
        shape = (height // self.factor, width // self.factor, self.factor**2, channels)
        return jnp.broadcast_to((first.astype(jnp.float32) / self.factor)[None, None, :, None], shape)

    def _blocks(self, x: Image) -> Array:
        height, width, channels = x.shape
        f = self.factor
        blocks = jnp.reshape(x, (height // f, f, width // f, f, channels))
        return jnp.reshape(jnp.transpose(blocks, (0, 2, 1, 3, 4)), (height // f, width // f, f * f, channels))

    def _reflect(self, z: Array) -> Array:
        # I − 2 n nᵀ with n along (1, …, 1)/f − e₁ exchanges the constant block and e₁. One pixel needs no turn.
        f = self.factor
        if f == 1:
            return z
        normal = np.full(f * f, 1 / f)
        normal[0] -= 1
        normal /= np.linalg.norm(normal)
        n = jnp.asarray(normal, z.dtype)[None, None, :, None]
        return z - 2 * n * jnp.sum(n * z, axis=2, keepdims=True)


@struct.dataclass(eq=False)
class Subsample(PixelOperator):
    """y = every f-th pixel of every f-th row, beginning with ``offset``."""

    factor: int = struct.field(pytree_node=False)
    offset: int = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: the pixels of the lattice."""
        return x[self.offset :: self.factor, self.offset :: self.factor]

    def adjoint(self, y: Measurement) -> Image:
        """The values on their lattice, with zeros between them."""
        after = self.factor - 1 - self.offset
        gaps = (self.offset, after, self.factor - 1)
        return jax.lax.pad(y, jnp.zeros((), y.dtype), (gaps, gaps, (0, 0, 0)))

    def initial(self, y: Measurement) -> Image:
        """Each value repeated over its block."""
        return jnp.repeat(jnp.repeat(y, self.factor, axis=0), self.factor, axis=1)


@struct.dataclass(eq=False)
class BlurDownsample(LinearOperator):
    """y = every f-th pixel of a blurred image.

    With a circular blur, ``pinv`` and ``solve`` have closed forms. Then A Aᵀ is diagonal in the Fourier basis of the small
    image. Each of its entries is a mean over the f² frequencies that alias onto one.

    Attributes:
        blur: the blur, with its kernel.
        lattice: which pixels are kept.

    Reference:
        Zhao et al., "Fast Single Image Super-Resolution Using a New Analytical Solution for l2-l2 Problems", IEEE TIP
        2016. DPIR and DiffPIR use it, too.
    """

    half: ClassVar[bool] = False

    blur: LinearOperator
    lattice: Subsample

    @property
    def closed_pinv(self) -> bool:  # type: ignore[override]
        """True for a circular blur."""
        return isinstance(self.blur, CircularBlur)

    @property
    def closed_solve(self) -> bool:  # type: ignore[override]
        """True for a circular blur."""
        return isinstance(self.blur, CircularBlur)

    @property
    def rcond(self) -> Array:
        """Singular values up to ``rcond`` times the largest count as zero in ``pinv``, if it is a closed form."""
        return self.blur.rcond if isinstance(self.blur, CircularBlur) else jnp.zeros((), jnp.float32)

    def apply(self, x: Image) -> Measurement:
        """Measure: blur, then keep the lattice."""
        return self.lattice(self.blur(x))

    def adjoint(self, y: Measurement) -> Image:
        """Put the values on their lattice, then apply the blur's adjoint."""
        return self.blur.adjoint(self.lattice.adjoint(y))

    def pinv(self, y: Measurement) -> Image:
        """Aᵀ (A Aᵀ)⁺ y."""
        if not isinstance(self.blur, CircularBlur):
            return super().pinv(y)
        power = self._aliased_power(self.blur, y.dtype)
        kept = power > expand(jnp.square(self.rcond.astype(y.dtype)) * jnp.max(power), power)
        return self.adjoint(
            _filter(y, divide_or_zero(jnp.ones_like(power), jnp.where(kept, power, jnp.zeros_like(power))))
        )

    def solve(self, rho: float | Array, b: Image) -> Image:
        """(b − Aᵀ (A Aᵀ + ρ I)⁻¹ A b) / ρ."""
        if not isinstance(self.blur, CircularBlur):
            return super().solve(rho, b)
        shift = jnp.asarray(rho, b.dtype)
        power = self._aliased_power(self.blur, b.dtype)
        return (b - self.adjoint(_filter(self(b), 1 / (power + expand(shift, power))))) / shift

    def ridge(self, rho: float | Array, y: Measurement) -> Image:
        """Aᵀ (A Aᵀ + ρ I)⁻¹ y."""
        if not isinstance(self.blur, CircularBlur):
            return super().ridge(rho, y)
        power = self._aliased_power(self.blur, y.dtype)
        return self.adjoint(_filter(y, 1 / (power + expand(jnp.asarray(rho, y.dtype), power))))

    def initial(self, y: Measurement) -> Image:
        """Each value repeated over its block."""
        return self.lattice.initial(y)

    def _aliased_power(self, blur: CircularBlur, dtype: jnp.dtype) -> Array:
        height, width = self.image_shape[:2]
        f = self.lattice.factor
        power = jnp.square(jnp.abs(jnp.fft.fft2(blur.wrapped_kernel(dtype))))
        return jnp.mean(jnp.reshape(power, (f, height // f, f, width // f)), axis=(0, 2))


Method = Literal["bicubic", "bilinear", "lanczos3", "box"]


def block_average(factor: int, *, image_shape: Shape) -> BlockAverage:
    """The mean of each factor x factor block. DDRM and DDNM measure super-resolution in this way.

    Raises:
        ValueError: if the factor does not divide both sides.

    >>> block_average(image_shape=(8, 8, 3), factor=4).measurement_shape
    (2, 2, 3)
    """
    shape = check_image_shape(image_shape)
    return BlockAverage(check_divides(factor, shape), image_shape=shape)


def super_resolution(factor: int = 4, *, image_shape: Shape, rcond: float = RCOND) -> Separable:
    """Antialiased bicubic reduction to [⌈H/f⌉, ⌈W/f⌉, C]. DPS and DAPS use this operator, their ``Resizer``.

    It is separable, and has all closed forms. Its adjoint is the exact transpose. In DPS and DAPS, ``transpose`` is nearest
    upsampling instead.

    Args:
        factor: f, by which both sides shrink. If it does not divide a side, the samples are centred on this side.
        image_shape: (H, W, C).
        rcond: see :class:`jaxdiff.operators.Separable`.

    Raises:
        ValueError: if the factor is not a whole number from 1 to the shorter side.

    >>> super_resolution(image_shape=(64, 64, 3), factor=4).measurement_shape
    (16, 16, 3)
    """
    shape = check_image_shape(image_shape)
    factor = check_factor(factor)
    if factor > min(shape[:2]):
        raise ValueError(f"factor {factor} is larger than a side of a {shape[0]}x{shape[1]} image; use a smaller one.")
    rows, columns = (resize_matrix(side, -(-side // factor), step=factor) for side in shape[:2])
    return separable(image_shape=shape, rows=rows, columns=columns, rcond=rcond)


def resize(
    size: int | tuple[int, int],
    *,
    image_shape: Shape,
    method: Method = "bicubic",
    antialias: bool = True,
    rcond: float = RCOND,
) -> Separable:
    """Resize to any size, larger or smaller.

    Args:
        size: the new side, or (height, width).
        image_shape: (H, W, C).
        method: "bicubic" (Keys, a = -1/2), "bilinear", "lanczos3" or "box".
        antialias: widen the interpolation kernel if the image shrinks.
        rcond: see :class:`jaxdiff.operators.Separable`.

    Raises:
        ValueError: if the method is unknown.
    """
    shape = check_image_shape(image_shape)
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}.")
    height, width = check_size("size", size)
    rows = resize_matrix(shape[0], height, method=method, antialias=antialias)
    columns = resize_matrix(shape[1], width, method=method, antialias=antialias)
    return separable(image_shape=shape, rows=rows, columns=columns, rcond=rcond)


def nearest_downsample(factor: int, *, image_shape: Shape, offset: int = 0) -> Subsample:
    """Keep every factor-th pixel of every factor-th row, without a filter.

    Args:
        factor: factor by which both sides shrink.
        image_shape: (H, W, C).
        offset: row and column of the first pixel that is kept.

    Raises:
        ValueError: if the factor does not divide both sides, or the offset is not smaller than the factor.
    """
    shape = check_image_shape(image_shape)
    factor = check_divides(factor, shape)
    if not isinstance(offset, int | np.integer) or not 0 <= offset < factor:
        raise ValueError(f"offset must be in 0 … {factor - 1} for factor {factor}, got {offset}.")
    return Subsample(factor, offset, image_shape=shape)


def blur_downsample(
    kernel: Array | np.ndarray,
    *,
    image_shape: Shape,
    factor: int,
    offset: int = 0,
    padding: Padding = "circular",
    rcond: float = RCOND,
) -> BlurDownsample:
    """Blur, and keep every factor-th pixel. With "circular", this is the model of DPIR and DiffPIR.

    Args:
        kernel: [h, w], both odd.
        image_shape: (H, W, C).
        factor: factor by which both sides shrink.
        offset: row and column of the first pixel that is kept.
        padding: "circular" (closed forms), "reflect" or "zero".
        rcond: see :class:`jaxdiff.operators.CircularBlur`.

    Raises:
        ValueError: as for :func:`jaxdiff.operators.blur` and :func:`nearest_downsample`.
    """
    shape = check_image_shape(image_shape)
    check_range("rcond", rcond, 0, 1)
    lattice = nearest_downsample(image_shape=shape, factor=factor, offset=offset)
    return BlurDownsample(
        blur(image_shape=shape, kernel=kernel, padding=padding, rcond=rcond), lattice, image_shape=shape
    )


def resize_matrix(
    n: int, m: int, *, method: Method = "bicubic", antialias: bool = True, step: float | None = None
) -> np.ndarray:
    """The matrix [m, n] of a one-dimensional resize, float64.

    Row i holds the kernel, widened by n/m where the signal shrinks, sampled around (i + ½) n/m − ½ and normalised.
    Weights beyond an end are mirrored back about the edge of its last sample. With ``step``, the m samples lie that far
    apart instead of n/m, centred on the middle of the signal.
    """
    kernel, support = _INTERPOLATION[method]
    place = np.arange(m) + 0.5
    centre = (place * n / m if step is None else place * step - (m * step - n) / 2) - 0.5
    scale = min(m / n if step is None else 1 / step, 1.0) if antialias else 1.0
    reach = int(np.ceil(support / scale)) + 1
    source = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 1)[None, :]
    weights = kernel(scale * (centre[:, None] - source))
    weights /= weights.sum(axis=1, keepdims=True)
    phase = source % (2 * n)
    matrix = np.zeros((m, n))
    np.add.at(matrix, (np.arange(m)[:, None], np.where(phase < n, phase, 2 * n - 1 - phase)), weights)
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


ROUNDING = 1e-9
"""Places that differ by less are equal."""
_INTERPOLATION = {
    "bicubic": (_cubic, 2),
    "bilinear": (lambda x: np.maximum(0, 1 - np.abs(x)), 1),
    "lanczos3": (lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0), 3),
    # Half open, so that a sample on a border between two boxes counts once, also if its place is rounded.
    "box": (lambda x: ((x >= -0.5 - ROUNDING) & (x < 0.5 - ROUNDING)).astype(float), 0.5),
}


def _filter(y: Array, response: Array) -> Array:
    """Multiply the full Fourier transform of each channel [h, w, C] by a real, even response [h, w]."""
    spectrum = jnp.fft.fft2(y, axes=(0, 1))
    return jnp.real(jnp.fft.ifft2(spectrum * response.astype(spectrum.dtype)[..., None], axes=(0, 1)))
