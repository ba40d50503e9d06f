"""Computed tomography: the parallel-beam Radon transform as in scikit-image, its transpose, and filtered back-projection."""

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import check_image_shape, check_range, concrete
from jaxdiff.operators import pictures
from jaxdiff.operators.base import LinearOperator
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["Radon", "ct"]

Filter = Literal["ramp", "hann"]


@struct.dataclass(eq=False)
class Radon(LinearOperator):
    """y [detectors, angles, C] = scale · sums of the image along parallel rays.

    For each angle, the image is rotated with bilinear interpolation, with zeros outside, and summed over rows. The adjoint
    is the exact transpose of this computation. A back-projection with its own interpolation would not be exact.

    Attributes:
        cos: cosines of the angles, [angles]. They are stored instead of the angles to be exact to the last bit.
        sin: sines of the angles, [angles].
        scale: factor on the measurement, 1 for line integrals in pixels.
        detectors: number of rays for each angle.
        circle: only the largest centred square is measured. scikit-image crops the image in the same way.

    Reference:
        Kak and Slaney, "Principles of Computerized Tomographic Imaging", 1988, chapter 3.
    """

    half: ClassVar[bool] = False

    cos: Array
    sin: Array
    scale: Array
    detectors: int = struct.field(pytree_node=False)
    circle: bool = struct.field(pytree_node=False, default=False)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image that rays pass through."""
        sides = self.image_shape[:2]
        seen = (min(sides),) * 2 if self.circle else sides
        first = [-(-(side - length) // 2) for side, length in zip(sides, seen, strict=True)]
        return slice(first[0], first[0] + seen[0]), slice(first[1], first[1] + seen[1])

    def apply(self, x: Image) -> Measurement:
        """Measure: for each angle, rotate and sum."""
        x = x[self.window]
        height, width, _ = x.shape
        angles = (self.cos.astype(x.dtype), self.sin.astype(x.dtype))

        def scan(plane: Array) -> Array:
            # Gathers are the cost, so the four neighbours of every point lie side by side, and one gather fetches all.
            # Planes one by one and angles in pairs are three times as fast in XLA's CPU code as other layouts.
            padded = jnp.pad(plane, ((1, 2), (1, 2)))
            corners = [padded[i : height + 2 + i, j : width + 2 + j] for i in (0, 1) for j in (0, 1)]
            table = jnp.reshape(jnp.stack(corners, axis=2), ((height + 2) * (width + 2), 4, 1))
            project = partial(_project, table, (height, width), self.detectors)
            return jax.lax.map(lambda angle: project(*angle), angles, batch_size=2)[..., 0]

        sinograms = jax.lax.map(scan, jnp.moveaxis(x, -1, 0))
        return self.scale.astype(x.dtype) * jnp.transpose(sinograms, (2, 1, 0))

    def fbp(self, y: Measurement, filter: Filter = "ramp") -> Image:
        """Filtered back-projection. It is the inverse for many angles, and a first guess for few.

        Args:
            y: [detectors, angles, C].
            filter: "ramp", or "hann" for less noise.
        """
        response = jnp.asarray(_ramp(self.detectors, filter), y.dtype)
        size = 2 * (response.shape[0] - 1)
        spectrum = jnp.fft.rfft(y / self.scale.astype(y.dtype), n=size, axis=0)
        filtered = jnp.fft.irfft(spectrum * response.astype(spectrum.dtype)[:, None, None], n=size, axis=0)
        seen = jnp.zeros(self.image_shape, y.dtype)[self.window]
        smear = partial(_smear, (seen.shape[0], seen.shape[1]))
        profiles = jnp.moveaxis(filtered[: self.detectors], 1, 0)

        def add(image: Array, angle: tuple[Array, Array, Array]) -> tuple[Array, None]:
            return image + smear(*angle), None

        angles = (profiles, self.cos.astype(y.dtype), self.sin.astype(y.dtype))
        image, _ = jax.lax.scan(add, seen, angles)
        return jnp.zeros(self.image_shape, y.dtype).at[self.window].set(image * (math.pi / (2 * self.cos.shape[0])))

    def initial(self, y: Measurement) -> Image:
        """Filtered back-projection."""
        return self.fbp(y)

    def view(self, y: Measurement) -> Array:
        """The sinogram, stretched to its range. Rays go down and angles across, repeated to fill a square."""
        sinogram = y if y.shape[-1] in (1, 3) else jnp.mean(y, axis=-1, keepdims=True)
        return pictures.stretch(jnp.repeat(sinogram, max(1, y.shape[0] // y.shape[1]), axis=1))


def ct(
    angles: int | Sequence[float] | Array | np.ndarray,
    *,
    image_shape: Shape,
    arc: float = 180.0,
    circle: bool = False,
    normalize: bool = False,
) -> Radon:
    """Parallel-beam computed tomography, equal to ``skimage.transform.radon`` on each channel.

    Args:
        angles: degrees, [n], or the number of angles, spread evenly over ``arc``. Few angles are "sparse view".
        image_shape: (H, W, C).
        arc: degrees that a number of angles covers. Less than 180 is "limited angle".
        circle: take one ray for each pixel of the shorter side, through the centred square of this side. Some rays then
            miss its corners. Without it, take as many rays as the diagonal needs.
        normalize: divide by √(angles · rays). Then the operator's norm is near 1, and its noise has the scale of image
            noise. Without it, the measurements are line integrals in pixels.

    Raises:
        ValueError: if there is no angle, or an angle is not finite.

    >>> ct(image_shape=(16, 16, 1), angles=10).measurement_shape
    (23, 10, 1)
    """
    shape = check_image_shape(image_shape)
    check_range("arc", arc, 0, 360, open_low=True)
    if isinstance(angles, int | np.integer):
        if angles < 1:
            raise ValueError(f"tomography needs at least one angle, got {angles}.")
        angles = np.arange(angles) * (arc / int(angles))
    if np.ndim(angles) != 1 or len(angles) == 0:
        raise ValueError(f"angles must be a list of at least one angle in degrees, got shape {np.shape(angles)}.")
    if concrete(angles):
        radians = np.deg2rad(np.asarray(angles, np.float64))
        if not np.isfinite(radians).all():
            raise ValueError("angles must be finite, but they hold NaN or infinity.")
        cos, sin = jnp.asarray(np.cos(radians), jnp.float32), jnp.asarray(np.sin(radians), jnp.float32)
    else:
        turns = jnp.deg2rad(jnp.asarray(angles))
        cos, sin = jnp.cos(turns), jnp.sin(turns)
    detectors = min(shape[:2]) if circle else math.ceil(math.sqrt(2) * max(shape[:2]))
    scale = 1 / math.sqrt(detectors * cos.shape[0]) if normalize else 1.0
    return Radon(cos, sin, jnp.asarray(scale, jnp.float32), detectors, circle, image_shape=shape)


def _project(table: Array, size: tuple[int, int], detectors: int, cos: Array, sin: Array) -> Array:
    """The sums along the rays of one angle, [detectors, 1]; ``table`` holds 2x2 neighbours, from (-1, -1) on."""
    height, width = size
    steps = jnp.arange(detectors, dtype=table.dtype) - detectors // 2
    across, along = steps[None, :], steps[:, None]
    row = jnp.clip(cos * along - sin * across + (height // 2 + 1), 0, height + 1)
    column = jnp.clip(cos * across + sin * along + (width // 2 + 1), 0, width + 1)
    top, left = row.astype(jnp.int32), column.astype(jnp.int32)
    neighbours = table.at[top * (width + 2) + left].get(mode="promise_in_bounds")
    down, right = row - top.astype(row.dtype), column - left.astype(row.dtype)
    weights = jnp.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], axis=-1)
    return jnp.einsum("adk,adkc->dc", weights, neighbours, precision="highest")


def _smear(size: tuple[int, int], profile: Array, cos: Array, sin: Array) -> Array:
    """One filtered profile [detectors, C] spread along its rays, [H, W, C], zero beyond its ends."""
    (height, width), detectors = size, profile.shape[0]
    row = (jnp.arange(height, dtype=profile.dtype) - height // 2)[:, None]
    column = (jnp.arange(width, dtype=profile.dtype) - width // 2)[None, :]
    place = jnp.clip(cos * column - sin * row + detectors // 2, -1, detectors)
    first = jnp.clip(jnp.floor(place), -1, detectors - 1)
    padded = jnp.pad(profile, ((1, 1), (0, 0)))
    pairs = jnp.stack([padded[:-1], padded[1:]], axis=1)[first.astype(jnp.int32) + 1]
    part = (place - first)[..., None]
    # Past the last ray the value falls off to zero over one pixel; scikit-image cuts it off at once.
    return pairs[:, :, 0] * (1 - part) + pairs[:, :, 1] * part


def _ramp(detectors: int, filter: str) -> np.ndarray:
    """The ramp filter's response at the non-negative frequencies, from its samples in space (no bias at zero)."""
    size = max(64, 2 ** math.ceil(math.log2(2 * detectors)))
    offsets = np.minimum(np.arange(size), size - np.arange(size))
    taps = np.zeros(size)
    odd = offsets % 2 == 1
    taps[odd] = -1 / (math.pi * offsets[odd]) ** 2
    taps[0] = 0.25
    response = 2 * np.real(np.fft.rfft(taps))
    if filter == "hann":
        return response * 0.5 * (1 + np.cos(np.linspace(0, math.pi, response.size)))
    if filter != "ramp":
        raise ValueError(f"filter must be 'ramp' or 'hann', got {filter!r}.")
    return response
