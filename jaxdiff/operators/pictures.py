"""Pictures of measurements that are not images, for figures."""

import jax.numpy as jnp

from jaxdiff.typing import Array

__all__ = ["log_magnitude", "picture", "side_by_side", "stretch"]


def stretch(y: Array) -> Array:
    """Map the smallest and largest value to -1 and 1. For pictures only: a metric never sees a stretched image."""
    low, high = jnp.min(y), jnp.max(y)
    span = jnp.where(high > low, high - low, jnp.ones_like(low))
    return 2 * (y - jnp.reshape(low, (1,) * y.ndim)) / jnp.reshape(span, (1,) * y.ndim) - 1


def log_magnitude(magnitude: Array, decades: float = 4.0) -> Array:
    """The logarithm of a magnitude, on [-1, 1]. It shows ``decades`` decades below the largest value."""
    peak = jnp.maximum(jnp.max(magnitude), jnp.finfo(magnitude.dtype).tiny)
    relative = jnp.maximum(magnitude / jnp.reshape(peak, (1,) * magnitude.ndim), 10.0**-decades)
    return 1 + 2 * jnp.log10(relative) / decades


def picture(y: Array) -> Array:
    """A measurement as a picture [h, w, 1 or 3] in [-1, 1].

    Complex numbers are shown by their magnitude. Images are clipped to [-1, 1]. With two channels, or more than three, the
    picture is their mean. Other measurements are stretched to their own range, on a sheet that is as square as possible.
    """
    y = jnp.abs(y) if jnp.iscomplexobj(y) else y
    if y.ndim == 3 and y.shape[-1] in (1, 3):
        return jnp.clip(y, -1, 1)
    if y.ndim == 3:
        return jnp.clip(jnp.mean(y, axis=-1, keepdims=True), -1, 1)
    if y.ndim == 2:
        return stretch(y)[..., None]
    flat = jnp.ravel(y)
    width = max(1, round(flat.size**0.5))
    rows = -(-flat.size // width)
    sheet = jnp.pad(flat, (0, rows * width - flat.size), constant_values=0)
    return stretch(jnp.reshape(sheet, (rows, width)))[..., None]


def side_by_side(pictures: list[Array]) -> Array:
    """Pictures in a row. Below a shorter picture it is black. A grey picture gets three channels if another has colour."""
    height = max(p.shape[0] for p in pictures)
    channels = max(p.shape[-1] for p in pictures)
    wide = [jnp.broadcast_to(p, (*p.shape[:2], channels)) for p in pictures]
    same = [jnp.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=-1) for p in wide]
    return jnp.concatenate(same, axis=1)
