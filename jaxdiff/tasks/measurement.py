"""Measurements of many images under a task."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import check_key
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import stack
from jaxdiff.problems import Problem, observe
from jaxdiff.tasks.catalogue import get_task
from jaxdiff.typing import Array, Key

__all__ = ["measure"]


def measure(
    task: str,
    key: Key,
    images: Array | np.ndarray,
    noise: float | NoiseModel | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
) -> Problem:
    """Each image under the task, with its own mask or kernel and noise.

    Image i draws from ``fold_in(key, i)``: every method and every setting meets the same measurements.

    Args:
        task: its name.
        key: for what is random.
        images: [B, H, W, C] in [-1, 1].
        noise: σ on [-1, 1], or a noise model; the task's own by default.
        indices: which i each image has in a larger set; 0, 1, … by default.

    Returns:
        A problem whose leaves have a first axis B.

    Raises:
        ValueError: if the task is unknown or does not suit the images, or there are not as many indices as images.
    """
    chosen = get_task(task)
    check_key(key)
    if np.ndim(images) != 4 or not len(images):
        raise ValueError(f"images must be [B, H, W, C], got shape {np.shape(images)}.")
    if indices is not None and len(indices) != len(images):
        raise ValueError(f"each image needs its index: there are {len(images)} images and {len(indices)} indices.")
    noise = chosen.measured_with() if noise is None else noise
    problems = []
    for i, image in zip(range(len(images)) if indices is None else indices, images, strict=True):
        place, draw = jax.random.split(jax.random.fold_in(key, i))
        problems.append(observe(draw, chosen.make(place, image.shape), jnp.asarray(image), noise))
    return stack(problems)
