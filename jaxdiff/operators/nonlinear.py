"""Nonlinear forward models: magnitudes of spectra, clipping, quantisation, tone curves, blur in linear light."""

import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, check_key, check_margin, check_range, concrete, count, leaf, shown
from jaxdiff.operators import pictures
from jaxdiff.operators.base import LinearOperator, Operator
from jaxdiff.operators.convolution import Padding, blur
from jaxdiff.operators.fourier import fourier
from jaxdiff.operators.kernels import motion_kernel
from jaxdiff.typing import Array, Image, Key, Measurement, Shape

__all__ = [
    "CameraBlur",
    "CodedPhaseRetrieval",
    "Gamma",
    "HighDynamicRange",
    "PhaseRetrieval",
    "Quantize",
    "ToneCurve",
    "camera_blur",
    "coded_phase_retrieval",
    "gamma_curve",
    "high_dynamic_range",
    "phase_retrieval",
    "quantize",
    "tone_curve",
]

DARKEST = 1e-4
"""The least linear light; below it the slope of a power curve is unbounded."""


@struct.dataclass(eq=False)
class PhaseRetrieval(Operator):
    """y = |F P (a x + b)|. F is centred and orthonormal, and P pads the image with zeros on each side.

    Attributes:
        scale: a. It is 1, or the number that maps [-1, 1] to another range.
        shift: b.
        padding: rows and columns of zeros on each side.
    """

    half: ClassVar[bool] = False

    scale: Array
    shift: Array
    padding: tuple[int, int] = struct.field(pytree_node=False)

    def apply(self, x: Image) -> Measurement:
        """Measure: the magnitude of the spectrum."""
        rows, columns = self.padding
        shown = self.scale.astype(x.dtype) * x + self.shift.astype(x.dtype)
        return jnp.abs(fourier(jnp.pad(shown, ((rows, rows), (columns, columns), (0, 0)))))

    def initial(self, y: Measurement) -> Image:
        """A grey image, because magnitudes do not look like the image, even if they have its shape."""
        return jnp.zeros(self.image_shape, y.dtype)

    def view(self, y: Measurement) -> Array:
        """The logarithm of the magnitude."""
        return pictures.picture(pictures.log_magnitude(y))


@struct.dataclass(eq=False)
class CodedPhaseRetrieval(Operator):
    """y [masks, H, W, C] = |F (e^{iφ_k} ⊙ x)|: the spectra of one image behind several known phase masks.

    Attributes:
        phases: φ [masks, H, W], radians.

    Reference:
        Candès, Li and Soltanolkotabi, "Phase Retrieval from Coded Diffraction Patterns", 2015.
    """

    half: ClassVar[bool] = False

    phases: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: the magnitude of each coded spectrum."""
        phases = self.phases.astype(x.dtype)
        code = jax.lax.complex(jnp.cos(phases), jnp.sin(phases))[..., None]
        return jnp.abs(fourier(code * x.astype(code.dtype)[None]))

    def view(self, y: Measurement) -> Array:
        """The logarithms of the magnitudes, on a sheet that is as square as possible."""
        columns = math.ceil(math.sqrt(y.shape[0]))
        sheets = list(pictures.log_magnitude(y))
        sheets += [-jnp.ones_like(sheets[0])] * (-len(sheets) % columns)
        rows = [jnp.concatenate(sheets[i : i + columns], axis=1) for i in range(0, len(sheets), columns)]
        return pictures.picture(jnp.concatenate(rows))


@struct.dataclass(eq=False)
class HighDynamicRange(Operator):
    """y = clip(a x, -1, 1): a sensor that saturates.

    Attributes:
        factor: a.
    """

    factor: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: amplify and clip."""
        return jnp.clip(self.factor.astype(x.dtype) * x, -1, 1)

    def initial(self, y: Measurement) -> Image:
        """y / a, which is the inverse where nothing was clipped."""
        return y / self.factor.astype(y.dtype)


@struct.dataclass(eq=False)
class Quantize(Operator):
    """y = x, rounded to equally spaced levels on [-1, 1]. Its straight-through gradient is that of clipping.

    Attributes:
        levels: number of levels.
    """

    straight_through: ClassVar[bool] = True

    levels: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: round."""
        clipped = jnp.clip(x, -1, 1)
        steps = (self.levels.astype(x.dtype) - 1) / 2
        rounded = jnp.round((clipped + 1) * steps) / steps - 1
        return clipped + jax.lax.stop_gradient(rounded - clipped)


@struct.dataclass(eq=False)
class ToneCurve(Operator):
    """y = a curve, applied to each channel. It is linear between given values at equally spaced x in [-1, 1].

    Attributes:
        values: y at the knots, [knots].
    """

    values: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: look each value up."""
        values = self.values.astype(x.dtype)
        last = values.shape[0] - 1
        place = (jnp.clip(x, -1, 1) + 1) * (last / 2)
        knot = jnp.clip(jnp.floor(place), 0, last - 1)
        index, part = knot.astype(jnp.int32), place - knot
        return values[index] * (1 - part) + values[index + 1] * part


@struct.dataclass(eq=False)
class Gamma(Operator):
    """y = 2 u^γ − 1 with u = max((x + 1)/2, 1e-4).

    Black becomes 2·10^{−4γ} − 1, which is −0.97 for γ = 1/2.2.

    Attributes:
        gamma: γ. A value above 1 makes the picture darker, a value below 1 brighter.
    """

    gamma: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: the power curve on [0, 1]."""
        return _from_light(_to_light(x) ** self.gamma.astype(x.dtype))

    def initial(self, y: Measurement) -> Image:
        """The inverse curve."""
        return _from_light(_to_light(y) ** (1 / self.gamma.astype(y.dtype)))


@struct.dataclass(eq=False)
class CameraBlur(Operator):
    """y = f(K (e f⁻¹(x))): a blur of linear light, between the inverse of a camera's tone curve and the curve.

    f⁻¹ maps a picture to linear light by u ↦ u^γ on [0, 1]. The exposure e amplifies the light, and K blurs it. Light above
    1 saturates, and f maps the result back. Highlights become bright streaks, which no linear blur of the picture makes.
    Light below 1e-4 counts as 1e-4, so that f has a finite slope. So black becomes −0.97 for γ = 2.2.

    Attributes:
        blur: K.
        gamma: γ, which is 2.2 for common displays.
        exposure: e. If it is above 1, highlights saturate.
    """

    half: ClassVar[bool] = False

    blur: LinearOperator
    gamma: Array
    exposure: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: map to linear light, expose, blur, saturate, and map back."""
        gamma = self.gamma.astype(x.dtype)
        light = self.blur(self.exposure.astype(x.dtype) * _to_light(x) ** gamma)
        return _from_light(jnp.clip(light, DARKEST, 1) ** (1 / gamma))


def phase_retrieval(
    oversample: float = 2.0,
    *,
    image_shape: Shape,
    padding: int | tuple[int, int] | None = None,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> PhaseRetrieval:
    """Fourier phase retrieval: the magnitude of an oversampled spectrum.

    Args:
        oversample: each side is padded with ⌊oversample/8 · side⌋ zeros. DPS and DAPS use 2, so that 256 becomes 384.
        image_shape: (H, W, C).
        padding: zeros on each side, pixels, instead of ``oversample``.
        value_range: -1 and 1 are mapped to these values before the transform: (-1, 1) in DPS, (0, 1) in DAPS.

    Raises:
        ValueError: if the padding is negative, or the range is empty.

    >>> phase_retrieval(image_shape=(256, 256, 3)).measurement_shape
    (384, 384, 3)
    """
    shape = check_image_shape(image_shape)
    check_range("oversample", oversample, 0)
    if padding is None:
        padding = (int(oversample / 8 * shape[0]), int(oversample / 8 * shape[1]))
    ends = np.asarray(value_range)
    if ends.shape != (2,) or ends.dtype.kind not in "biuf" or not ends[0] < ends[1]:
        raise ValueError(f"value_range must be (low, high) with low below high, got {shown(value_range)}.")
    low, high = value_range
    scale, shift = leaf("value_range", (high - low) / 2), leaf("value_range", (high + low) / 2)
    return PhaseRetrieval(scale, shift, check_margin("padding", padding), image_shape=shape)


def coded_phase_retrieval(key: Key, *, image_shape: Shape, masks: int = 4) -> CodedPhaseRetrieval:
    """Phase retrieval from coded diffraction patterns, with uniformly random phases.

    Args:
        key: for the phases.
        image_shape: (H, W, C).
        masks: number of patterns.

    Raises:
        ValueError: if there is no mask.
    """
    check_key(key)
    shape = check_image_shape(image_shape)
    count("masks", masks)
    phases = jax.random.uniform(key, (masks, *shape[:2]), jnp.float32, 0, 2 * jnp.pi)
    return CodedPhaseRetrieval(phases, image_shape=shape)


def high_dynamic_range(factor: float | Array = 2.0, *, image_shape: Shape) -> HighDynamicRange:
    """A saturating sensor, y = clip(factor · x, -1, 1). The default factor is that of DAPS.

    Raises:
        ValueError: if the factor is not positive.
    """
    check_range("factor", factor, 0, open_low=True)
    return HighDynamicRange(leaf("factor", factor, scalar=True), image_shape=check_image_shape(image_shape))


def quantize(levels: int | Array = 8, *, image_shape: Shape) -> Quantize:
    """Round to a few levels, with a straight-through gradient. One bit has 2 levels, and a PNG has 256.

    Raises:
        ValueError: if there are fewer than two levels, or the number is not whole.

    >>> quantize(image_shape=(1, 3, 1), levels=2)(jnp.array([[[-0.3], [0.1], [0.9]]])).ravel().tolist()
    [-1.0, 1.0, 1.0]
    """
    check_range("levels", levels, 2)
    if concrete(levels) and np.any(np.asarray(levels) % 1):
        raise ValueError(f"levels must be a whole number, got {levels!r}.")
    return Quantize(leaf("levels", levels, scalar=True), image_shape=check_image_shape(image_shape))


def gamma_curve(gamma: float | Array = 2.2, *, image_shape: Shape) -> Gamma:
    """A power curve, y = 2 ((x + 1)/2)^γ − 1.

    Raises:
        ValueError: if γ is not positive.
    """
    check_range("gamma", gamma, 0, open_low=True)
    return Gamma(leaf("gamma", gamma, scalar=True), image_shape=check_image_shape(image_shape))


def tone_curve(values: Array | np.ndarray | Sequence[float], *, image_shape: Shape) -> ToneCurve:
    """Any tone curve, given by its values at equally spaced points of [-1, 1].

    Args:
        values: [knots], the curve at linspace(-1, 1, knots).
        image_shape: (H, W, C).

    Raises:
        ValueError: if there are fewer than two values.
    """
    knots = leaf("values", values)
    if knots.ndim != 1 or knots.shape[0] < 2:
        raise ValueError(f"a tone curve needs its values at two points or more, got shape {knots.shape}.")
    return ToneCurve(knots, image_shape=check_image_shape(image_shape))


def camera_blur(
    key: Key | None = None,
    *,
    image_shape: Shape,
    kernel: Array | np.ndarray | None = None,
    size: int = 61,
    intensity: float = 0.5,
    gamma: float | Array = 2.2,
    exposure: float | Array = 1.5,
    padding: Padding = "reflect",
) -> CameraBlur:
    """A nonlinear blur without a network: a shaken camera with a tone curve and a sensor that saturates.

    The nonlinear blur of DPS and DAPS needs the weights of another network. This operator is a different one, so do not
    compare numbers of the two.

    Args:
        key: for a random motion kernel, see :func:`jaxdiff.operators.motion_kernel`. Give this or ``kernel``.
        image_shape: (H, W, C).
        kernel: [h, w], both odd.
        size: size of the random kernel, odd, pixels.
        intensity: intensity of the random kernel.
        gamma: exponent γ of the tone curve.
        exposure: factor on the light. If it is above 1, highlights saturate.
        padding: padding of the blur.

    Raises:
        ValueError: if you do not give exactly one of ``key`` and ``kernel``, and as for :func:`jaxdiff.operators.blur`.
    """
    shape = check_image_shape(image_shape)
    if (key is None) == (kernel is None):
        raise ValueError("give camera_blur either a key for a random motion kernel or a kernel.")
    check_range("gamma", gamma, 0, open_low=True)
    check_range("exposure", exposure, 0, open_low=True)
    if kernel is None and key is not None:
        kernel = motion_kernel(key, size=size, intensity=intensity)
    assert kernel is not None
    if concrete(kernel) and np.min(np.asarray(kernel)) < 0:
        raise ValueError("the kernel of a blur of light must not be negative.")
    inner = blur(image_shape=shape, kernel=kernel, padding=padding)
    return CameraBlur(
        inner, leaf("gamma", gamma, scalar=True), leaf("exposure", exposure, scalar=True), image_shape=shape
    )


def _to_light(x: Array) -> Array:
    return jnp.clip((x + 1) / 2, DARKEST, 1)


def _from_light(light: Array) -> Array:
    return 2 * light - 1
