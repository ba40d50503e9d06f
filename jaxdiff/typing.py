"""Names for the arrays that pass through the library, and what they mean.

Everything is written for *one* image; batches come from ``jax.vmap``. Images are float32 in [-1, 1], channels last.
"""

from typing import Any

from flax import struct
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

__all__ = ["Array", "DTypeLike", "Image", "Key", "Measurement", "PyTree", "Scalar", "Shape", "static"]

Image = Float[Array, "H W C"]
"""One image, channels last, values in [-1, 1]."""
Measurement = Array
"""y = A(x), of the operator's ``measurement_shape``."""
Scalar = Float[Array, ""]
Key = Array
"""A key from ``jax.random.key``. Where a function draws exactly one array, that array itself may stand in its place."""
PyTree = Any
Shape = tuple[int, ...]


def static(**options: Any) -> Any:
    """Declare a field that shapes the program: part of the pytree's structure, so a new value compiles anew."""
    return struct.field(pytree_node=False, **options)
