"""Masks [H, W] of the frequencies that a scanner samples, and sensitivities of its coils.

The zero frequency is at (H//2, W//2).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import check_key, check_range, check_size, count, shown
from jaxdiff.typing import Array, Key

__all__ = ["cartesian_mask", "coil_sensitivities", "equispaced_mask", "radial_mask", "spiral_mask"]


def cartesian_mask(key: Key, *, shape: tuple[int, int], acceleration: int, center_fraction: float = 0.08) -> Array:
    """Sample random columns, and always those in the middle. This is fastMRI's random mask, with an exact count.

    Args:
        key: for the columns.
        shape: (H, W).
        acceleration: the mask samples this many times fewer columns than the image has.
        center_fraction: fraction of the columns, around the zero frequency, that is always sampled.

    Raises:
        ValueError: if the acceleration leaves no column, or fewer than those in the middle.

    >>> mask = cartesian_mask(jax.random.key(0), shape=(8, 32), acceleration=4, center_fraction=0.1)
    >>> int(mask[0].sum()), bool((mask == mask[:1]).all())
    (8, True)
    """
    check_key(key)
    height, width, kept, middle = _columns(shape, acceleration, center_fraction)
    outside = jnp.asarray(~middle)
    # Ranks of random numbers, with the middle in front, give an exact count without replacement.
    order = jnp.argsort(jnp.where(outside, jax.random.uniform(key, (width,), jnp.float32), -1.0))
    columns = jnp.zeros((width,), jnp.float32).at[order[:kept]].set(1.0)
    return jnp.broadcast_to(columns[None, :], (height, width))


def equispaced_mask(
    acceleration: int, *, shape: tuple[int, int], center_fraction: float = 0.08, offset: int = 0
) -> Array:
    """Sample equally spaced columns, and those in the middle. This is fastMRI's equispaced mask.

    Args:
        acceleration: spacing of the columns outside the middle.
        shape: (H, W).
        center_fraction: fraction of the columns, around the zero frequency, that is always sampled.
        offset: the first sampled column.

    Raises:
        ValueError: as for :func:`cartesian_mask`.
    """
    if not isinstance(offset, int | np.integer):
        raise ValueError(f"offset must be an integer, the first sampled column, got {shown(offset)}.")
    height, width, _, middle = _columns(shape, acceleration, center_fraction)
    columns = middle | (np.arange(width) % acceleration == offset % acceleration)
    return jnp.asarray(np.broadcast_to(columns, (height, width)), jnp.float32)


def radial_mask(spokes: int, *, shape: tuple[int, int]) -> Array:
    """Sample the grid points nearest to straight lines through the zero frequency, at equal angles.

    Args:
        spokes: number of lines.
        shape: (H, W).

    Raises:
        ValueError: if there is no spoke.
    """
    height, width = check_size("shape", shape)
    count("spokes", spokes)
    radius = np.linspace(-1, 1, 4 * max(height, width))
    angle = np.arange(spokes) * np.pi / spokes
    return _draw((height, width), np.sin(angle)[:, None] * radius[None, :], np.cos(angle)[:, None] * radius[None, :])


def spiral_mask(turns: float, *, shape: tuple[int, int], arms: int = 1) -> Array:
    """Sample the grid points nearest to interleaved spirals around the zero frequency.

    The radius grows with the square of the angle, so the mask is denser near the zero frequency.

    Args:
        turns: number of turns of each arm, from the zero frequency to the edge.
        shape: (H, W).
        arms: number of spirals, at equal angles.

    Raises:
        ValueError: if there is no arm or no turn.
    """
    height, width = check_size("shape", shape)
    check_range("turns", turns, 0, open_low=True)
    count("arms", arms)
    way = np.linspace(0, 1, int(16 * turns * max(height, width)) + 2)[None, :]
    radius, angle = way**2, 2 * np.pi * (turns * way + np.arange(arms)[:, None] / arms)
    return _draw((height, width), radius * np.sin(angle), radius * np.cos(angle))


def coil_sensitivities(coils: int, *, shape: tuple[int, int], radius: float = 1.2, width: float = 0.9) -> Array:
    """Smooth complex sensitivities of coils in a ring around the image, with Σ_c |s_c|² = 1 at every pixel.

    Coil c is at the angle 2πc/coils. Its sensitivity is a Gaussian of the distance, with a phase that grows with the
    distance.

    Args:
        coils: number of coils.
        shape: (H, W).
        radius: radius of the ring, in half sides of the image.
        width: standard deviation of the Gaussian, in half sides of the image.

    Returns:
        [coils, H, W, 2], the real and the imaginary part.

    Raises:
        ValueError: if there is no coil.
    """
    height, wide = check_size("shape", shape)
    count("coils", coils)
    check_range("radius", radius, 0, open_low=True)
    check_range("width", width, 0, open_low=True)
    row, column = np.linspace(-1, 1, height)[None, :, None], np.linspace(-1, 1, wide)[None, None, :]
    angle = (2 * np.pi * np.arange(coils) / coils)[:, None, None]
    distance = np.hypot(row - radius * np.sin(angle), column - radius * np.cos(angle))
    exponent = -0.5 * (distance / width) ** 2
    # A factor common to all coils; without it narrow ones underflow to zero.
    exponent -= exponent.max(axis=0, keepdims=True)
    maps = np.exp(exponent + 1j * (angle + 0.5 * np.pi * distance))
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0, keepdims=True))
    return jnp.asarray(np.stack([maps.real, maps.imag], axis=-1), jnp.float32)


def _columns(shape: tuple[int, int], acceleration: int, center_fraction: float) -> tuple[int, int, int, np.ndarray]:
    """Height, width, how many columns are kept, and which of them are the middle."""
    height, width = check_size("shape", shape)
    check_range("center_fraction", center_fraction, 0, 1)
    check_range("acceleration", acceleration, 1)
    kept = round(width / acceleration)
    centre = round(width * center_fraction)
    if not max(1, centre) <= kept <= width:
        raise ValueError(
            f"acceleration {acceleration} keeps {kept} of {width} columns, but {max(1, centre)} are asked for in the "
            "middle; use an acceleration of at least 1 and a smaller center_fraction."
        )
    first = width // 2 - centre // 2
    return height, width, kept, (np.arange(width) >= first) & (np.arange(width) < first + centre)


def _draw(shape: tuple[int, int], down: np.ndarray, across: np.ndarray) -> Array:
    """Mark the grid points nearest to points in [-1, 1]²."""
    height, width = shape
    rows = np.clip(np.rint(height // 2 + down * (height / 2)), 0, height - 1).astype(int)
    columns = np.clip(np.rint(width // 2 + across * (width / 2)), 0, width - 1).astype(int)
    mask = np.zeros(shape, np.float32)
    mask[rows, columns] = 1
    return jnp.asarray(mask)
