"""Noise models: how a clean measurement becomes a noisy one, and how likely this is.

A noise model is a frozen pytree with ``sample(key, clean)`` and ``log_likelihood(y, clean)``. The latter is log p(y | clean),
summed over the entries of one measurement. A ``Problem`` can have a noise model, which methods with a likelihood use. All
values are on the [-1, 1] scale. For photons, -1 is no light.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import concrete, number
from jaxdiff.names import unknown
from jaxdiff.numerics import normal, safe_norm
from jaxdiff.typing import Array, Key, Measurement, Scalar

__all__ = [
    "Gaussian",
    "NoiseModel",
    "Poisson",
    "PoissonGaussian",
    "SaltAndPepper",
    "gaussian",
    "named",
    "poisson",
    "poisson_gaussian",
    "salt_and_pepper",
]

WHITE = 255.0
FEWEST = 1e-2
"""Least expected count. At zero light the log-likelihood of any photon would be minus infinity, so that below this count it
goes on along its tangent."""


class NoiseModel:
    """The base class of noise models. For your own, derive from it, and write ``sample``, ``log_density`` and ``level``.

    ``extra_variance`` is the variance of additional Gaussian noise, by which methods soften a likelihood.
    """

    title: ClassVar[str] = "this noise"
    """The name of the model in sentences."""

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement."""
        raise NotImplementedError

    def log_density(self, y: Measurement, clean: Measurement, extra_variance: Scalar | float = 0.0) -> Array:
        """The logarithm of p(y | clean), entry by entry."""
        raise NotImplementedError

    def level(self, y: Measurement) -> Scalar:
        """The root mean square of the noise, estimated from y. Step sizes and tables use it as σ."""
        raise NotImplementedError

    def log_likelihood(self, y: Measurement, clean: Measurement, extra_variance: Scalar | float = 0.0) -> Scalar:
        """The logarithm of p(y | clean), summed over entries."""
        return jnp.sum(self.log_density(y, clean, extra_variance))

    def norm(self, y: Measurement, clean: Measurement, seen: Array) -> Scalar:
        """The distance of ``clean`` from y, on the scale of ‖y − clean‖. DPS follows its gradient.

        Args:
            y: the measurement.
            clean: A(x).
            seen: 1 for an entry that counts, and 0 for the others.
        """
        return safe_norm(seen * self.informative(y) * (y - clean))

    def informative(self, y: Measurement) -> Array:
        """1 for an entry of y that says something about the image, and 0 for one that the noise replaced."""
        return jnp.ones_like(y)


@struct.dataclass(eq=False)
class Gaussian(NoiseModel):
    """y = clean + σ n.

    Attributes:
        std: σ.
    """

    title = "Gaussian noise"

    std: Array

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement (``key`` may be recorded noise)."""
        return clean + self.std.astype(clean.dtype) * normal(key, clean.shape, clean.dtype)

    def log_density(self, y: Measurement, clean: Measurement, extra_variance: Scalar | float = 0.0) -> Array:
        """−½ ((y − clean)/σ)² − log(σ √2π)."""
        return _log_normal(y - clean, jnp.square(self.std.astype(y.dtype)) + jnp.asarray(extra_variance, y.dtype))

    def level(self, y: Measurement) -> Scalar:
        """σ."""
        return self.std.astype(y.dtype)


@struct.dataclass(eq=False)
class Poisson(NoiseModel):
    """y = 2 k/s − 1, k ~ Poisson(s (clean + 1)/2), s = 255 · rate. Both ``clean`` and y are clipped to [-1, 1].

    Attributes:
        rate: photons per grey level.

    Reference:
        Chung et al., ICLR 2023. This is the noise of their code. The likelihood does not clip ``clean``.
    """

    title = "Poisson noise"

    rate: Array

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement."""
        light = jnp.maximum(self._light(jnp.clip(clean, -1, 1)), 0)
        return self.from_counts(_counts(key, light))

    def from_counts(self, counts: Array) -> Measurement:
        """The measurement for a number of photons, clipped to [-1, 1]."""
        return jnp.clip(2 * counts / (WHITE * self.rate.astype(counts.dtype)) - 1, -1, 1)

    def log_density(self, y: Measurement, clean: Measurement, extra_variance: Scalar | float = 0.0) -> Array:
        """(k + e) log(λ + e) − (λ + e) − log (k + e)!, where k is the count that y shows, with the clipping at white.

        e is the extra variance in counts. A Poisson variable with mean λ + e has the same mean and variance as k + e with
        this noise. If λ + e is below max(e, ``FEWEST``), the curve goes on along its tangent. So a gradient leads back where
        photons were seen.

        Reference:
            The shift by e is from Snyder et al., "Compensation for readout noise in CCD images", JOSA A 1995.
        """
        counts = jnp.maximum(jnp.round(self._light(y)), 0)
        extra = jnp.asarray(extra_variance, y.dtype) * jnp.square(WHITE / 2 * self.rate.astype(y.dtype))
        least = jnp.maximum(extra, FEWEST)
        seen, light = counts + extra, self._light(clean) + extra
        best = _log_best(seen)
        below = counts * jnp.minimum(light - least, 0) / least
        return best - _deviance(seen, jnp.maximum(light, least)) + below

    def level(self, y: Measurement) -> Scalar:
        """√ mean 2 (y + 1)/s, but at least the step of one photon."""
        step = 2 / (WHITE * self.rate.astype(y.dtype))
        return jnp.sqrt(jnp.mean(jnp.maximum(step * (y + 1), jnp.square(step))))

    def norm(self, y: Measurement, clean: Measurement, seen: Array) -> Scalar:
        """‖y − clean‖ · mean 1/|y|, as in the code of DPS. |y| is at least half a photon's step, 1/s."""
        size = jnp.maximum(jnp.abs(y), 1 / (WHITE * self.rate.astype(y.dtype)))
        return safe_norm(seen * (y - clean)) * jnp.sum(seen / size) / jnp.sum(seen)

    def _light(self, clean: Array) -> Array:
        return (clean + 1) * (WHITE / 2 * self.rate.astype(clean.dtype))


@struct.dataclass(eq=False)
class PoissonGaussian(NoiseModel):
    """y = 2 k/s − 1 + σ n, k ~ Poisson(s (clean + 1)/2), s = 255 · rate: photons, then read-out noise.

    The likelihood is that of a Gaussian with the same mean and variance, 2 (clean + 1)/s + σ². This is a good approximation for
    tens of photons or more, or if σ is larger than the step 2/s.

    Attributes:
        rate: photons per grey level.
        std: σ of the read-out noise.

    Reference:
        Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-image Raw-data", IEEE TIP 2008.
    """

    title = "Poisson–Gaussian noise"

    rate: Array
    std: Array

    def sample(self, key: Key, clean: Measurement) -> Measurement:
        """Draw a noisy measurement."""
        count_key, read_key = jax.random.split(key)
        full = WHITE * self.rate.astype(clean.dtype)
        counts = _counts(count_key, jnp.maximum((clean + 1) * (full / 2), 0))
        return 2 * counts / full - 1 + self.std.astype(clean.dtype) * normal(read_key, clean.shape, clean.dtype)

    def log_density(self, y: Measurement, clean: Measurement, extra_variance: Scalar | float = 0.0) -> Array:
        """The log-density of a Gaussian with the same mean and variance.

        Below black there is no light, but the mean still falls, so that a gradient leads back.
        """
        return _log_normal(y - clean, self._variance(clean) + jnp.asarray(extra_variance, y.dtype))

    def level(self, y: Measurement) -> Scalar:
        """√ mean 2 (y + 1)/s + σ²."""
        return jnp.sqrt(jnp.mean(self._variance(y)))

    def norm(self, y: Measurement, clean: Measurement, seen: Array) -> Scalar:
        """‖(y − clean)/√v‖ · √(mean v), where v is the variance for y as the clean value."""
        variance = self._variance(y)
        return safe_norm(seen * (y - clean) / jnp.sqrt(variance)) * jnp.sqrt(jnp.mean(variance))

    def _variance(self, clean: Array) -> Array:
        """2 (clean + 1)/s + σ²."""
        light = jnp.maximum(clean + 1, 0)
        return 2 * light / (WHITE * self.rate.astype(clean.dtype)) + jnp.square(self.std.astype(clean.dtype))


@struct.dataclass(eq=False)
class SaltAndPepper(NoiseModel):
    """y = ±1 with probability p/2 each, else clean + σ n.

    An entry that is exactly ±1 was replaced almost surely, so it says nothing about the image.

    Attributes:
        fraction: p.
        std: σ > 0 of the other entries.
    """

    title = "salt-and-pepper noise"

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

    def log_density(self, y: Measurement, clean: Measurement, extra_variance: Scalar | float = 0.0) -> Array:
        """The density log((1 − p) N(y; clean, σ²)), or log(p/2) if y is ±1."""
        p = self.fraction.astype(y.dtype)
        variance = jnp.square(self.std.astype(y.dtype)) + jnp.asarray(extra_variance, y.dtype)
        density = jnp.log1p(-p) + _log_normal(y - clean, variance)
        mass = jnp.log(jnp.maximum(p / 2, jnp.finfo(y.dtype).tiny))
        return jnp.where(self.informative(y) > 0, density, mass)

    def level(self, y: Measurement) -> Scalar:
        """σ of the entries that were not replaced."""
        return self.std.astype(y.dtype)

    def informative(self, y: Measurement) -> Array:
        """0 for an entry that is ±1, and 1 for the others."""
        return (jnp.abs(y) != 1).astype(y.dtype)


def gaussian(std: float | Array) -> Gaussian:
    """White Gaussian noise with standard deviation ``std`` on the [-1, 1] scale.

    Raises:
        ValueError: if ``std`` is not positive.
    """
    return Gaussian(number("std", std, open_low=True))


def poisson(rate: float | Array = 1.0) -> Poisson:
    """Photon noise. Each of 255 grey levels has ``rate`` photons.

    Raises:
        ValueError: if the rate is not positive.

    >>> poisson(1.0).from_counts(jnp.array([0.0, 127.5, 255.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return Poisson(number("rate", rate, open_low=True))


def poisson_gaussian(rate: float | Array = 1.0, std: float | Array = 0.02) -> PoissonGaussian:
    """Photon noise, and then the Gaussian noise of the read-out.

    Args:
        rate: photons for each of 255 grey levels.
        std: σ of the read-out noise on [-1, 1].

    Raises:
        ValueError: if one of them is not positive.
    """
    return PoissonGaussian(number("rate", rate, open_low=True), number("std", std, open_low=True))


def salt_and_pepper(fraction: float | Array = 0.1, std: float | Array = 0.02) -> SaltAndPepper:
    """A fraction of the entries becomes black or white. The others get Gaussian noise.

    Args:
        fraction: p, in [0, 1[. One half of it becomes black, and the other half white.
        std: σ > 0 of the other entries, on [-1, 1].

    Raises:
        ValueError: if the fraction is not in [0, 1[, or ``std`` is not positive.
    """
    share = number("fraction", fraction)
    if concrete(share) and not np.all(np.asarray(share) < 1):
        raise ValueError(f"fraction must lie in [0, 1[, got {fraction!r}.")
    return SaltAndPepper(share, number("std", std, open_low=True))


NAMED: dict[str, Callable[..., NoiseModel]] = {
    "poisson": poisson,
    "poisson-gaussian": poisson_gaussian,
    "salt-and-pepper": salt_and_pepper,
}
"""Name → the function that makes the model. Its numbers follow a colon."""


def named(text: str) -> NoiseModel:
    """A noise model by name: ``poisson[:RATE]``, ``poisson-gaussian[:RATE[,STD]]`` or ``salt-and-pepper[:FRACTION[,STD]]``.

    Raises:
        ValueError: if the name is unknown, or the model cannot take these numbers.

    >>> float(named("poisson:0.5").rate)
    0.5
    """
    name, _, numbers = text.partition(":")
    if name == "gaussian":
        raise ValueError(f"noise {text!r} takes no number; give its σ with --noise-std, or as noise=σ in Python.")
    if name not in NAMED:
        raise unknown("noise", name, ("gaussian", *NAMED))
    most = 1 if name == "poisson" else 2
    try:
        values = [float(number) for number in numbers.split(",")] if numbers else []
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)) or len(values) > most or text.endswith(":"):
        raise ValueError(
            f"noise {text!r} is not possible: {name} takes at most {('one number', 'two numbers')[most - 1]}, "
            f"as in {EXAMPLE[name]}."
        )
    return NAMED[name](*values)


EXAMPLE = {
    "poisson": "poisson:0.5",
    "poisson-gaussian": "poisson-gaussian:0.5,0.02",
    "salt-and-pepper": "salt-and-pepper:0.1,0.02",
}


MANY = 1e6
"""Photons from which a Poisson variable is drawn as a Gaussian: the skewness is 0.001."""
STIRLING = 100.0
"""Photons from which Stirling's series has the digits of float32."""


def _counts(key: Key, light: Array) -> Array:
    """k ~ Poisson(light), in the type of ``light``."""
    few = jax.random.poisson(key, jnp.minimum(light, MANY)).astype(light.dtype)
    many = light + jnp.sqrt(light) * normal(jax.random.fold_in(key, 1), light.shape, light.dtype)
    return jnp.where(light > MANY, many, few)


def _log_best(seen: Array) -> Array:
    """k log k − k − log k!, without the rounding of its large terms."""
    few, many = jnp.minimum(seen, STIRLING), jnp.maximum(seen, STIRLING)
    exact = jax.scipy.special.xlogy(few, few) - few - jax.scipy.special.gammaln(few + 1)
    return jnp.where(seen > STIRLING, -0.5 * jnp.log(2 * math.pi * many) - 1 / (12 * many), exact)


def _log_normal(difference: Array, variance: Array) -> Array:
    return -0.5 * (jnp.square(difference) / variance + jnp.log(2 * math.pi * variance))


def _deviance(seen: Array, expected: Array) -> Array:
    """k log(k/λ) − k + λ ≥ 0 for λ > 0, without the rounding of its large terms where k is near λ."""
    some = jnp.where(seen > 0, seen, jnp.ones_like(seen))
    u = (expected - some) / some
    log = jnp.where(jnp.abs(u) < 0.5, jnp.log1p(jnp.clip(u, -0.5, 0.5)), jnp.log(expected / some))
    return jnp.where(seen > 0, some * (u - log), expected)
