"""Judge a prior on images that it was not trained on: denoising scores by noise level, and draws."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import diffusion, metrics, samplers
from jaxdiff.denoisers import Denoiser
from jaxdiff.samplers.loop import sample
from jaxdiff.typing import Array, Key

__all__ = ["DenoisingScores", "denoising_scores", "denoising_scores_each", "draw"]


class DenoisingScores(NamedTuple):
    """Scores by timestep: means over images [times], or one an image [times, n].

    Attributes:
        psnr: of x̂₀ from one network call, in dB.
        eps_mse: mean squared error of ε̂.
    """

    psnr: np.ndarray
    eps_mse: np.ndarray


@jax.jit
def _score(denoiser: Denoiser, images: Array, noise: Array, labels: Array | None, t: Array) -> tuple[Array, Array]:
    level = denoiser.schedule.at(t)

    def one(x0: Array, noise: Array, label: Array | None) -> tuple[Array, Array]:
        prediction = _of_class(denoiser, label)(diffusion.q_sample(x0, noise, level), t)
        return metrics.psnr(prediction.x0, x0), jnp.mean(jnp.square(prediction.eps - noise))

    return jax.vmap(one)(images, noise, labels)


def _of_class(denoiser: Denoiser, label: Array | None) -> Denoiser:
    return denoiser if label is None else denoiser.replace(label=label)  # type: ignore[attr-defined]


def denoising_scores(
    denoiser: Denoiser,
    images: np.ndarray,
    times: tuple[int, ...],
    *,
    seed: int = 0,
    batch_size: int = 16,
    labels: np.ndarray | None = None,
) -> DenoisingScores:
    """Noise each image to each timestep, denoise it in one call, and compare: means over the images, [times].

    Args:
        denoiser: the prior.
        images: [n, H, W, C] in [-1, 1].
        times: timesteps.
        seed: of the noise.
        batch_size: images a call.
        labels: as in ``denoising_scores_each``.
    """
    each = denoising_scores_each(denoiser, images, times, seed=seed, batch_size=batch_size, labels=labels)
    return DenoisingScores(each.psnr.mean(-1), each.eps_mse.mean(-1))


def denoising_scores_each(
    denoiser: Denoiser,
    images: np.ndarray,
    times: tuple[int, ...],
    *,
    seed: int = 0,
    batch_size: int = 16,
    labels: np.ndarray | None = None,
) -> DenoisingScores:
    """As ``denoising_scores``, with a score for each image, [times, n]: two priors are compared image by image.

    The noise of image i at timestep t depends on (seed, i, t) only, so priors are compared on the same noise.

    Args:
        denoiser: the prior.
        images: [n, H, W, C] in [-1, 1].
        times: timesteps.
        seed: of the noise.
        batch_size: images a call.
        labels: the class of each image, [n], for a class-conditional prior; none: the denoiser's own label for all.
    """
    scores = np.zeros((2, len(times), len(images)))
    for row, t in enumerate(times):
        key = jax.random.fold_in(jax.random.key(seed), t)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(images)))
        noise = np.asarray(jax.vmap(lambda k: jax.random.normal(k, images.shape[1:]))(keys))
        for start in range(0, len(images), batch_size):
            # The last batch is filled up with copies so that every call has one shape.
            index = np.arange(start, start + min(batch_size, len(images)))
            padded = np.minimum(index, len(images) - 1)
            classes = None if labels is None else jnp.asarray(labels[padded], jnp.int32)
            arrays = jnp.asarray(images[padded]), jnp.asarray(noise[padded])
            psnr, eps = _score(denoiser, *arrays, classes, jnp.asarray(t))
            kept = index < len(images)
            scores[0, row, index[kept]], scores[1, row, index[kept]] = np.asarray(psnr)[kept], np.asarray(eps)[kept]
    return DenoisingScores(scores[0], scores[1])


def draw(
    denoiser: Denoiser,
    count: int,
    *,
    steps: int = 50,
    eta: float = 0.0,
    seed: int = 0,
    batch_size: int = 16,
    labels: Array | None = None,
) -> np.ndarray:
    """Unconditional (or class-conditional) DDIM draws [count, H, W, C] in [-1, 1], the same noise for every prior."""

    @jax.jit
    def run(denoiser: Denoiser, keys: Key, labels: Array | None) -> Array:
        def one(key: Key, label: Array | None) -> Array:
            return sample(key, _of_class(denoiser, label), None, samplers.ddim(eta=eta), steps=steps)[0]

        return jax.vmap(one)(keys, labels)

    root = jax.random.key(seed)
    size, images = min(batch_size, count), []
    for start in range(0, count, size):
        index = jnp.arange(start, start + size)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(root, index)
        chosen = None if labels is None else jnp.take(labels, jnp.minimum(index, count - 1))
        images.append(np.asarray(run(denoiser, keys, chosen)))
    return np.clip(np.concatenate(images)[:count], -1, 1)
