"""Noise models: how a clean measurement becomes a noisy one, and how likely that is.

Each is a frozen pytree with ``sample(key, clean)`` and ``log_likelihood(y, clean)``. The latter is log p(y | clean), summed
over the entries of one measurement. All live on the [-1, 1] scale; where light is counted, -1 is no light.
"""

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff.numerics import normal
from jaxdiff.typing import Array, Key, Measurement, Scalar

__all__ = [
    "Gaussian",
    "NoiseModel",
    "Poisson",
    "PoissonGaussian",
    "SaltAndPepper",
    "gaussian",
    "poisson",
    "poisson_gaussian",
    "salt_and_pepper",
]

WHITE = 255.0
FEWEST = 1e-2
"""Least expected count. At zero light the log-likelihood of any photon would be minus infinity, so that below this count it
goes on along its tangent."""


class NoiseModel(Protocol):
    """What a noise model can do."""

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement."""
        ...

    def log_likelihood(self, y: Measurement, clean: Measurement) -> Scalar:
        """The logarithm of p(y | clean), summed over entries."""
        ...


@struct.dataclass(eq=False)
class Gaussian:
    """y = clean + σ n.

    Attributes:
        std: σ.
    """

    std: Array

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement (``key`` may be recorded noise)."""
        return clean + self.std.astype(clean.dtype) * normal(key, clean.shape, clean.dtype)

    def log_likelihood(self, y: Measurement, clean: Measurement) -> Scalar:
        """−½ Σ ((y − clean)/σ)² − m log(σ √2π)."""
        return jnp.sum(_log_normal(y - clean, jnp.square(self.std.astype(y.dtype))))


@struct.dataclass(eq=False)
class Poisson:
    """y = 2 k/s − 1, k ~ Poisson(s (clean + 1)/2), s = 255 · rate; both ``clean`` and y are clipped to [-1, 1].

    Attributes:
        rate: photons per grey level.

    Reference:
        Chung et al., ICLR 2023, whose code this follows; the likelihood takes ``clean`` as it is.
    """

    rate: Array

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement."""
        return self.from_counts(
            jax.random.poisson(key, self._expected(jnp.clip(clean, -1, 1), 0.0)).astype(clean.dtype)
        )

    def from_counts(self, counts: Array) -> Measurement:
        """The measurement that a number of photons makes, clipped to [-1, 1]."""
        return jnp.clip(2 * counts / (WHITE * self.rate.astype(counts.dtype)) - 1, -1, 1)

    def log_likelihood(self, y: Measurement, clean: Measurement) -> Scalar:
        """Σ k log λ − λ − log k!, with k the count that y shows (clipping at white is not undone).

        Below black log λ goes on falling, evenly, so that a gradient leads back from where photons were seen.
        """
        counts = jnp.maximum(jnp.round(self._expected(y, 0.0)), 0)
        expected, light = self._expected(clean, FEWEST), self._expected(clean, -math.inf)
        log = jnp.where(light > FEWEST, jnp.log(expected), math.log(FEWEST) + (light - FEWEST) / FEWEST)
        return jnp.sum(counts * log - expected - jax.scipy.special.gammaln(counts + 1))

    def _expected(self, clean: Array, least: float) -> Array:
        return jnp.maximum((clean + 1) * (WHITE / 2 * self.rate.astype(clean.dtype)), least)


@struct.dataclass(eq=False)
class PoissonGaussian:
    """y = 2 k/s − 1 + σ n, k ~ Poisson(s (clean + 1)/2), s = 255 · rate: photons, then read-out noise.

    The likelihood is that of a Gaussian with the same mean and variance, 2 (clean + 1)/s + σ². It is close from some tens of
    photons on, or where σ is larger than the step 2/s.

    Attributes:
        rate: photons per grey level.
        std: σ of the read-out.

    Reference:
        Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-image Raw-data", IEEE TIP 2008.
    """

    rate: Array
    std: Array

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement."""
        count_key, read_key = jax.random.split(key)
        full = WHITE * self.rate.astype(clean.dtype)
        counts = jax.random.poisson(count_key, jnp.maximum((clean + 1) * (full / 2), 0)).astype(clean.dtype)
        return 2 * counts / full - 1 + self.std.astype(clean.dtype) * normal(read_key, clean.shape, clean.dtype)

    def log_likelihood(self, y: Measurement, clean: Measurement) -> Scalar:
        """That of a Gaussian of the same mean and variance.

        Below black no light is left, but the mean goes on falling, so that a gradient leads back.
        """
        light = jnp.maximum(clean + 1, 0)
        variance = 2 * light / (WHITE * self.rate.astype(y.dtype)) + jnp.square(self.std.astype(y.dtype))
        return jnp.sum(_log_normal(y - clean, variance))


@struct.dataclass(eq=False)
class SaltAndPepper:
    """y = ±1 with probability p/2 each, else clean + σ n.

    An entry that is exactly ±1 was hit, almost surely, and says nothing of the image.

    Attributes:
        fraction: p.
        std: σ > 0 of the others.
    """

    fraction: Array
    std: Array

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement."""
        hit_key, noise_key = jax.random.split(key)
        chance = jax.random.uniform(hit_key, clean.shape, clean.dtype)
        p = self.fraction.astype(clean.dtype)
        ones = jnp.ones_like(clean)
        spoilt = jnp.where(chance < p / 2, -ones, ones)
        others = clean + self.std.astype(clean.dtype) * normal(noise_key, clean.shape, clean.dtype)
        return jnp.where(chance < p, spoilt, others)

    def log_likelihood(self, y: Measurement, clean: Measurement) -> Scalar:
        """Σ log(p/2) where y is ±1, log((1 − p) N(y; clean, σ²)) elsewhere."""
        p = self.fraction.astype(y.dtype)
        density = jnp.log1p(-p) + _log_normal(y - clean, jnp.square(self.std.astype(y.dtype)))
        mass = jnp.log(jnp.maximum(p / 2, jnp.finfo(y.dtype).tiny))
        return jnp.sum(jnp.where(jnp.abs(y) == 1, mass, density))


def gaussian(std: float | Array) -> Gaussian:
    """White Gaussian noise of standard deviation ``std`` on the [-1, 1] scale.

    Raises:
        ValueError: if it is not positive.
    """
    return Gaussian(_positive("std", std))


def poisson(rate: float | Array = 1.0) -> Poisson:
    """Photon noise, ``rate`` photons per grey level of 255.

    Raises:
        ValueError: if the rate is not positive.

    >>> poisson(1.0).from_counts(jnp.array([0.0, 127.5, 255.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return Poisson(_positive("rate", rate))


def poisson_gaussian(rate: float | Array = 1.0, std: float | Array = 0.02) -> PoissonGaussian:
    """Photon noise of ``rate`` photons per grey level, then Gaussian noise of ``std``.

    Raises:
        ValueError: if either is not positive.
    """
    return PoissonGaussian(_positive("rate", rate), _positive("std", std))


def salt_and_pepper(fraction: float | Array = 0.1, std: float | Array = 0.02) -> SaltAndPepper:
    """A ``fraction`` of the entries black or white, Gaussian noise of ``std`` on the others.

    Raises:
        ValueError: if the fraction is not in [0, 1[, or ``std`` is not positive.
    """
    share = jnp.asarray(fraction, jnp.float32)
    if not isinstance(share, jax.core.Tracer) and not np.all((np.asarray(share) >= 0) & (np.asarray(share) < 1)):
        raise ValueError(f"fraction must lie in [0, 1[, got {fraction!r}.")
    return SaltAndPepper(share, _positive("std", std))


def _positive(name: str, value: Any) -> Array:
    number = jnp.asarray(value, jnp.float32)
    if not isinstance(number, jax.core.Tracer) and not np.all((np.asarray(number) > 0) & np.isfinite(number)):
        raise ValueError(f"{name} must be positive and finite, got {value!r}.")
    return number


def _log_normal(difference: Array, variance: Array) -> Array:
    return -0.5 * (jnp.square(difference) / variance + jnp.log(2 * math.pi * variance))
