"""Blur kernels [h, w]: a Gaussian of any shape and angle, a disc, and a random camera shake. Each sums to one."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import check_key, check_range, check_side, check_size, count
from jaxdiff.typing import Array, Key

__all__ = ["crop_border", "disc_kernel", "gaussian_kernel", "gaussian_taps", "motion_kernel"]


WIDEST = 1e4
"""Largest standard deviation of a blur, pixels. It is far larger than any image, and its taps still fit into memory."""


def gaussian_taps(size: int, std: float, *, truncate: float = 4.0) -> np.ndarray:
    """A one-dimensional Gaussian as scipy filters a delta with it, [size], float64, summing to one.

    k_i ∝ exp(−i² / 2 std²) for |i| ≤ ⌊truncate · std + ½⌋; weights beyond ``size`` are mirrored back into it.
    """
    radius = int(truncate * std + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / std) ** 2)
    taps = np.zeros(size)
    # The index of a half-sample mirror: 0 1 2 2 1 0 0 1 2 ...
    phase = (size // 2 + offsets) % (2 * size)
    np.add.at(taps, np.where(phase < size, phase, 2 * size - 1 - phase), weights / weights.sum())
    return taps


def gaussian_kernel(
    size: int | tuple[int, int] = 61, std: float | tuple[float, float] = 3.0, angle: float = 0.0
) -> np.ndarray:
    """A Gaussian kernel, float64.

    Args:
        size: size of the kernel, odd, pixels.
        std: standard deviation along rows and columns, pixels.
        angle: rotation of the two axes, degrees. A rotated Gaussian is sampled and normalised over the whole kernel.

    Raises:
        ValueError: if the size is even, or the standard deviation is not positive.

    >>> gaussian_kernel(61, 3.0).shape
    (61, 61)
    """
    height, width = check_size("size", size, odd=True)
    check_range("std", std, 0, WIDEST, open_low=True, shape=(2,))
    check_range("angle", angle, -math.inf)
    down, across = (float(s) for s in np.broadcast_to(np.asarray(std, np.float64), (2,)))
    if angle == 0 or down == across:
        return np.outer(gaussian_taps(height, down), gaussian_taps(width, across))
    row, column = np.mgrid[:height, :width] - np.array([height // 2, width // 2])[:, None, None]
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    kernel = np.exp(-0.5 * (((cos * row + sin * column) / down) ** 2 + ((cos * column - sin * row) / across) ** 2))
    return kernel / kernel.sum()


def disc_kernel(size: int, radius: float, *, oversample: int = 8) -> np.ndarray:
    """A disc of uniform light, like a lens out of focus, float64.

    Each weight is proportional to the part of its pixel that the disc covers.

    Args:
        size: size of the kernel, odd, pixels.
        radius: radius of the disc, pixels.
        oversample: points for each pixel and axis that are tested for being inside the disc.

    Raises:
        ValueError: if the size is even, or the radius is not positive or does not fit.
    """
    side = check_side("size", size, odd=True)
    check_range("radius", radius, 0, side / 2, open_low=True)
    count("oversample", oversample)
    points = (np.arange(side * oversample) + 0.5) / oversample - side / 2
    inside = points[:, None] ** 2 + points[None, :] ** 2 <= radius**2
    cover = inside.reshape(side, oversample, side, oversample).mean(axis=(1, 3))
    return cover / cover.sum() if cover.any() else np.eye(1, side * side, side * side // 2).reshape(side, side)


def motion_kernel(key: Key, *, size: int = 61, intensity: float | Array = 0.5) -> Array:
    """The trace of a random camera shake, [size, size].

    A point moves with a speed and a direction that drift at random. Sometimes it jumps to a new direction. Its light is
    spread over the four nearest pixels. The trace is centred on its mean, so that the blur does not shift the picture. The
    generator is our own: DPS and DAPS use another one, whose kernels look similar.

    Args:
        key: for the trajectory.
        size: size of the kernel, odd, pixels.
        intensity: from 0 (a straight line) to 1 (a scribble).

    Raises:
        ValueError: if the size is even, or the intensity is not in [0, 1].

    >>> kernel = motion_kernel(jax.random.key(0), size=31)
    >>> kernel.shape, round(float(kernel.sum()), 4)
    ((31, 31), 1.0)
    """
    check_key(key)
    side = check_side("size", size, odd=True)
    check_range("intensity", intensity, 0, 1)
    return _motion_trace(key, jnp.asarray(intensity, jnp.float32), side)


@partial(jax.jit, static_argnames="side")
def _motion_trace(key: Key, strength: Array, side: int) -> Array:
    points = 4 * side
    memory = max(1, points // 10)
    angle_key, wander_key, jerk_key, jerk_angle_key, speed_key, length_key = jax.random.split(key, 6)

    start = jax.random.uniform(angle_key, (), jnp.float32, 0, 2 * jnp.pi)
    # The rate of turning is a random walk that forgets after a tenth of the path.
    turning = _smooth_noise(wander_key, points, memory=memory) * (12.0 / points)
    jerked = jax.random.bernoulli(jerk_key, 4.0 / points, (points,))
    jerk = jnp.where(jerked, jax.random.uniform(jerk_angle_key, (points,), jnp.float32, -jnp.pi, jnp.pi), 0.0)
    heading = start + jnp.cumsum(strength * (turning + jerk))
    speed = jnp.exp(strength * 0.5 * _smooth_noise(speed_key, points, memory=memory))
    path = jnp.cumsum(speed[None, :] * jnp.stack([jnp.sin(heading), jnp.cos(heading)]), axis=1)

    path = path - jnp.mean(path, axis=1, keepdims=True)
    half = (side - 1) / 2
    reach = jnp.max(jnp.abs(path))
    span = jax.random.uniform(length_key, (), jnp.float32, 0.5, 0.95) * half
    rows, columns = half + path * (span / reach)
    grid = jnp.arange(side, dtype=jnp.float32)
    spread = [jnp.maximum(0.0, 1.0 - jnp.abs(p[:, None] - grid[None, :])) for p in (rows, columns)]
    return jnp.matmul(spread[0].T, spread[1], precision="highest") / points


def crop_border(kernel: np.ndarray) -> np.ndarray:
    """Drop the rows and columns of zeros around a kernel, alike on both sides so that its centre stays."""
    height, width = kernel.shape
    rows, columns = np.nonzero(kernel.any(axis=1))[0], np.nonzero(kernel.any(axis=0))[0]
    top = min(rows[0], height - 1 - rows[-1])
    left = min(columns[0], width - 1 - columns[-1])
    return kernel[top : height - top, left : width - left]


def _smooth_noise(key: Key, length: int, memory: int) -> Array:
    """Gaussian noise of unit variance (away from its start) that forgets over ``memory`` steps, [length]."""
    keep = 1.0 - 1.0 / memory

    def step(state: Array, noise: Array) -> tuple[Array, Array]:
        state = keep * state + (1 - keep**2) ** 0.5 * noise
        return state, state

    start_key, key = jax.random.split(key)
    start = jax.random.normal(start_key, (), jnp.float32)
    return jax.lax.scan(step, start, jax.random.normal(key, (length,), jnp.float32))[1]
