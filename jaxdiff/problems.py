"""An inverse problem: a measurement, its operator, and the noise level."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike

from jaxdiff._summary import Summarised
from jaxdiff.numerics import normal
from jaxdiff.operators.base import Operator
from jaxdiff.typing import Array, Image, Key, Measurement, Scalar

__all__ = ["Problem", "observe"]

NOISE_FLOOR = 1e-3
"""Smallest σ that a solve with σ² on its diagonal takes, as DiffPIR does: σ = 0 would divide by zero."""


@struct.dataclass
class Problem(Summarised):
    """y = A(x) + σ n, n ~ N(0, I).

    Attributes:
        operator: A.
        y: the measurement, of the operator's ``measurement_shape``.
        noise_std: σ, a standard deviation on the [-1, 1] scale (twice the number on the [0, 1] scale).
    """

    operator: Operator
    y: Measurement
    noise_std: Array

    def residual(self, x: Image) -> Array:
        """y − A(x)."""
        return self.y - self.operator(x)

    def noise_level(self, *, floor: float = NOISE_FLOOR) -> Scalar:
        """σ of each *real* number measured (σ/√2 for complex measurements), with σ at least ``floor``."""
        sigma = jnp.asarray(self.noise_std)
        sigma = jnp.maximum(sigma, floor) if floor > 0 else sigma
        return sigma / 2**0.5 if jnp.issubdtype(self.y.dtype, jnp.complexfloating) else sigma

    def noise_variance(self, *, floor: float = NOISE_FLOOR) -> Scalar:
        """σ² of each *real* number measured (half of it for complex measurements), with σ at least ``floor``."""
        return self.noise_level(floor=floor) ** 2

    def observed_count(self) -> Scalar:
        """How many entries of y say something of the image."""
        return jnp.sum(jnp.real(self.operator.keep_observed(jnp.ones_like(self.y))))


def observe(key: Key, operator: Operator, image: Image, noise_std: float | Array) -> Problem:
    """Measure an image: y = A(x) + σ n.

    Noise is added to every entry of the measurement, masked ones too, as the reference codes do. For a complex
    measurement n is circular complex noise of total variance 1.

    Args:
        key: for the noise (or recorded noise of y's shape).
        operator: A.
        image: [H, W, C] in [-1, 1].
        noise_std: σ on the [-1, 1] scale; papers that use [0, 1] print half of it.

    Raises:
        ValueError: if the image's shape is not the operator's, or σ is not one number, finite and at least zero.
    """
    if not isinstance(operator, Operator):
        raise ValueError(f"{operator!r} is not an operator; make one, as in jd.operators.inpaint_box(image_shape=...).")
    if not isinstance(key, jax.Array | np.ndarray):
        raise ValueError(f"key={key!r} is not a key; make one, as in jax.random.key(0).")
    image = jnp.asarray(image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"images are real numbers in [-1, 1], got {image.dtype}; divide by 127.5 and subtract 1.")
    clean = operator(image)
    noise_std = _noise_level(noise_std, clean.real.dtype)
    if jnp.issubdtype(clean.dtype, jnp.complexfloating):
        parts = normal(key, (2, *clean.shape), clean.real.dtype)
        noise = (parts[0] + 1j * parts[1]) * jnp.asarray(0.5**0.5, clean.real.dtype)
    else:
        noise = normal(key, clean.shape, clean.dtype)
    return Problem(operator, clean + noise_std * noise, noise_std)


def _noise_level(noise_std: float | Array, dtype: DTypeLike) -> Array:
    """σ as a scalar, checked where it is known."""
    known = not isinstance(noise_std, jax.core.Tracer)
    if isinstance(noise_std, str) or np.shape(noise_std) != () or (known and not 0 <= float(noise_std) < np.inf):
        raise ValueError(f"noise_std must be a number, zero or positive and finite, got {noise_std!r}.")
    return jnp.asarray(noise_std, dtype)
