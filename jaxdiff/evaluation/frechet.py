"""The Fréchet distance between two sets of feature vectors: FID, on Inception's features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, Scalar

__all__ = ["Moments", "frechet_distance", "moments_from", "moments_of"]


class Moments(NamedTuple):
    """The Gaussian that has the mean and covariance of a set of vectors.

    Attributes:
        mean: μ [D].
        root: R [k, D] with covariance Σ = RᵀR; k is the number of vectors, or D if that is less.
    """

    mean: Array
    root: Array


def moments_of(vectors: Array) -> Moments:
    """Mean and covariance of vectors [n, D], n ≥ 2, the covariance with 1/(n − 1).

    Raises:
        ValueError: if there are fewer than two vectors.
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(f"a covariance needs at least two vectors, [n, D]; got shape {vectors.shape}.")
    mean = jnp.mean(vectors, axis=0)
    root = (vectors - mean[None]) / jnp.sqrt(len(vectors) - 1.0)
    return Moments(mean, jnp.linalg.qr(root, mode="r") if root.shape[0] > root.shape[1] else root)


def moments_from(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    """A Gaussian of a given mean [D] and covariance [D, D], such as published statistics of a data set.

    The root is a pivoted Cholesky factor, in float64 on the host: Σ may be singular, as that of few pictures is.

    Raises:
        ValueError: if the shapes do not fit.
    """
    from scipy.linalg import lapack  # a quarter of a second, which other commands need not wait for

    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if mean.ndim != 1 or covariance.shape != (*mean.shape, *mean.shape):
        raise ValueError(f"a mean [D] and a covariance [D, D] are needed, got shapes {mean.shape}, {covariance.shape}.")
    factor, places, rank, _ = lapack.dpstrf(covariance)  # Σ[places][:, places] = factorᵀ factor
    root = np.empty((rank, len(mean)))
    root[:, places - 1] = np.triu(factor)[:rank]
    return Moments(jnp.asarray(mean, jnp.float32), jnp.asarray(root, jnp.float32))


def frechet_distance(a: Moments, b: Moments) -> Scalar:
    """Squared Fréchet distance of two Gaussians.

        |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½),   tr (Σ_a Σ_b)^½ = Σ_i s_i(R_a R_bᵀ)

    with s_i the singular values. So no square root of a singular matrix is taken, and fewer vectors than D do no harm to
    the precision.

    On Inception features of images this is FID. It is biased: two sets from one distribution have a positive distance, which
    falls with the number of images. So compare only sets of one size. ``kernel_distance`` is unbiased.

    Raises:
        ValueError: if the vectors have different lengths.

    Reference: Heusel et al. 2017, Eq. 6; Dowson & Landau, "The Fréchet distance between multivariate normal distributions",
    1982.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"vectors of one length are compared, got {a.mean.shape} and {b.mean.shape}.")
    across = jnp.matmul(a.root, b.root.T, precision=jax.lax.Precision.HIGHEST)
    shared = jnp.sum(jnp.linalg.svd(across, compute_uv=False))
    traces = jnp.sum(jnp.square(a.root)) + jnp.sum(jnp.square(b.root))
    return jnp.sum(jnp.square(a.mean - b.mean)) + traces - 2 * shared
