"""The scores of restored images: against the truth, and against what was measured."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import metrics
from jaxdiff.metrics.lpips import Weights
from jaxdiff.problems import Problem
from jaxdiff.typing import Array

__all__ = ["EXACT", "SCORES", "misfits", "scores"]

SCORES = ("psnr", "ssim", "lpips", "misfit")
EXACT = 150.0
"""dB, in place of infinity: what float32 can tell apart."""


def scores(
    images: Array | np.ndarray, truths: Array | np.ndarray, problems: Problem, *, net: str = "alex"
) -> dict[str, np.ndarray]:
    """The scores of each image.

    Args:
        images: [B, H, W, C], restored.
        truths: [B, H, W, C] in [-1, 1].
        problems: what was measured; leaves have a first axis B.
        net: of LPIPS, "alex" or "vgg".

    Returns:
        By name, [B]: PSNR (dB, at most ``EXACT``), SSIM, LPIPS, and the misfit. The misfit is the RMS of y − A(x) over the
        observed entries. It is σ if the fit is as good as the noise allows. A score is NaN if a run diverged, or if an image
        is too small.
    """
    images, truths = jnp.asarray(images), jnp.asarray(truths)
    finite = np.isfinite(np.asarray(images)).all(axis=(1, 2, 3))
    shown = jnp.nan_to_num(images, nan=0.0, posinf=1.0, neginf=-1.0)
    # The weights are an argument, not constants: VGG16 has 59 MB.
    found = _scores(shown, truths, problems, dict(metrics.lpips_params(net)), net=net)
    found["psnr"] = jnp.minimum(found["psnr"], EXACT)
    return {name: np.where(finite, np.asarray(found[name], np.float64), np.nan) for name in SCORES}


@jax.jit
def misfits(images: Array, problems: Problem) -> Array:
    """The root mean square of y − A(x) over what was observed, a number an image; about σ for a good fit.

    Args:
        images: [n, H, W, C].
        problems: one for each, leaves with a first axis n.
    """

    def misfit(image: Array, problem: Problem) -> Array:
        residual = jnp.abs(problem.keep_observed(problem.residual(image)))
        observed = jnp.sum(jnp.abs(problem.keep_observed(jnp.ones_like(problem.y))) > 0)
        return jnp.sqrt(jnp.sum(jnp.square(residual)) / observed.astype(residual.dtype))

    return jax.vmap(misfit)(images, problems)


@partial(jax.jit, static_argnames="net")
def _scores(images: Array, truths: Array, problems: Problem, params: Weights, *, net: str) -> dict[str, Array]:
    return {**metrics.evaluate(images, truths, net=net, params=params), "misfit": misfits(images, problems)}
