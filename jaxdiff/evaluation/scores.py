"""Measurements of many images under a named task, and the scores of what was restored."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import metrics
from jaxdiff.engine import stack
from jaxdiff.metrics.lpips import SMALLEST
from jaxdiff.problems import Problem, observe
from jaxdiff.tasks.settings import get_task
from jaxdiff.typing import Array, Key

__all__ = ["SCORES", "measure", "misfits", "scores"]

SCORES = ("psnr", "ssim", "lpips", "misfit")
EXACT = 150.0
"""dB, in place of infinity: what float32 can tell apart."""


def measure(
    task: str,
    key: Key,
    images: Array | np.ndarray,
    noise_std: float | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
) -> Problem:
    """Each image [B, H, W, C] under the task, with its own mask or kernel and noise; leaves have a first axis B.

    Image i draws from ``fold_in(key, i)``: every method and every setting meets the same measurements. ``indices`` says
    which i each image has in a larger set; 0, 1, … by default.
    """
    chosen = get_task(task)
    std = chosen.noise_std if noise_std is None else noise_std
    problems = []
    for i, image in zip(range(len(images)) if indices is None else indices, images, strict=True):
        place, noise = jax.random.split(jax.random.fold_in(key, i))
        problems.append(observe(noise, chosen.make(place, image.shape), jnp.asarray(image), std))
    return stack(problems)


def scores(images: Array | np.ndarray, truths: Array | np.ndarray, problems: Problem) -> dict[str, np.ndarray]:
    """By measure, a number an image: PSNR (dB), SSIM, LPIPS and the misfit's RMS over what was observed (σ, if the fit
    is as good as the noise allows); NaN where a run diverged. An image that is exact has the PSNR ``EXACT``.
    """
    images, truths = jnp.asarray(images), jnp.asarray(truths)
    finite = np.isfinite(np.asarray(images)).all(axis=(1, 2, 3))
    found = _scores(jnp.nan_to_num(images, nan=0.0, posinf=1.0, neginf=-1.0), truths, problems)
    found["psnr"] = jnp.minimum(found["psnr"], EXACT)
    return {name: np.where(finite, np.asarray(found[name], np.float64), np.nan) for name in SCORES}


def _lpips_where_possible(x: Array, reference: Array) -> Array:
    """LPIPS, or NaN where the images are too small for its network."""
    return metrics.lpips(x, reference) if min(x.shape[:2]) >= SMALLEST["alex"] else jnp.full((), jnp.nan)


@jax.jit
def misfits(images: Array, problems: Problem) -> Array:
    """The root mean square of y − A(x) over what was observed, a number an image; about σ for a good fit.

    Args:
        images: [n, H, W, C].
        problems: one for each, leaves with a first axis n.
    """

    def misfit(image: Array, problem: Problem) -> Array:
        residual = jnp.abs(problem.operator.keep_observed(problem.residual(image)))
        observed = jnp.sum(jnp.abs(problem.operator.keep_observed(jnp.ones_like(problem.y))) > 0)
        return jnp.sqrt(jnp.sum(jnp.square(residual)) / observed.astype(residual.dtype))

    return jax.vmap(misfit)(images, problems)


@jax.jit
def _scores(images: Array, truths: Array, problems: Problem) -> dict[str, Array]:
    return {
        "psnr": jax.vmap(metrics.psnr)(images, truths),
        "ssim": jax.vmap(metrics.ssim)(images, truths),
        "lpips": jax.vmap(_lpips_where_possible)(images, truths),
        "misfit": misfits(images, problems),
    }
