"""Priors with an exact denoiser, Gaussians and their mixtures, for tests against posteriors in closed form."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import concrete
from jaxdiff._summary import Summarised
from jaxdiff.denoisers.network import Prediction
from jaxdiff.schedules import NoiseSchedule
from jaxdiff.typing import Array, Shape

__all__ = ["GaussianMixturePrior", "GaussianPrior", "gaussian_mixture_prior", "gaussian_prior"]

_product = partial(jnp.matmul, precision="highest")
"""Accelerators otherwise round float32 to bfloat16 or TF32, and what is exact here would not be."""


@struct.dataclass
class GaussianPrior(Summarised):
    """x₀ ~ N(mean, covariance) with its exact denoiser, for tests against posteriors in closed form.

    E[x₀ | x_t] = μ + √ᾱ Σ (ᾱ Σ + (1−ᾱ) I)⁻¹ (x_t − √ᾱ μ). In the eigenbasis of Σ, this takes two matrix products.

    Attributes:
        mean: [H, W, C].
        basis: [D, D], D = H·W·C, eigenvectors of Σ in columns.
        eigenvalues: eigenvalues of Σ, [D], at least 0.
        schedule: ᾱ.
    """

    mean: Array
    basis: Array
    eigenvalues: Array
    schedule: NoiseSchedule

    @property
    def image_shape(self) -> Shape:
        """(H, W, C)."""
        return self.mean.shape

    @property
    def covariance(self) -> Array:
        """Σ, [D, D]."""
        return _product(self.basis * self.eigenvalues[None, :], self.basis.T)

    def __call__(self, x_t: Array, t: Array, s: Array | None = None) -> Prediction:
        """The exact posterior mean of x₀ given x_t, and the ε that belongs to it."""
        del s
        level = self.schedule.at(t)
        signal = jnp.sqrt(level.alpha_bar)
        gain = signal * self.eigenvalues / (level.alpha_bar * self.eigenvalues + level.one_minus_alpha_bar)
        centred = _product(self.basis.T, jnp.ravel(x_t - signal * self.mean))
        x0 = self.mean + jnp.reshape(_product(self.basis, gain * centred), self.mean.shape)
        return Prediction(x0, diffusion.eps_from_x0(x_t, x0, level), None)


def gaussian_prior(mean: Array, covariance: Array, schedule: NoiseSchedule) -> GaussianPrior:
    """Make a ``GaussianPrior`` from mean [H, W, C] and covariance [D, D], D = H·W·C.

    Raises:
        ValueError: if the shapes do not fit, a value is not finite or the covariance is not positive semi-definite.
    """
    mean, covariance = jnp.asarray(mean), jnp.asarray(covariance)
    if mean.ndim != 3:
        raise ValueError(f"the mean must be an image [H, W, C], got shape {mean.shape}.")
    known = concrete(mean) and concrete(covariance)
    if known and not bool(jnp.isfinite(mean).all() & jnp.isfinite(covariance).all()):
        raise ValueError("mean and covariance must be finite.")
    if covariance.shape != (mean.size, mean.size):
        raise ValueError(f"covariance must be [{mean.size}, {mean.size}] for this mean, got {covariance.shape}.")
    eigenvalues, basis = jnp.linalg.eigh((covariance + covariance.T) / 2)
    if known and float(eigenvalues[0]) < -1e-5 * float(eigenvalues[-1]):
        raise ValueError("the covariance has a negative eigenvalue; give a positive semi-definite matrix.")
    return GaussianPrior(mean, basis, jnp.maximum(eigenvalues, 0), schedule)


@struct.dataclass
class GaussianMixturePrior(Summarised):
    """x₀ ~ Σ_k w_k N(μ_k, v_k I) with its exact denoiser.

    E[x₀ | x_t] = Σ_k r_k(x_t) m_k(x_t). Here m_k is the posterior mean of component k, and the responsibilities are
    r_k ∝ w_k N(x_t; √ᾱ μ_k, (ᾱ v_k + 1−ᾱ) I).

    Attributes:
        weights: [K], sum 1.
        means: [K, H, W, C].
        variances: [K].
        schedule: ᾱ.
    """

    weights: Array
    means: Array
    variances: Array
    schedule: NoiseSchedule

    @property
    def image_shape(self) -> Shape:
        """(H, W, C)."""
        return self.means.shape[1:]

    def __call__(self, x_t: Array, t: Array, s: Array | None = None) -> Prediction:
        """The exact posterior mean of x₀ given x_t, and the ε that belongs to it."""
        del s
        level = self.schedule.at(t)
        signal = jnp.sqrt(level.alpha_bar)
        total = level.alpha_bar * self.variances + level.one_minus_alpha_bar
        offset = x_t[None] - signal * self.means
        axes = tuple(range(1, offset.ndim))
        log_weight = (
            jnp.log(self.weights)
            - jnp.sum(offset**2, axis=axes) / (2 * total)
            - (x_t.size / 2) * jnp.log(2 * jnp.pi * total)
        )
        responsibility = jax.nn.softmax(log_weight)
        gain = jnp.reshape(signal * self.variances / total, (-1,) + (1,) * x_t.ndim)
        x0 = jnp.tensordot(responsibility, self.means + gain * offset, axes=1, precision="highest")
        return Prediction(x0, diffusion.eps_from_x0(x_t, x0, level), None)


def gaussian_mixture_prior(
    weights: Array, means: Array, variances: Array, schedule: NoiseSchedule
) -> GaussianMixturePrior:
    """Make a ``GaussianMixturePrior`` of K components; weights are normalised.

    Raises:
        ValueError: if the numbers of components differ, a value is not finite, or a weight or variance is not positive.
    """
    weights, means, variances = jnp.asarray(weights), jnp.asarray(means), jnp.asarray(variances)
    if not (weights.shape == variances.shape == means.shape[:1]):
        raise ValueError(f"K differs: weights {weights.shape}, means {means.shape}, variances {variances.shape}.")
    known = all(map(concrete, (weights, means, variances)))
    if known and not bool(jnp.all(weights > 0) & jnp.all(variances > 0)):
        raise ValueError("weights and variances of a mixture must be positive.")
    if known and not all(bool(jnp.isfinite(values).all()) for values in (weights, means, variances)):
        raise ValueError("weights, means and variances of a mixture must be finite.")
    return GaussianMixturePrior(weights / weights.sum(), means, variances, schedule)
