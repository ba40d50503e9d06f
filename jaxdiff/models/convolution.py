"""Convolution whose input gradient is again a plain convolution, so that it is fast inside a compiled loop on the CPU.

XLA's CPU backend brings convolutions into the layout of its fast kernels (NHWC, HWIO) only outside of loops. JAX's own
gradient of a convolution has the kernel's channels swapped, which is not that layout: inside ``lax.scan``, where samplers
live, a DPS step took four to eight times as long as outside. Here the swap is done on the kernel itself, and the gradient
is the same primitive again: fast at every order of derivative, forward and reverse mode.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxdiff.typing import Array

__all__ = ["conv_same", "flax_conv"]


def _plain(x: Array, kernel: Array) -> Array:
    half = [((size - 1) // 2, (size - 1) // 2) for size in kernel.shape[:2]]
    return lax.conv_general_dilated(x, kernel, (1, 1), half, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv_same(x: Array, kernel: Array) -> Array:
    """Cross-correlation of stride 1 that keeps the size: x [N, H, W, I], kernel [h, w, I, O] with odd h, w → [N, H, W, O]."""
    return conv_p.bind(x, kernel)


def flax_conv(x: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """``lax.conv_general_dilated`` for ``nn.Conv``, through ``conv_same`` where the case is its case."""
    half = [((size - 1) // 2, (size - 1) // 2) for size in kernel.shape[:2]]
    same = list(map(tuple, padding)) == half if not isinstance(padding, str) else False
    if tuple(strides) == (1, 1) and same and all(size % 2 for size in kernel.shape[:2]):
        return conv_same(x, kernel)
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


conv_p = Primitive("conv_same")
conv_p.def_impl(jax.jit(_plain))
conv_p.def_abstract_eval(lambda x, kernel: ShapedArray((*x.shape[:3], kernel.shape[3]), x.dtype))
mlir.register_lowering(conv_p, mlir.lower_fun(_plain, multiple_results=False))


def _transpose_input(ct: Array, x: Any, kernel: Array) -> Array:
    # The transpose of a correlation is the correlation with the kernel turned by 180° and its channels swapped.
    del x
    return conv_same(ct, jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3))


def _transpose_kernel(ct: Array, x: Array, kernel: Any) -> Array:
    shape = jax.ShapeDtypeStruct(kernel.aval.shape, kernel.aval.dtype)
    (gradient,) = jax.linear_transpose(partial(_plain, x), shape)(ct)
    return gradient


ad.defbilinear(conv_p, _transpose_input, _transpose_kernel)


def _batch(arguments: tuple[Array, Array], axes: tuple[Any, Any]) -> tuple[Array, int]:
    x, kernel = arguments
    if axes[1] is None:
        x = jnp.moveaxis(x, axes[0], 0)
        merged = conv_same(jnp.reshape(x, (-1, *x.shape[2:])), kernel)
        return jnp.reshape(merged, (*x.shape[:2], *merged.shape[1:])), 0
    # A network a batch entry: rare, and grouped convolution is what JAX makes of it.
    return jax.vmap(_plain, axes)(x, kernel), 0


batching.primitive_batchers[conv_p] = _batch
