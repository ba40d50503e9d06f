"""What an operator is: the forward model y = A(x) of one image, as a frozen pytree.

Arrays (mask, kernel, angles) are leaves, so a new mask costs no recompilation and a batch of masks can be ``vmap``-ed
over; shapes are static. An operator computes in the dtype of the image that it is given.

Operators compare and hash by identity, so that ``jax.jit(operator)`` works as well as passing one as an argument.

A sampler asks for the least it needs: ``A(x)`` always, ``adjoint`` of a :class:`LinearOperator`, and ``pinv`` and
``solve``, which are closed forms where ``closed_pinv`` / ``closed_solve`` say so and conjugate gradients otherwise. A
:class:`SpectralOperator` moreover knows its singular value decomposition in a fast orthogonal basis.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.numerics import CGResult, conjugate_gradient, expand
from jaxdiff.operators import pictures
from jaxdiff.typing import Array, Image, Measurement, Shape

__all__ = ["LinearOperator", "Operator", "SpectralOperator"]


def _of_one_image(measure: Callable[[Any, Image], Measurement]) -> Callable[[Any, Image], Measurement]:
    @functools.wraps(measure)
    def checked(self: "Operator", x: Image) -> Measurement:
        if jnp.shape(x) != tuple(self.image_shape):
            raise ValueError(
                f"this {type(self).__name__} measures one image {tuple(self.image_shape)}, got shape {jnp.shape(x)}; build "
                "it with image_shape=image.shape, or use jax.vmap for a batch."
            )
        return measure(self, x)

    return checked


@struct.dataclass(eq=False)
class Operator:
    """A forward model y = A(x) of one image x [H, W, C] in [-1, 1].

    Attributes:
        image_shape: (H, W, C) of x.
    """

    image_shape: Shape = struct.field(pytree_node=False, kw_only=True)

    def __init_subclass__(cls, **options: Any) -> None:
        """Every operator refuses what is not one image of its shape: numpy's broadcasting would make something of most."""
        super().__init_subclass__(**options)
        if "__call__" in vars(cls):
            setattr(cls, "__call__", _of_one_image(cls.__call__))  # noqa: B010 - a method, which is not assigned to

    def __call__(self, x: Image) -> Measurement:
        """A(x).

        Raises:
            ValueError: if ``x`` is not one image of ``image_shape``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to measure an image.")

    @property
    def measurement_shape(self) -> Shape:
        """The shape of A(x)."""
        return tuple(jax.eval_shape(self.__call__, jax.ShapeDtypeStruct(self.image_shape, jnp.float32)).shape)

    def view(self, y: Measurement) -> Array:
        """A picture of a measurement for figures, [h, w, 1 or 3] in [-1, 1]; the measurement itself where it is one."""
        return pictures.picture(y)

    def initial(self, y: Measurement) -> Image:
        """A first guess of the image: the measurement where it is image-shaped, else a grey image."""
        if tuple(y.shape) == tuple(self.image_shape):
            return y
        return jnp.zeros(self.image_shape, y.dtype)

    def keep_observed(self, y: Measurement) -> Measurement:
        """Set to zero the entries of y that say nothing of x (masked pixels, which otherwise carry bare noise)."""
        return y

    def __matmul__(self, inner: "Operator") -> "Operator":
        """The operator A @ B: measure with B, then with A."""
        from jaxdiff.operators import algebra  # here, since what it makes are operators

        return algebra.compose(self, inner)

    def __add__(self, other: "Operator") -> "Operator":
        """The operator A + B: both measurements, added."""
        from jaxdiff.operators import algebra

        return algebra.sum_operators(self, other)

    def __rmul__(self, factor: float | Array) -> "Operator":
        """The operator c * A: the measurement, scaled."""
        from jaxdiff.operators import algebra

        return algebra.scale(self, factor)


@struct.dataclass(eq=False)
class LinearOperator(Operator):
    """A linear forward model y = A x.

    ``pinv`` and ``solve`` fall back to conjugate gradients on the normal equations; ``pinv_by_cg`` and ``solve_by_cg``
    are these with the residual that was reached.
    """

    closed_pinv: ClassVar[bool] = False
    closed_solve: ClassVar[bool] = False

    def adjoint(self, y: Measurement) -> Image:
        """Aᵀ y, exactly: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩; the real part of Aᴴ y for a complex measurement, images being real."""
        (x,) = jax.linear_transpose(self.__call__, jax.ShapeDtypeStruct(self.image_shape, y.real.dtype))(jnp.conj(y))
        return x

    def gram(self, x: Image) -> Image:
        """Aᵀ A x."""
        return self.adjoint(self(x))

    def pinv(self, y: Measurement) -> Image:
        """A⁺ y, the least-squares solution of least norm."""
        return self.pinv_by_cg(y).x

    def solve(self, rho: float | Array, b: Image) -> Image:
        """(Aᵀ A + ρ I)⁻¹ b, the proximal step of ‖A x − y‖²/2."""
        return self.solve_by_cg(rho, b).x

    def ridge(self, rho: float | Array, y: Measurement) -> Image:
        """(Aᵀ A + ρ I)⁻¹ Aᵀ y = argmin_x ‖A x − y‖² + ρ ‖x‖², for ρ > 0.

        ``solve(rho, adjoint(y))``, except that closed forms stay in the range of Aᵀ: the rounding of Aᵀ y outside of it
        would be divided by ρ, which is down to 1e-10 where a sampler starts.
        """
        return self.solve(rho, self.adjoint(y))

    def pinv_by_cg(self, y: Measurement, *, maxiter: int = 100, tol: float = 1e-6) -> CGResult:
        """A⁺ y by conjugate gradients on AᵀA x = Aᵀ y from zero, with the relative residual that was reached."""
        return conjugate_gradient(self.gram, self.adjoint(y), maxiter=maxiter, tol=tol)

    def solve_by_cg(self, rho: float | Array, b: Image, *, maxiter: int = 100, tol: float = 1e-6) -> CGResult:
        """(Aᵀ A + ρ I)⁻¹ b by conjugate gradients, with the relative residual that was reached."""
        shift = expand(jnp.asarray(rho, b.dtype), b)
        return conjugate_gradient(lambda x: self.gram(x) + shift * x, b, maxiter=maxiter, tol=tol)

    def initial(self, y: Measurement) -> Image:
        """The measurement where it is image-shaped, else A⁺ y."""
        return y if tuple(y.shape) == tuple(self.image_shape) else self.pinv(y)


@struct.dataclass(eq=False)
class SpectralOperator(LinearOperator):
    """A linear operator whose singular value decomposition A = U S Vᵀ is known and fast.

    V is orthogonal and real, so white noise stays white under ``to_spectral``; every singular value has its own place
    in an array of the shape of ``to_spectral(x)``, and those of the null space are zero. From ``to_spectral``,
    ``from_spectral`` and ``singular_values`` follow ``pinv``, ``solve``, ``ridge`` and ``measurement_to_spectral``.

    Reference:
        Kawar et al., "Denoising Diffusion Restoration Models", NeurIPS 2022, appendix D (the bases are ours).
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
        """S ≥ 0, of the shape of ``to_spectral(x)``; zero on the null space."""
        raise NotImplementedError

    def measurement_to_spectral(self, y: Measurement) -> Array:
        """Uᵀ y = S⁺ Vᵀ Aᵀ y, at the place of each singular value; zero where that is zero."""
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


def shrink(a: Array, s: Array, rho: float | Array) -> Array:
    """The quotient s a / (s² + ρ)."""
    return s * a / (jnp.square(s) + expand(jnp.asarray(rho, s.dtype), s))


def divide_or_zero(a: Array, b: Array) -> Array:
    """The quotient a / b, and 0 where b is 0 (with gradient 0 there)."""
    nonzero = b != 0
    return jnp.where(nonzero, a / jnp.where(nonzero, b, jnp.ones_like(b)), jnp.zeros_like(a))
