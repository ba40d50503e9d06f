"""An inverse problem: what was measured, by which operator, with how much noise."""

import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff.numerics import normal
from jaxdiff.operators.base import Operator
from jaxdiff.typing import Array, Image, Key, Measurement

__all__ = ["Problem", "observe"]


@struct.dataclass
class Problem:
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
        ValueError: if the image's shape is not the operator's, or σ is negative.
    """
    if not isinstance(operator, Operator):
        raise ValueError(f"{operator!r} is not an operator; make one, as in jd.operators.inpaint_box(image_shape=...).")
    image = jnp.asarray(image)
    if image.shape != tuple(operator.image_shape):
        raise ValueError(
            f"the operator takes images of shape {tuple(operator.image_shape)}, but this one has {image.shape}; "
            "build the operator with image_shape=image.shape or resize the image."
        )
    if isinstance(noise_std, str) or (isinstance(noise_std, int | float | np.number) and not 0 <= noise_std < np.inf):
        raise ValueError(f"noise_std must be a number, zero or positive and finite, got {noise_std!r}.")
    clean = operator(image)
    noise_std = jnp.asarray(noise_std, clean.real.dtype)
    if jnp.issubdtype(clean.dtype, jnp.complexfloating):
        parts = normal(key, (2, *clean.shape), clean.real.dtype)
        noise = (parts[0] + 1j * parts[1]) * jnp.asarray(0.5**0.5, clean.real.dtype)
    else:
        noise = normal(key, clean.shape, clean.dtype)
    return Problem(operator, clean + noise_std * noise, noise_std)
