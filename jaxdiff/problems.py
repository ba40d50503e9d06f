"""An inverse problem: a measurement, its operator, and its noise."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike

from jaxdiff._checks import check_key, concrete
from jaxdiff._summary import Summarised
from jaxdiff.files import data_uri
from jaxdiff.noise import Gaussian, NoiseModel
from jaxdiff.numerics import normal_like
from jaxdiff.operators.base import Operator
from jaxdiff.typing import Array, Image, Key, Measurement, Scalar

__all__ = ["Problem", "observe"]

BEYOND = 20.0
"""An image without a negative value that goes beyond this is on 0 … 255."""
MOST_NOISE = 2.0
"""The width of [-1, 1]."""
NOISE_FLOOR = 1e-3
"""Smallest σ that a solve with σ² on its diagonal takes, as DiffPIR does: σ = 0 would divide by zero."""


@struct.dataclass
class Problem(Summarised):
    """y = A(x) + σ n with n ~ N(0, I), or y ~ p(y | A(x)) of a noise model.

    Attributes:
        operator: A.
        y: the measurement. It has the operator's ``measurement_shape``.
        noise_std: σ, a standard deviation on the [-1, 1] scale (twice the number on the [0, 1] scale). With a noise model,
            it is the root mean square of the noise.
        noise: the noise model, or None for Gaussian noise with σ.
    """

    operator: Operator
    y: Measurement
    noise_std: Array
    noise: NoiseModel | None = None

    @classmethod
    def of(cls, operator: Operator, y: Measurement, noise: float | Array | NoiseModel) -> "Problem":
        """Make a problem from a measurement and its noise, which is σ or a noise model.

        Raises:
            ValueError: if σ is not one finite number of at least zero, or if y is complex and the noise is a model. Also if y
                holds whole numbers.
        """
        y = y if hasattr(y, "dtype") else jnp.asarray(y)
        if not jnp.issubdtype(y.dtype, jnp.inexact):
            raise ValueError(f"y must hold floating-point numbers, got {y.dtype}; give a float32 array.")
        noise = noise.std if isinstance(noise, Gaussian) else noise
        if not isinstance(noise, NoiseModel):
            return cls(operator, y, _noise_level(noise, y.real.dtype))
        if jnp.issubdtype(y.dtype, jnp.complexfloating):
            raise ValueError(
                f"{noise.title} is of real measurements, but {type(operator).__name__} measures complex numbers; give σ."
            )
        return cls(operator, y, noise.level(y), noise)

    def _repr_html_(self) -> str:
        """The measurement as a picture, above the table of fields. Traced or batched measurements have no picture."""
        table = super()._repr_html_()
        if not concrete(self.y) or jnp.ndim(self.noise_std):
            return table
        shown = data_uri(np.asarray(self.operator.view(self.y)))
        return f'<img src="{shown}" alt="the measurement" width="160" style="display:block;image-rendering:pixelated">{table}'

    def residual(self, x: Image) -> Array:
        """y − A(x)."""
        return self.y - self.operator(x)

    def keep_observed(self, v: Measurement) -> Measurement:
        """v, with 0 where y says nothing about the image: at hidden entries, and at those that the noise replaced."""
        kept = self.operator.keep_observed(v)
        return kept if self.noise is None else kept * self.noise.informative(self.y)

    def noise_level(self, *, floor: float = NOISE_FLOOR) -> Scalar:
        """σ of each *real* number measured (σ/√2 for complex measurements), with σ at least ``floor``."""
        sigma = jnp.asarray(self.noise_std)
        sigma = jnp.maximum(sigma, floor) if floor > 0 else sigma
        return sigma / 2**0.5 if jnp.issubdtype(self.y.dtype, jnp.complexfloating) else sigma

    def noise_variance(self, *, floor: float = NOISE_FLOOR) -> Scalar:
        """σ² of each *real* number measured (half of it for complex measurements), with σ at least ``floor``."""
        return self.noise_level(floor=floor) ** 2

    def observed_count(self) -> Scalar:
        """How many entries of y say something about the image."""
        return jnp.sum(jnp.real(self.keep_observed(jnp.ones_like(self.y))))


def observe(
    key: Key,
    operator: Operator,
    image: Image,
    noise: float | Array | NoiseModel | None = None,
    *,
    noise_std: float | Array | None = None,
) -> Problem:
    """Measure an image: y = A(x) + σ n, or a draw of a noise model.

    As in the authors' codes, all entries of the measurement get noise, also masked ones. For a complex measurement, n is
    circular complex noise with total variance 1.

    Args:
        key: a random key, or recorded noise of y's shape.
        operator: A.
        image: [H, W, C] in [-1, 1].
        noise: σ for images in [-1, 1], or a model of ``jd.noise``. Papers with images in [0, 1] print half of this σ.
        noise_std: another name for σ.

    Raises:
        ValueError: if the image does not have the operator's shape, or image or σ are not on the [-1, 1] scale. Also if there
            is not one noise, if σ is not one finite number of at least zero, or if y is complex and the noise is a model.
    """
    if not isinstance(operator, Operator):
        raise ValueError(f"{operator!r} is not an operator; make one, as in jd.operators.inpaint_box(image_shape=...).")
    check_key(key)
    image = jnp.asarray(image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"images are real numbers in [-1, 1], got {image.dtype}; divide by 127.5 and subtract 1.")
    given = [value for value in (noise, noise_std) if value is not None]
    if len(given) != 1:
        raise ValueError("observe takes one noise: noise=0.05 (σ) or a model such as noise=jd.noise.poisson(1.0).")
    clean = operator(image)
    problem = Problem.of(operator, clean, given[0])
    _check_scale(image, problem.noise_std)
    if problem.noise is not None:
        return Problem.of(operator, problem.noise.sample(key, clean), problem.noise)
    n = normal_like(key, clean)
    if jnp.issubdtype(clean.dtype, jnp.complexfloating):
        n = n * jnp.asarray(0.5**0.5, clean.real.dtype)
    return problem.replace(y=clean + problem.noise_std * n)  # type: ignore[attr-defined]


def _check_scale(image: Image, sigma: Array) -> None:
    """Refuse images on 0 … 255 and their σ, where the values are known."""
    pixels = np.asarray(image) if concrete(image) else np.zeros(0)
    if pixels.size > 0 and pixels.min() >= 0 and (most := float(pixels.max())) > BEYOND:
        raise ValueError(f"images are on [-1, 1], but this one reaches {most:.3g}; divide by 127.5 and subtract 1.")
    if concrete(sigma) and float(sigma) > MOST_NOISE:
        raise ValueError(f"σ = {float(sigma):g} is on another scale than [-1, 1], which is 2 wide; divide it by 127.5.")


def _noise_level(noise_std: float | Array, dtype: DTypeLike) -> Array:
    """σ as a scalar, checked where it is known."""
    number = isinstance(noise_std, int | float | np.generic | np.ndarray | jax.Array) and np.shape(noise_std) == ()
    if number and concrete(noise_std):
        number = not np.iscomplexobj(noise_std) and 0 <= float(noise_std) < np.inf
    if not number:
        raise ValueError(f"noise_std must be a number, zero or positive and finite, got {noise_std!r}.")
    return jnp.asarray(noise_std, dtype)
