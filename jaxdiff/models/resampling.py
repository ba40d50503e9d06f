"""Resampling by two with a short symmetric filter, alone or fused with a convolution, as StyleGAN2 and NCSN++ do it.

A filter of an even number of taps is applied along rows and columns as shifted sums, which cost little and have cheap
gradients. Two equal taps are the 2×2 mean and the nearest neighbour.
"""

import jax.numpy as jnp
import numpy as np

from jaxdiff.models.convolution import convolve, convolve_by_two
from jaxdiff.models.layers import downsample, upsample
from jaxdiff.typing import Array

__all__ = ["convolve_then_halve", "double_by", "double_then_convolve", "halve_by"]

Taps = tuple[float, ...]


def halve_by(x: Array, taps: Taps) -> Array:
    """Filter ``x`` [N, 2H, 2W, C] with the normalised taps and keep every second pixel; zeros lie outside.

    >>> halve_by(jnp.ones((1, 2, 2, 1)), (1, 1)).shape
    (1, 1, 1, 1)
    """
    if _is_plain(taps):
        return downsample(x)
    margin = len(taps) // 2 - 1
    x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return _every_second(_every_second(x, taps, axis=1), taps, axis=2)


def double_by(x: Array, taps: Taps) -> Array:
    """Put zeros between the pixels of ``x`` [N, H, W, C] and filter, with gain 2 along each axis; zeros lie outside."""
    if _is_plain(taps):
        return upsample(x)
    return _between(_between(x, taps, axis=1), taps, axis=2)


def convolve_then_halve(x: Array, kernel: Array, taps: Taps) -> Array:
    """3×3 convolution and ``halve_by`` in one, with zeros outside of ``x`` only, not between the two.

    Args:
        x: [N, 2H, 2W, I].
        kernel: [3, 3, I, O], of the type of ``x``.
        taps: of the filter.

    Returns:
        [N, H, W, O].
    """
    # The filter first, at full size, and then a strided convolution: a quarter of the products of the other order.
    margin = len(taps) // 2
    x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    x = _filtered(_filtered(x, taps, axis=1), taps, axis=2)
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    return convolve_by_two(x, kernel, before=0)[:, :-1, :-1]


def double_then_convolve(x: Array, kernel: Array, taps: Taps) -> Array:
    """``double_by`` and 3×3 convolution in one, with zeros outside of ``x`` only, not between the two."""
    n, h, w, c = x.shape
    zero = jnp.zeros_like(x)
    x = jnp.reshape(jnp.stack([x, zero], axis=3), (n, h, 2 * w, c))
    x = jnp.reshape(jnp.stack([x, jnp.zeros_like(x)], axis=2), (n, 2 * h, 2 * w, c))[:, :-1, :-1]
    x = convolve(x, kernel, ((2, 2), (2, 2)))
    margin = len(taps) // 2 - 1
    x = 4 * jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return _filtered(_filtered(x, taps, axis=1), taps, axis=2)


def _is_plain(taps: Taps) -> bool:
    return not taps or (len(taps) == 2 and taps[0] == taps[1])


def _normal(taps: Taps) -> list[float]:
    return [float(tap) for tap in np.asarray(taps) / np.sum(taps)]


def _take(x: Array, axis: int, start: int, count: int, stride: int = 1) -> Array:
    index = [slice(None)] * 4
    index[axis] = slice(start, start + (count - 1) * stride + 1, stride)
    return x[tuple(index)]


def _filtered(x: Array, taps: Taps, axis: int) -> Array:
    count = x.shape[axis] - len(taps) + 1
    return sum((tap * _take(x, axis, k, count) for k, tap in enumerate(_normal(taps))), jnp.zeros((), x.dtype))


def _every_second(x: Array, taps: Taps, axis: int) -> Array:
    count = (x.shape[axis] - len(taps)) // 2 + 1
    return sum((tap * _take(x, axis, k, count, 2) for k, tap in enumerate(_normal(taps))), jnp.zeros((), x.dtype))


def _between(x: Array, taps: Taps, axis: int) -> Array:
    """Output 2i + r sums 2 f_k x[(2i + r + k − L/2)/2] over the taps k that meet a pixel, not a zero."""
    half, count = len(taps) // 2, x.shape[axis]
    reach = half // 2 + 1
    pad = [(0, 0)] * 4
    pad[axis] = (reach, reach)
    x = jnp.pad(x, pad)
    phases = [
        sum(
            (
                2 * tap * _take(x, axis, reach + (r + k - half) // 2, count)
                for k, tap in enumerate(_normal(taps))
                if (r + k - half) % 2 == 0
            ),
            jnp.zeros((), x.dtype),
        )
        for r in (0, 1)
    ]
    shape = list(x.shape)
    shape[axis] = 2 * count
    return jnp.reshape(jnp.stack(phases, axis=axis + 1), shape)
