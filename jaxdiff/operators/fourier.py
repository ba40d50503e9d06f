"""Magnetic resonance: samples of the centred, orthonormal Fourier transform, measured by one coil or several.

Measurements are real arrays. Their last axis has the real and the imaginary part, and each part gets noise of standard
deviation σ. With ``complex_image``, the image's two channels are the real and the imaginary part. Without it, each channel
is a separate real image.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, concrete, leaf
from jaxdiff.numerics import safe_sqrt
from jaxdiff.operators import pictures
from jaxdiff.operators.base import LinearOperator, SpectralOperator
from jaxdiff.operators.convolution import hartley
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["MRI", "MultiCoilMRI", "mri", "multicoil_mri"]


@struct.dataclass(eq=False)
class MRI(SpectralOperator):
    """y [H, W, C, 2] = m ⊙ F x, where F is centred and orthonormal.

    For a complex image, the singular values are m_k in Fourier's basis. Opposite frequencies of a real image are conjugates.
    So for a real image they are √((m_k + m_−k)/2) in Hartley's basis.

    Attributes:
        mask: m [H, W] in {0, 1}, with the zero frequency at (H//2, W//2).
        complex_image: whether the image's two channels are the real and the imaginary part. Then C is 1 in y.
    """

    half: ClassVar[bool] = False

    mask: Array
    complex_image: bool = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: the kept frequencies, and 0 at the others."""
        return self._masked(to_parts(fourier(to_complex(x, self.complex_image))))

    def adjoint(self, y: Measurement) -> Image:
        """F⁻¹ of the kept frequencies, the zero-filled image. For real images, this is the real part."""
        return from_complex(inverse_fourier(from_parts(self._masked(y))), self.complex_image)

    def to_spectral(self, x: Image) -> Array:
        """The Hartley transform of each channel, or the Fourier transform in two parts."""
        if not self.complex_image:
            return hartley(x)
        return to_parts(fourier(to_complex(x, True)))[:, :, 0]

    def from_spectral(self, z: Array) -> Image:
        """The inverse transform."""
        if not self.complex_image:
            return hartley(z)
        return from_complex(inverse_fourier(from_parts(z[:, :, None])), True)

    @property
    def singular_values(self) -> Array:
        """The weight of each frequency. It is 0 for a frequency that is not sampled."""
        if self.complex_image:
            return jnp.broadcast_to(self.mask[..., None], self.image_shape)
        # Hartley's zero frequency is at (0, 0); index −k of a periodic grid is a flip and a roll by one.
        m = jnp.fft.ifftshift(self.mask)
        opposite = jnp.roll(jnp.flip(m), (1, 1), (0, 1))
        return jnp.broadcast_to(safe_sqrt((jnp.square(m) + jnp.square(opposite)) / 2)[..., None], self.image_shape)

    def keep_observed(self, y: Measurement) -> Measurement:
        """The measurement at the kept frequencies, 0 elsewhere."""
        return jnp.where(jnp.broadcast_to(self.mask[:, :, None, None] > 0, y.shape), y, jnp.zeros_like(y))

    def view(self, y: Measurement) -> Array:
        """The logarithm of the magnitude in k-space, beside the zero-filled image."""
        return k_space_picture(magnitude(y), self.adjoint(y), self.complex_image)

    def _masked(self, y: Array) -> Array:
        return self.mask.astype(y.dtype)[:, :, None, None] * y


@struct.dataclass(eq=False)
class MultiCoilMRI(LinearOperator):
    """y [coils, H, W, C, 2] = m ⊙ F (s_c ⊙ x).

    Attributes:
        mask: m [H, W] in {0, 1}.
        sensitivities: s [coils, H, W, 2], the real and the imaginary part.
        complex_image: as in :class:`MRI`.
    """

    half: ClassVar[bool] = False

    mask: Array
    sensitivities: Array
    complex_image: bool = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: the kept frequencies of the picture that each coil sees."""
        coils = self._coils(x.dtype) * to_complex(x, self.complex_image)[None]
        return self._masked(to_parts(fourier(coils)))

    def adjoint(self, y: Measurement) -> Image:
        """Σ_c conj(s_c) ⊙ F⁻¹ (m ⊙ y_c), the sum over coils."""
        coils = inverse_fourier(from_parts(self._masked(y)))
        return from_complex(jnp.sum(jnp.conj(self._coils(y.dtype)) * coils, axis=0), self.complex_image)

    def keep_observed(self, y: Measurement) -> Measurement:
        """The measurement at the kept frequencies, 0 elsewhere."""
        return jnp.where(jnp.broadcast_to(self.mask[None, :, :, None, None] > 0, y.shape), y, jnp.zeros_like(y))

    def view(self, y: Measurement) -> Array:
        """The logarithm of √(Σ_c |y_c|²) in k-space, beside the zero-filled image."""
        combined = jnp.sqrt(jnp.sum(jnp.square(magnitude(y)), axis=0))
        return k_space_picture(combined, self.adjoint(y), self.complex_image)

    def _coils(self, dtype: jnp.dtype) -> Array:
        return from_parts(self.sensitivities.astype(dtype))[..., None]

    def _masked(self, y: Array) -> Array:
        return self.mask.astype(y.dtype)[None, :, :, None, None] * y


def mri(mask: Array | np.ndarray, *, image_shape: Shape, complex_image: bool = False) -> MRI:
    """Single-coil magnetic resonance on a Cartesian grid, y = m ⊙ F x.

    Args:
        mask: [H, W], 1 at the frequencies that are sampled, with the zero frequency at (H//2, W//2). See
            :func:`jaxdiff.operators.cartesian_mask`, ``equispaced_mask``, ``radial_mask`` and ``spiral_mask``.
        image_shape: (H, W, C).
        complex_image: the image's two channels are the real and the imaginary part.

    Raises:
        ValueError: if the mask does not fit the image, has values other than 0 and 1, or keeps nothing.
    """
    shape, m = _check(image_shape, mask, complex_image)
    return MRI(m, complex_image, image_shape=shape)


def multicoil_mri(
    mask: Array | np.ndarray, *, image_shape: Shape, sensitivities: Array | np.ndarray, complex_image: bool = False
) -> MultiCoilMRI:
    """Magnetic resonance with several receive coils, y_c = m ⊙ F (s_c ⊙ x).

    Args:
        mask: as for :func:`mri`.
        image_shape: (H, W, C).
        sensitivities: [coils, H, W] complex, or [coils, H, W, 2] real. See
            :func:`jaxdiff.operators.coil_sensitivities`.
        complex_image: the image's two channels are the real and the imaginary part.

    Raises:
        ValueError: as for :func:`mri`, and if the sensitivities do not fit the image.
    """
    shape, m = _check(image_shape, mask, complex_image)
    s = jnp.asarray(sensitivities)
    if jnp.iscomplexobj(s):
        s = to_parts(s)
    if s.ndim != 4 or s.shape[1:] != (*shape[:2], 2):
        raise ValueError(
            f"sensitivities must be [coils, {shape[0]}, {shape[1]}], complex or with real and imaginary part last, "
            f"got shape {jnp.shape(sensitivities)}."
        )
    return MultiCoilMRI(m, leaf("sensitivities", s), complex_image, image_shape=shape)


def fourier(x: Array) -> Array:
    """The centred, orthonormal Fourier transform over the axes -3 and -2 (rows and columns)."""
    axes = (-3, -2)
    return jnp.fft.fftshift(jnp.fft.fft2(jnp.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)


def inverse_fourier(y: Array) -> Array:
    """The inverse, and adjoint, of :func:`fourier`."""
    axes = (-3, -2)
    return jnp.fft.fftshift(jnp.fft.ifft2(jnp.fft.ifftshift(y, axes), axes=axes, norm="ortho"), axes)


def to_complex(x: Image, complex_image: bool) -> Array:
    """An image as complex planes: its two channels as one, or each as a real one."""
    return from_parts(x)[..., None] if complex_image else jax.lax.complex(x, jnp.zeros_like(x))


def from_complex(z: Array, complex_image: bool) -> Image:
    """The adjoint of :func:`to_complex`."""
    return to_parts(z)[:, :, 0] if complex_image else jnp.real(z)


def to_parts(z: Array) -> Array:
    """Complex numbers as a last axis of real and imaginary part."""
    return jnp.stack([jnp.real(z), jnp.imag(z)], axis=-1)


def from_parts(y: Array) -> Array:
    """A last axis of real and imaginary part as complex numbers."""
    return jax.lax.complex(y[..., 0], y[..., 1])


def magnitude(y: Array) -> Array:
    """The magnitude of numbers in two parts."""
    return jnp.sqrt(jnp.sum(jnp.square(y), axis=-1))


def k_space_picture(k_space: Array, zero_filled: Image, complex_image: bool) -> Array:
    """Log-magnitude [H, W, C] beside a zero-filled image."""
    left = pictures.picture(pictures.log_magnitude(k_space))
    image = magnitude(zero_filled)[..., None] if complex_image else zero_filled
    right = pictures.picture(image)
    return pictures.side_by_side([left, right])


def _check(image_shape: Shape, mask: Array | np.ndarray, complex_image: bool) -> tuple[Shape, Array]:
    shape = check_image_shape(image_shape)
    if complex_image and shape[2] != 2:
        raise ValueError(f"a complex image has 2 channels (real and imaginary part), but image_shape has {shape[2]}.")
    m = jnp.asarray(mask, jnp.float32)
    if m.shape != shape[:2]:
        raise ValueError(f"the k-space mask must be {shape[0]}x{shape[1]} like the image, got shape {m.shape}.")
    if concrete(m):
        values = np.asarray(m)
        if not np.isin(values, (0, 1)).all():
            raise ValueError("the k-space mask must hold 0 and 1 only.")
        if not values.any():
            raise ValueError("the k-space mask keeps nothing; it must be 1 where a frequency is sampled.")
    return shape, m
