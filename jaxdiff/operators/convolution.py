"""Blurs: cross-correlation of each channel with one kernel. The image is padded by reflection, periodically, or with zeros.

All blurs use FFTs, whose cost hardly depends on the size of the kernel. On a CPU, applying a 61x61 kernel directly is a
hundred times slower. Gaussian blurs are separable, and have all closed forms with any padding.
"""

from functools import partial
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, check_range, check_size, concrete, leaf
from jaxdiff.linalg import divide_or_zero
from jaxdiff.numerics import expand
from jaxdiff.operators.base import LinearOperator, SpectralOperator
from jaxdiff.operators.kernels import crop_border, disc_kernel, gaussian_kernel, gaussian_taps, motion_kernel
from jaxdiff.operators.separable import RCOND, separable
from jaxdiff.typing import Array, Image, Key, Measurement, Shape

__all__ = ["Blur", "CircularBlur", "Padding", "blur", "defocus_blur", "gaussian_blur", "motion_blur"]

Padding = Literal["reflect", "circular", "zero"]


@struct.dataclass(eq=False)
class Blur(LinearOperator):
    """y = k ⋆ x, with the image continued by reflection (without repeating the edge) or by zeros.

    Attributes:
        kernel: k [h, w], both odd. It is not flipped: this is a cross-correlation, like torch's conv2d.
        padding: "reflect" or "zero".
    """

    half: ClassVar[bool] = False

    kernel: Array
    padding: str = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: k ⋆ x."""
        padded = pad(jnp.moveaxis(x, -1, 0), self.kernel.shape, self.padding)
        sides = fast_sides(padded.shape[1:])
        product = jnp.fft.rfft2(padded, s=sides) * jnp.conj(self._spectrum(sides, x.dtype))
        height, width = x.shape[:2]
        return jnp.moveaxis(jnp.fft.irfft2(product, s=sides)[:, :height, :width], 0, -1)

    def adjoint(self, y: Measurement) -> Image:
        """Spread each value by k. Values outside the image go back to the pixels that the padding copied."""
        channels, (height, width) = y.shape[-1], y.shape[:2]
        fold_in = partial(pad, kernel_shape=self.kernel.shape, padding=self.padding)
        image = jax.ShapeDtypeStruct((channels, height, width), y.dtype)
        rows, columns = jax.eval_shape(fold_in, image).shape[1:]
        sides = fast_sides((rows, columns))
        product = jnp.fft.rfft2(jnp.moveaxis(y, -1, 0), s=sides) * self._spectrum(sides, y.dtype)
        (x,) = jax.linear_transpose(fold_in, image)(jnp.fft.irfft2(product, s=sides)[:, :rows, :columns])
        return jnp.moveaxis(x, 0, -1)

    def _spectrum(self, sides: tuple[int, int], dtype: jnp.dtype) -> Array:
        return jnp.fft.rfft2(self.kernel.astype(dtype), s=sides)[None]


@struct.dataclass(eq=False)
class CircularBlur(SpectralOperator):
    """y = k ⋆ x, with the image continued periodically. This operator is diagonal in the Fourier basis.

    The spectral form uses Hartley's basis, cos + sin of each frequency, because it is real and orthogonal.

    Attributes:
        kernel: k [h, w], both odd, of any size. A kernel that is larger than the image wraps around.
        rcond: singular values up to ``rcond`` times the largest count as zero in ``pinv`` and the spectral form.
    """

    half: ClassVar[bool] = False

    kernel: Array
    rcond: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: F⁻¹ (ĥ · F x)."""
        return self._filter(x, self._transfer(x.dtype))

    def adjoint(self, y: Measurement) -> Image:
        """F⁻¹ (conj ĥ · F y)."""
        return self._filter(y, jnp.conj(self._transfer(y.dtype)))

    def to_spectral(self, x: Image) -> Array:
        """The Hartley transform of each channel."""
        return hartley(x)

    def from_spectral(self, z: Array) -> Image:
        """The Hartley transform, its own inverse."""
        return hartley(z)

    @property
    def singular_values(self) -> Array:
        """|ĥ| at each frequency. Values up to ``rcond`` times the largest become zero."""
        s = self._kept(jnp.abs(jnp.fft.fft2(self.wrapped_kernel(self.kernel.dtype))))
        return jnp.broadcast_to(s[..., None], self.image_shape)

    def measurement_to_spectral(self, y: Measurement) -> Array:
        """Uᵀ y: undo the phase of ĥ, then V's basis."""
        h = self._transfer(y.dtype)
        s = self._kept(jnp.abs(h))
        return hartley(self._filter(y, jnp.conj(h) * _reciprocal(s).astype(h.dtype)))

    def pinv(self, y: Measurement) -> Image:
        """F⁻¹ (ĥ⁺ · F y)."""
        h = self._transfer(y.dtype)
        s = self._kept(jnp.abs(h))
        return self._filter(y, jnp.conj(h) * jnp.square(_reciprocal(s)).astype(h.dtype))

    def solve(self, rho: float | Array, b: Image) -> Image:
        """F⁻¹ (F b / (|ĥ|² + ρ)), with all singular values."""
        power = jnp.square(jnp.abs(self._transfer(b.dtype)))
        return self._filter(b, 1 / (power + expand(jnp.asarray(rho, b.dtype), power)))

    def ridge(self, rho: float | Array, y: Measurement) -> Image:
        """F⁻¹ (conj ĥ · F y / (|ĥ|² + ρ)), with all singular values."""
        h = self._transfer(y.dtype)
        power = jnp.square(jnp.abs(h))
        return self._filter(y, jnp.conj(h) / (power + expand(jnp.asarray(rho, y.dtype), power)).astype(h.dtype))

    def _kept(self, s: Array) -> Array:
        # The cutoff must not depend on the caller's dtype, so the largest value is found at the kernel's own precision.
        largest = jnp.max(jnp.abs(jnp.fft.rfft2(self.wrapped_kernel(s.dtype))))
        return jnp.where(s > expand(self.rcond.astype(s.dtype) * largest, s), s, jnp.zeros_like(s))

    def wrapped_kernel(self, dtype: jnp.dtype | type) -> Array:
        """The kernel on the image's periodic grid [H, W], its centre at (0, 0)."""
        height, width = self.image_shape[:2]
        return wrap(self.kernel.astype(dtype), (height, width))

    def _transfer(self, dtype: jnp.dtype) -> Array:
        return jnp.conj(jnp.fft.rfft2(self.wrapped_kernel(dtype)))

    def _filter(self, x: Array, response: Array) -> Array:
        spectrum = jnp.fft.rfft2(jnp.moveaxis(x, -1, 0))
        return jnp.moveaxis(jnp.fft.irfft2(spectrum * response.astype(spectrum.dtype)[None], s=x.shape[:2]), 0, -1)


def blur(
    kernel: Array | np.ndarray, *, image_shape: Shape, padding: Padding = "reflect", rcond: float = RCOND
) -> LinearOperator:
    """Any blur, y = k ⋆ x. This is a cross-correlation of each channel with the same kernel, which is not normalised.

    Args:
        kernel: k [h, w], both odd.
        image_shape: (H, W, C).
        padding: "reflect" as in DPS, "circular" (closed forms by FFT) or "zero".
        rcond: for the closed forms, see :class:`CircularBlur`.

    Raises:
        ValueError: if the kernel is even, empty or too large to reflect, or if the padding is unknown.
    """
    shape = check_image_shape(image_shape)
    check_padding(padding)
    check_range("rcond", rcond, 0, 1)
    k = leaf("kernel", kernel)
    if k.ndim != 2:
        raise ValueError(f"a kernel must have two axes [h, w], got shape {k.shape}.")
    check_size("the kernel's size", k.shape, odd=True)
    if concrete(k) and not np.asarray(k).any():
        raise ValueError("the kernel is zero everywhere; it must hold at least one weight.")
    if padding == "circular":
        return CircularBlur(k, jnp.asarray(rcond, jnp.float32), image_shape=shape)
    if padding == "reflect" and _reach_too_far(k.shape, shape):
        # Zeros around the kernel do nothing. Cut them only if the kernel is too large: another size compiles anew.
        k = jnp.asarray(crop_border(np.asarray(k))) if concrete(k) else k
        check_reach(k.shape, shape)
    return Blur(k, padding, image_shape=shape)


def gaussian_blur(
    std: float | tuple[float, float] = 3.0,
    *,
    image_shape: Shape,
    size: int | tuple[int, int] = 61,
    angle: float = 0.0,
    padding: Padding = "reflect",
    rcond: float = RCOND,
) -> LinearOperator:
    """Gaussian blur. The defaults are those of DPS and DAPS: 61x61 pixels, standard deviation 3, reflection.

    The kernel is the one of scipy's gaussian_filter, cut at four standard deviations. If it is not rotated, the operator is
    separable, and has all closed forms with any padding.

    Args:
        std: standard deviation along rows and columns, pixels.
        image_shape: (H, W, C).
        size: size of the kernel, odd, pixels.
        angle: rotation of an anisotropic Gaussian, degrees.
        padding: "reflect", "circular" or "zero".
        rcond: for the closed forms, see :class:`jaxdiff.operators.Separable`.

    Raises:
        ValueError: as for :func:`blur`, and if the standard deviation is not positive.

    Reference:
        Chung et al., "Diffusion Posterior Sampling for General Noisy Inverse Problems", ICLR 2023, section 4.
    """
    shape = check_image_shape(image_shape)
    check_padding(padding)
    kernel = gaussian_kernel(size, std, angle)
    down, across = (float(s) for s in np.broadcast_to(np.asarray(std, np.float64), (2,)))
    if padding == "circular" or (angle != 0 and down != across):
        return blur(image_shape=shape, kernel=kernel, padding=padding, rcond=rcond)
    check_reach(crop_border(kernel).shape, shape, padding)
    rows = band_matrix(gaussian_taps(kernel.shape[0], down), shape[0], padding)
    columns = band_matrix(gaussian_taps(kernel.shape[1], across), shape[1], padding)
    return separable(image_shape=shape, rows=rows, columns=columns, rcond=rcond)


def motion_blur(
    key: Key,
    *,
    image_shape: Shape,
    size: int = 61,
    intensity: float | Array = 0.5,
    padding: Padding = "reflect",
    rcond: float = RCOND,
) -> LinearOperator:
    """Blur by a random camera shake, see :func:`jaxdiff.operators.motion_kernel`.

    Args:
        key: for the trajectory.
        image_shape: (H, W, C).
        size: size of the kernel, odd, pixels.
        intensity: from 0 (a straight line) to 1 (a scribble).
        padding: "reflect", "circular" or "zero".
        rcond: for the closed forms, see :class:`CircularBlur`.

    Raises:
        ValueError: as for :func:`blur`, and if the intensity is not in [0, 1].
    """
    shape = check_image_shape(image_shape)
    check_padding(padding)
    if padding == "reflect":
        check_reach(check_size("size", size, odd=True), shape)
    kernel = motion_kernel(key, size=size, intensity=intensity)
    return blur(image_shape=shape, kernel=kernel, padding=padding, rcond=rcond)


def defocus_blur(
    radius: float, *, image_shape: Shape, size: int | None = None, padding: Padding = "reflect", rcond: float = RCOND
) -> LinearOperator:
    """Blur by a disc, like a lens out of focus.

    Args:
        radius: radius of the disc, pixels.
        image_shape: (H, W, C).
        size: size of the kernel, odd, pixels. By default it is the smallest that contains the disc.
        padding: "reflect", "circular" or "zero".
        rcond: for the closed forms, see :class:`CircularBlur`.

    Raises:
        ValueError: as for :func:`blur`, and if the radius is not positive or does not fit the size.
    """
    check_range("radius", radius, 0, open_low=True)
    side = 2 * max(0, int(np.ceil(radius - 0.5))) + 1 if size is None else size
    return blur(image_shape=image_shape, kernel=disc_kernel(side, radius), padding=padding, rcond=rcond)


def check_padding(padding: str) -> None:
    """Refuse a padding that is none of the three."""
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}.")


def check_reach(kernel_shape: Shape, image_shape: Shape, padding: str = "reflect") -> None:
    """Refuse a kernel that reaches further than the image can be reflected without its edge."""
    if padding == "reflect" and _reach_too_far(kernel_shape, image_shape):
        height, width = image_shape[:2]
        raise ValueError(
            f"a {kernel_shape[0]}x{kernel_shape[1]} kernel reaches further than a {height}x{width} image can be "
            f"reflected; use a kernel of at most {2 * height - 1}x{2 * width - 1} or padding='circular'."
        )


def _reach_too_far(kernel_shape: Shape, image_shape: Shape) -> bool:
    return any(k // 2 > n - 1 for k, n in zip(kernel_shape, image_shape, strict=False))


def band_matrix(taps: np.ndarray, n: int, padding: str) -> np.ndarray:
    """The matrix [n, n] of the one-dimensional correlation with ``taps`` under a padding."""
    reach = np.nonzero(taps)[0]
    radius = len(taps) // 2
    matrix = np.zeros((n, n))
    for tap in range(reach[0], reach[-1] + 1):
        source = np.arange(n) + tap - radius
        inside = (source >= 0) & (source < n) if padding == "zero" else np.ones(n, bool)
        if padding == "circular":
            source = source % n
        elif padding == "reflect":
            source = np.abs(source)
            source = np.where(source > n - 1, 2 * (n - 1) - source, source)
        np.add.at(matrix, (np.arange(n)[inside], source[inside]), taps[tap])
    return matrix


def pad(x: Array, kernel_shape: Shape, padding: str) -> Array:
    """Continue planes [C, H, W] by half a kernel on every side."""
    rows, columns = kernel_shape[0] // 2, kernel_shape[1] // 2
    width = ((0, 0), (rows, rows), (columns, columns))
    return jnp.pad(x, width, mode="reflect") if padding == "reflect" else jnp.pad(x, width)


def fast_sides(shape: Shape) -> tuple[int, int]:
    """The next larger sizes at which an FFT is fast."""
    from scipy.fft import next_fast_len  # half a second, which other operators need not wait for

    return next_fast_len(shape[0], real=True), next_fast_len(shape[1], real=True)


def wrap(kernel: Array, shape: tuple[int, int]) -> Array:
    """A kernel on a periodic grid [H, W], its centre at (0, 0)."""
    (height, width), (h, w) = kernel.shape, shape
    rows = (jnp.arange(height) - height // 2) % h
    columns = (jnp.arange(width) - width // 2) % w
    return jnp.zeros(shape, kernel.dtype).at[rows[:, None], columns[None, :]].add(kernel)


def hartley(x: Array) -> Array:
    """The orthonormal Hartley transform over the first two axes, Re F x − Im F x; its own inverse."""
    spectrum = jnp.fft.fft2(x, axes=(0, 1), norm="ortho")
    return jnp.real(spectrum) - jnp.imag(spectrum)


def _reciprocal(s: Array) -> Array:
    return divide_or_zero(jnp.ones_like(s), s)
