"""Sets of pictures beside a reference: FID and KID from files."""

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.evaluation.frechet import Moments, frechet_distance, moments_from, moments_of
from jaxdiff.evaluation.kernel import kernel_distance
from jaxdiff.files import load_image, one_sentence
from jaxdiff.metrics import inception_features
from jaxdiff.metrics.inception import FEATURES, Weights

__all__ = ["LEAST", "Distances", "Features", "distances", "published_moments", "set_features"]

LEAST = 3
"""Pictures of a set: KID needs so many for its standard error."""


class Features(NamedTuple):
    """What is known of a set of pictures.

    Attributes:
        vectors: Inception's features, [n, 2048].
        fitted: how many of the pictures had to be cropped or resized.
    """

    vectors: np.ndarray
    fitted: int


class Distances(NamedTuple):
    """How far a set is from the reference.

    Attributes:
        fid: Fréchet distance of the features.
        kid: kernel distance; NaN where the reference is known by its moments only.
        kid_error: its standard error.
    """

    fid: float
    kid: float
    kid_error: float


def set_features(
    paths: Sequence[Path],
    size: tuple[int, int],
    params: Weights,
    *,
    batch_size: int = 16,
    report: Callable[[int], None] | None = None,
) -> Features:
    """Features of pictures, each cropped around its centre and resized to ``size`` where it differs.

    Args:
        paths: the pictures.
        size: (H, W) of all sets that are compared: the features of small and of large pictures differ.
        params: weights of Inception.
        batch_size: pictures at a time.
        report: told the number of pictures after each batch.

    Raises:
        ValueError: if a picture cannot be read.
    """
    vectors, fitted = [], 0
    placed = jax.device_put(dict(params))
    for pixels, changed in _batches(paths, size, batch_size):
        count, fitted = len(pixels), fitted + changed
        full = pixels[np.minimum(np.arange(batch_size), count - 1)]  # all batches have one size, and compile once
        vectors.append(np.asarray(_features(full, placed))[:count])
        if report is not None:
            report(count)
    return Features(np.concatenate(vectors), fitted)


def _batches(paths: Sequence[Path], size: tuple[int, int], batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    for first in range(0, len(paths), batch_size):
        loaded = [load_image(path, size=size, resize=True) for path in paths[first : first + batch_size]]
        yield np.stack([each.pixels for each in loaded]), sum(each.size != tuple(size) for each in loaded)


_features = jax.jit(inception_features)


def published_moments(path: Path) -> Moments:
    """The statistics of a data set from an .npz file with ``mu`` [2048] and ``sigma`` [2048, 2048].

    pytorch-fid and the codes of guided-diffusion and EDM write such files.

    Raises:
        ValueError: if the file is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            mean, covariance = (np.asarray(stored[name], np.float64) for name in ("mu", "sigma"))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(one_sentence(f"{path} has no statistics mu and sigma that can be read: {error}")) from None
    if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
        raise ValueError(
            f"{path} has mu {mean.shape} and sigma {covariance.shape}; Inception's features have {FEATURES} numbers."
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{path} has numbers that are not finite.")
    return moments_from(mean, covariance)


def distances(vectors: np.ndarray, reference: np.ndarray | Moments) -> Distances:
    """FID, and KID where the reference's vectors are known."""
    fid = partial(_fid, jnp.asarray(vectors))
    if isinstance(reference, Moments):
        return Distances(float(fid(reference)), math.nan, math.nan)
    kid: Any = _kid(jnp.asarray(vectors), jnp.asarray(reference))
    return Distances(float(fid(moments_of(jnp.asarray(reference)))), float(kid.value), float(kid.standard_error))


@jax.jit
def _fid(vectors: jax.Array, reference: Moments) -> jax.Array:
    return frechet_distance(moments_of(vectors), reference)


_kid = jax.jit(kernel_distance)
