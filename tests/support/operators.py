"""Operators of the user's kind: no closed form, few lines."""

from flax import struct

from jaxdiff.operators.base import LinearOperator, Operator
from jaxdiff.typing import Array


@struct.dataclass
class Dense(LinearOperator):
    """Any matrix [M, D]: linear, with no closed form."""

    matrix: Array

    def apply(self, x):
        return self.matrix.astype(x.dtype) @ x.ravel()


@struct.dataclass
class Cubic(Operator):
    """y = x + c x³ on half of the pixels: smooth, not linear, and not image-shaped."""

    curve: Array

    def apply(self, x):
        half = x.ravel()[::2]
        return half + self.curve.astype(x.dtype) * half**3
