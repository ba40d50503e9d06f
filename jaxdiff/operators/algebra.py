"""Operators made of operators: A @ B, A + B, c A, [A; B], Aᵀ."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff._checks import concrete, leaf
from jaxdiff.operators import pictures
from jaxdiff.operators.base import LinearOperator, Operator
from jaxdiff.typing import Array, Image, Measurement

__all__ = ["compose", "divide", "scale", "stack", "sum_operators", "transpose"]


@struct.dataclass(eq=False)
class Composition(Operator):
    """y = A(B(x))."""

    outer: Operator
    inner: Operator

    def apply(self, x: Image) -> Measurement:
        """Measure: B, then A."""
        return self.outer(self.inner(x))

    def view(self, y: Measurement) -> Array:
        """The outer operator's picture."""
        return self.outer.view(y)

    def keep_observed(self, y: Measurement) -> Measurement:
        """What the outer operator keeps."""
        return self.outer.keep_observed(y)


@struct.dataclass(eq=False)
class LinearComposition(Composition, LinearOperator):
    """y = A B x, of two linear operators."""

    outer: LinearOperator
    inner: LinearOperator

    def adjoint(self, y: Measurement) -> Image:
        """Bᵀ Aᵀ y. If B measures complex numbers, both are transposed at once, because Aᵀ y alone would be real."""
        if _measures_complex(self.inner):
            return LinearOperator.adjoint(self, y)
        return self.inner.adjoint(self.outer.adjoint(y))


@struct.dataclass(eq=False)
class Sum(Operator):
    """y = Σ A_i(x)."""

    terms: tuple[Operator, ...]

    def apply(self, x: Image) -> Measurement:
        """Measure: every term, added."""
        return reduce(jnp.add, [term(x) for term in self.terms])

    def view(self, y: Measurement) -> Array:
        """The first term's picture."""
        return self.terms[0].view(y)


@struct.dataclass(eq=False)
class LinearSum(Sum, LinearOperator):
    """y = Σ A_i x, of linear operators."""

    terms: tuple[LinearOperator, ...]

    def adjoint(self, y: Measurement) -> Image:
        """Σ A_iᵀ y."""
        return reduce(jnp.add, [term.adjoint(y) for term in self.terms])


@struct.dataclass(eq=False)
class Stack(Operator):
    """y [m] = all A_i(x), flattened, one after the other."""

    parts: tuple[Operator, ...]

    def apply(self, x: Image) -> Measurement:
        """Measure: every part."""
        return jnp.concatenate([jnp.ravel(part(x)) for part in self.parts])

    def split(self, y: Measurement) -> tuple[Measurement, ...]:
        """The measurement of each part, in its own shape."""
        return _split(self.parts, y)

    def view(self, y: Measurement) -> Array:
        """The parts' pictures side by side."""
        return _side_by_side(self.parts, self.split(y))

    def keep_observed(self, y: Measurement) -> Measurement:
        """What each part keeps."""
        return jnp.concatenate([jnp.ravel(p.keep_observed(v)) for p, v in zip(self.parts, self.split(y), strict=True)])

    def initial(self, y: Measurement) -> Image:
        """The first part's guess."""
        return self.parts[0].initial(self.split(y)[0])


@struct.dataclass(eq=False)
class LinearStack(Stack, LinearOperator):
    """y [m] = all A_i x, flattened, one after the other."""

    parts: tuple[LinearOperator, ...]

    def adjoint(self, y: Measurement) -> Image:
        """Σ A_iᵀ y_i."""
        return reduce(jnp.add, [p.adjoint(v) for p, v in zip(self.parts, self.split(y), strict=True)])


@struct.dataclass(eq=False)
class Transpose(LinearOperator):
    """x = Aᵀ y: it takes what A measures and gives an image."""

    operator: LinearOperator

    def apply(self, x: Measurement) -> Image:
        """Measure: Aᵀ."""
        return self.operator.adjoint(x)

    def adjoint(self, y: Image) -> Measurement:
        """A y, the transpose of the transpose."""
        return self.operator(y)

    @property
    def T(self) -> LinearOperator:
        """The operator A itself."""
        return self.operator


@struct.dataclass(eq=False)
class Scaled(Operator):
    """y = c A(x)."""

    operator: Operator
    factor: Array

    def apply(self, x: Image) -> Measurement:
        """Measure: A, times c."""
        y = self.operator(x)
        return self.factor.astype(y.dtype) * y

    def view(self, y: Measurement) -> Array:
        """The operator's picture of y / c."""
        return self.operator.view(y / self.factor.astype(y.dtype))

    def keep_observed(self, y: Measurement) -> Measurement:
        """What the operator keeps."""
        return self.operator.keep_observed(y)

    def initial(self, y: Measurement) -> Image:
        """The operator's guess for y / c."""
        return self.operator.initial(y / self.factor.astype(y.dtype))


@struct.dataclass(eq=False)
class LinearScaled(Scaled, LinearOperator):
    """y = c A x, of a linear operator, with its closed forms."""

    operator: LinearOperator

    @property
    def closed_pinv(self) -> bool:  # type: ignore[override]
        """Whether the operator has a closed form."""
        return self.operator.closed_pinv

    @property
    def closed_solve(self) -> bool:  # type: ignore[override]
        """Whether the operator has a closed form."""
        return self.operator.closed_solve

    def adjoint(self, y: Measurement) -> Image:
        """The adjoint Aᵀ, times c."""
        return self.factor.astype(y.real.dtype) * self.operator.adjoint(y)

    def pinv(self, y: Measurement) -> Image:
        """A⁺ y / c."""
        return self.operator.pinv(y) / self.factor.astype(y.real.dtype)

    def solve(self, rho: float | Array, b: Image) -> Image:
        """(Aᵀ A + ρ/c² I)⁻¹ b / c²."""
        square = jnp.square(self.factor.astype(b.dtype))
        return self.operator.solve(jnp.asarray(rho, b.dtype) / square, b) / square

    def ridge(self, rho: float | Array, y: Measurement) -> Image:
        """(Aᵀ A + ρ/c² I)⁻¹ Aᵀ y / c."""
        factor = self.factor.astype(y.real.dtype)
        return self.operator.ridge(jnp.asarray(rho, factor.dtype) / jnp.square(factor), y) / factor


def compose(outer: Operator, inner: Operator) -> Operator:
    """A(B(x)), also written ``A @ B``. It is linear if both operators are.

    Raises:
        ValueError: if the measurement of ``inner`` does not have the shape that ``outer`` takes.
    """
    if tuple(outer.image_shape) != inner.measurement_shape:
        raise ValueError(
            f"cannot compose: the inner operator measures {inner.measurement_shape}, but the outer one takes "
            f"{tuple(outer.image_shape)}; build it with image_shape=inner.measurement_shape."
        )
    if isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator):
        return LinearComposition(outer, inner, image_shape=inner.image_shape)
    return Composition(outer, inner, image_shape=inner.image_shape)


def sum_operators(*terms: Operator) -> Operator:
    """Σ A_i(x), also written ``A + B``. It is linear if all operators are.

    Raises:
        ValueError: if the shapes differ, or if only some operators measure complex numbers.
    """
    _check_same_image(terms, "add")
    shapes = {term.measurement_shape for term in terms}
    if len(shapes) > 1:
        raise ValueError(f"cannot add operators with measurements of shapes {sorted(shapes)}; stack them instead.")
    linear = tuple(term for term in terms if isinstance(term, LinearOperator))
    if len(linear) == len(terms):
        return LinearSum(linear, image_shape=terms[0].image_shape)
    return Sum(terms, image_shape=terms[0].image_shape)


def stack(*parts: Operator) -> Operator:
    """[A; B; …]: several measurements of one image, flattened into one vector. It is linear if all operators are.

    Raises:
        ValueError: if the image shapes differ, or if only some operators measure complex numbers.
    """
    _check_same_image(parts, "stack")
    linear = tuple(part for part in parts if isinstance(part, LinearOperator))
    if len(linear) == len(parts):
        return LinearStack(linear, image_shape=parts[0].image_shape)
    return Stack(parts, image_shape=parts[0].image_shape)


def scale(operator: Operator, factor: float | Array) -> Operator:
    """The operator c A(x), also written ``c * A``. A linear operator keeps its closed forms.

    Raises:
        ValueError: if the factor is zero or not one number.
    """
    c = leaf("factor", factor)
    if c.shape != ():
        raise ValueError(f"an operator is scaled by one number, got an array of shape {c.shape}.")
    if concrete(c) and float(c) == 0:
        raise ValueError("an operator scaled by zero measures nothing; use another factor.")
    if isinstance(operator, LinearOperator):
        return LinearScaled(operator, c, image_shape=operator.image_shape)
    return Scaled(operator, c, image_shape=operator.image_shape)


def divide(operator: Operator, divisor: float | Array) -> Operator:
    """The operator A(x) / c, also written ``A / c``. A linear operator keeps its closed forms.

    Raises:
        ValueError: if the divisor is zero or not one number.
    """
    c = leaf("divisor", divisor, scalar=True)
    if concrete(c) and float(c) == 0:
        raise ValueError("an operator cannot be divided by zero; use another divisor.")
    return scale(operator, 1 / c)


def transpose(operator: LinearOperator) -> LinearOperator:
    """The operator Aᵀ, also written ``A.T``.

    Raises:
        ValueError: if A measures complex numbers.
    """
    if _measures_complex(operator):
        raise ValueError(
            f"this {type(operator).__name__} measures complex numbers, which no operator takes, so it has no .T; "
            "call its adjoint(y)."
        )
    return Transpose(operator, image_shape=operator.measurement_shape)


def _check_same_image(operators: tuple[Operator, ...], verb: str) -> None:
    if not operators:
        raise ValueError(f"there is no operator to {verb}; give at least one.")
    shapes = {tuple(operator.image_shape) for operator in operators}
    if len(shapes) > 1:
        raise ValueError(f"cannot {verb} operators of images of shapes {sorted(shapes)}; they must be the same.")
    if len({_measures_complex(operator) for operator in operators}) > 1:  # noise of one σ is not the same on both
        raise ValueError(
            f"cannot {verb} operators that measure complex numbers and ones that do not; put real and imaginary parts "
            "side by side first, in a from_linear_function."
        )


def _measures_complex(operator: Operator) -> bool:
    image = jax.ShapeDtypeStruct(operator.image_shape, jnp.float32)
    return jnp.issubdtype(jax.eval_shape(operator.__call__, image).dtype, jnp.complexfloating)


def _split(parts: tuple[Any, ...], y: Measurement) -> tuple[Measurement, ...]:
    shapes = [part.measurement_shape for part in parts]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return tuple(jnp.reshape(v, shape) for v, shape in zip(jnp.split(y, ends), shapes, strict=True))


def _side_by_side(parts: tuple[Any, ...], measurements: tuple[Measurement, ...]) -> Array:
    return pictures.side_by_side([part.view(v) for part, v in zip(parts, measurements, strict=True)])
