"""The base classes of operators. An operator is the forward model y = A(x) of one image, as a frozen pytree.

Arrays such as a mask, a kernel or angles are leaves. So a new mask does not compile again, and ``vmap`` runs over a batch
of masks. Shapes are static. An operator computes in the dtype of its image. Those with FFTs
refuse float16 and bfloat16.

Operators compare and hash by identity. So ``jax.jit(operator)`` works, and an operator can be an argument of a function.

A sampler uses no more than it needs. Every operator has ``A(x)``. A :class:`LinearOperator` also has ``adjoint``, ``pinv``
and ``solve``. The last two are closed forms if ``closed_pinv`` and ``closed_solve`` are true, and conjugate gradients if not.
A :class:`SpectralOperator` also knows its singular value decomposition, in a fast orthogonal basis.
"""

import math
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._summary import Summarised
from jaxdiff.linalg import CGResult, conjugate_gradient, divide_or_zero, least_squares, shrink
from jaxdiff.numerics import expand
from jaxdiff.operators import pictures
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["LinearOperator", "Operator", "PixelOperator", "SpectralOperator"]


@struct.dataclass(eq=False)
class Operator(Summarised):
    """A forward model y = A(x) of one image x [H, W, C] in [-1, 1].

    To write your own, name its arrays as fields, and compute the measurement in ``apply``:

    >>> @struct.dataclass(eq=False)
    ... class Contrast(Operator):
    ...     gain: Array
    ...
    ...     def apply(self, x):
    ...         return jnp.tanh(self.gain.astype(x.dtype) * x)
    >>> contrast = Contrast(jnp.float32(2), image_shape=(4, 4, 1))
    >>> contrast(jnp.zeros((4, 4, 1))).shape
    (4, 4, 1)

    Attributes:
        image_shape: (H, W, C) of x.
    """

    __array_ufunc__: ClassVar[None] = None  # numpy leaves c * A to the operator, and does not look into it

    half: ClassVar[bool] = True
    """Whether it computes in float16 and bfloat16, too."""

    image_shape: Shape = struct.field(pytree_node=False, kw_only=True)

    def apply(self, x: Image) -> Measurement:
        """A(x) for one image of ``image_shape``. Each operator defines this method."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to measure an image; define its apply(x).")

    @final
    def __call__(self, x: Image) -> Measurement:
        """A(x).

        Raises:
            ValueError: if ``x`` is not one image of ``image_shape``. (Without this check, most other shapes would broadcast.)
                Also if it holds whole numbers, in which the weights of an operator would be rounded, or half precision if
                the operator needs more.
        """
        if np.shape(x) != tuple(self.image_shape):
            raise ValueError(
                f"this {type(self).__name__} measures one image {tuple(self.image_shape)}, got shape {np.shape(x)}; build "
                "it with image_shape=image.shape, or use jax.vmap for a batch."
            )
        kind = jnp.result_type(x)
        if not jnp.issubdtype(kind, jnp.inexact):
            raise ValueError(
                f"this {type(self).__name__} measures images of floating-point numbers on [-1, 1], got {kind}; for 0 … 255 "
                "give x / 127.5 - 1."
            )
        if not self.half and jnp.finfo(kind).bits < 32:
            raise ValueError(
                f"this {type(self).__name__} needs float32 or float64, got {kind}; give x.astype(jnp.float32)."
            )
        return self.apply(x)

    @property
    def measurement_shape(self) -> Shape:
        """The shape of A(x)."""
        return tuple(jax.eval_shape(self.__call__, jax.ShapeDtypeStruct(self.image_shape, jnp.float32)).shape)

    def view(self, y: Measurement) -> Array:
        """A picture of a measurement for figures, [h, w, 1 or 3] in [-1, 1]. An image is its own picture."""
        return pictures.picture(y)

    def initial(self, y: Measurement) -> Image:
        """A first guess of the image: the measurement if it has the shape of the image, else a grey image."""
        if tuple(y.shape) == tuple(self.image_shape):
            return y
        return jnp.zeros(self.image_shape, y.dtype)

    def keep_observed(self, y: Measurement) -> Measurement:
        """Set to zero the entries of y that say nothing about x, such as masked pixels, which have only noise."""
        return y

    def __matmul__(self, inner: "Operator") -> "Operator":
        """The operator A @ B: measure with B, then with A."""
        return _algebra().compose(self, inner) if isinstance(inner, Operator) else NotImplemented

    def __add__(self, other: "Operator") -> "Operator":
        """The operator A + B: both measurements, added."""
        return _algebra().sum_operators(self, other) if isinstance(other, Operator) else NotImplemented

    def __sub__(self, other: "Operator") -> "Operator":
        """The operator A - B: the difference of both measurements."""
        return self + -other if isinstance(other, Operator) else NotImplemented

    def __mul__(self, factor: float | Array) -> "Operator":
        """The operator A * c: the measurement, scaled."""
        return NotImplemented if isinstance(factor, Operator) else _algebra().scale(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Array) -> "Operator":
        """The operator A / c: the measurement, divided by c."""
        return NotImplemented if isinstance(divisor, Operator) else _algebra().divide(self, divisor)

    def __neg__(self) -> "Operator":
        """The operator -A."""
        return _algebra().scale(self, -1.0)


@struct.dataclass(eq=False)
class LinearOperator(Operator):
    """A linear forward model y = A x.

    You only write ``apply``: JAX derives the adjoint from it. ``pinv`` and ``solve`` are conjugate gradients on the normal
    equations, unless a class overrides them. ``pinv_by_cg`` and ``solve_by_cg`` also report their residual.

    >>> @struct.dataclass(eq=False)
    ... class Fade(LinearOperator):
    ...     weights: Array  # [W], one a column
    ...
    ...     def apply(self, x):
    ...         return self.weights.astype(x.dtype)[None, :, None] * x
    >>> fade = Fade(jnp.array([1.0, 2.0]), image_shape=(1, 2, 1))
    >>> fade.adjoint(jnp.ones((1, 2, 1))).ravel().tolist()
    [1.0, 2.0]
    >>> fade.as_matrix().tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """

    closed_pinv: ClassVar[bool] = False
    closed_solve: ClassVar[bool] = False

    def adjoint(self, y: Measurement) -> Image:
        """Aᵀ y, exactly: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩. Images are real, so for a complex measurement this is Re(Aᴴ y)."""
        (x,) = jax.linear_transpose(self.__call__, jax.ShapeDtypeStruct(self.image_shape, y.real.dtype))(jnp.conj(y))
        return x

    @property
    def T(self) -> "LinearOperator":
        """Aᵀ as an operator on measurements: ``A.T(y)`` is ``A.adjoint(y)``, and ``A.T.T`` is A.

        You can compose it like any other operator: ``A.T @ A`` is ``A.gram``. Its ``image_shape`` is A's
        ``measurement_shape``, which can have any rank. Its ``pinv`` and ``solve`` are conjugate gradients.

        Raises:
            ValueError: if A measures complex numbers, because operators take real numbers.
        """
        return _algebra().transpose(self)

    def as_matrix(self) -> Array:
        """The matrix A [M, D], D = H·W·C, for image and measurement flattened in C order. Use it for small images only.

        If the measurement is complex, the matrix is complex too. The adjoint is then the real part of Aᴴ y, because x is real.
        """
        size = math.prod(self.image_shape)
        basis = jnp.eye(size).reshape(size, *self.image_shape)
        return jax.vmap(lambda x: self(x).ravel())(basis).T

    def gram(self, x: Image) -> Image:
        """Aᵀ A x."""
        return self.adjoint(self(x))

    def pinv(self, y: Measurement) -> Image:
        """A⁺ y, the least-squares solution with the smallest norm."""
        return self.pinv_by_cg(y).x

    def solve(self, rho: float | Array, b: Image) -> Image:
        """(Aᵀ A + ρ I)⁻¹ b, the proximal step of ‖A x − y‖²/2."""
        return self.solve_by_cg(rho, b).x

    def ridge(self, rho: float | Array, y: Measurement) -> Image:
        """(Aᵀ A + ρ I)⁻¹ Aᵀ y = argmin_x ‖A x − y‖² + ρ ‖x‖², for ρ > 0.

        This is ``solve(rho, adjoint(y))``, but closed forms stay in the range of Aᵀ. Outside this range, ``solve`` would
        divide the rounding error of Aᵀ y by ρ, which can be as small as 1e-10.
        """
        return self.solve(rho, self.adjoint(y))

    def pinv_by_cg(self, y: Measurement, *, maxiter: int = 100, tol: float = 1e-6) -> CGResult:
        """A⁺ y by conjugate gradients on AᵀA x = Aᵀ y from zero, with the relative residual that was reached."""
        return least_squares(self, self.adjoint, y, maxiter=maxiter, tol=tol)

    def solve_by_cg(self, rho: float | Array, b: Image, *, maxiter: int = 100, tol: float = 1e-6) -> CGResult:
        """(Aᵀ A + ρ I)⁻¹ b by conjugate gradients, with the relative residual that was reached."""
        shift = expand(jnp.asarray(rho, b.dtype), b)
        return conjugate_gradient(lambda x: self.gram(x) + shift * x, b, maxiter=maxiter, tol=tol)

    def initial(self, y: Measurement) -> Image:
        """The measurement if it has the shape of the image, else A⁺ y."""
        return y if tuple(y.shape) == tuple(self.image_shape) else self.pinv(y)


@struct.dataclass(eq=False)
class SpectralOperator(LinearOperator):
    """A linear operator whose singular value decomposition A = U S Vᵀ is known and fast.

    V is orthogonal and real, so white noise stays white under ``to_spectral``. Each singular value has its own place in an
    array of the shape of ``to_spectral(x)``. On the null space it is zero. A subclass defines ``to_spectral``,
    ``from_spectral`` and ``singular_values``. ``pinv``, ``solve``, ``ridge`` and ``measurement_to_spectral`` follow from them.

    Reference:
        Kawar et al., "Denoising Diffusion Restoration Models", NeurIPS 2022, appendix D. (We use other bases.)
    """

    closed_pinv: ClassVar[bool] = True
    closed_solve: ClassVar[bool] = True

    def to_spectral(self, x: Image) -> Array:
        """Vᵀ x."""
        raise NotImplementedError

    def from_spectral(self, z: Array) -> Image:
        """V z."""
        raise NotImplementedError

    @property
    def singular_values(self) -> Array:
        """S ≥ 0, with the shape of ``to_spectral(x)``. It is zero on the null space."""
        raise NotImplementedError

    def measurement_to_spectral(self, y: Measurement) -> Array:
        """Uᵀ y = S⁺ Vᵀ Aᵀ y, at the place of each singular value. It is zero where the singular value is zero."""
        return divide_or_zero(self.to_spectral(self.adjoint(y)), self.singular_values.astype(y.dtype))

    def pinv(self, y: Measurement) -> Image:
        """A⁺ y = V S⁺ Uᵀ y."""
        s = self.singular_values.astype(y.dtype)
        return self.from_spectral(divide_or_zero(self.measurement_to_spectral(y), s))

    def solve(self, rho: float | Array, b: Image) -> Image:
        """(Aᵀ A + ρ I)⁻¹ b = V (S² + ρ)⁻¹ Vᵀ b."""
        s = self.singular_values.astype(b.dtype)
        return self.from_spectral(self.to_spectral(b) / (jnp.square(s) + expand(jnp.asarray(rho, b.dtype), s)))

    def ridge(self, rho: float | Array, y: Measurement) -> Image:
        """(Aᵀ A + ρ I)⁻¹ Aᵀ y = V S (S² + ρ)⁻¹ Uᵀ y."""
        s = self.singular_values.astype(y.dtype)
        return self.from_spectral(shrink(self.measurement_to_spectral(y), s, rho))


@struct.dataclass(eq=False)
class PixelOperator(SpectralOperator):
    """A spectral operator with V = I. Each number of y is one pixel times a weight ≥ 0.

    A pixel is in at most one number of y. So Aᵀ A is diagonal, and the singular values are the weights, Aᵀ 1.
    """

    def to_spectral(self, x: Image) -> Array:
        """Vᵀ x, with V = I."""
        return x

    def from_spectral(self, z: Array) -> Image:
        """V z, with V = I."""
        return z

    @property
    def singular_values(self) -> Array:
        """The weight of each pixel, Aᵀ 1. It is 0 for a pixel that is not measured."""
        return self.adjoint(jnp.ones(self.measurement_shape, jnp.float32))


def _algebra() -> Any:
    from jaxdiff.operators import algebra  # here, because what it makes are operators

    return algebra
