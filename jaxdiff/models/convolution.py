"""Stride-1 convolution whose input gradient is again one, so that it is fast inside a compiled loop on the CPU.

XLA's CPU backend brings convolutions into the layout of its fast kernels (NHWC, HWIO) only outside of loops. JAX's own
gradient of a convolution has the kernel's channels swapped, which is not that layout. Samplers live inside ``lax.scan``,
where a DPS step took four to eight times as long as outside. Here the kernel itself is swapped, and the gradient is the same
primitive again: fast at every order of derivative, in forward and reverse mode. The kernel's own gradient, which training
takes, is a second primitive: its derivatives are convolutions, too.

Resampling by two is built from it: the phases of a nearest-neighbour upsampled image, or of a strided convolution, are
small stride-1 convolutions.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxdiff import runtime
from jaxdiff.numerics import wide
from jaxdiff.typing import Array

__all__ = ["convolve", "convolve_by_two", "convolve_upsampled"]

Padding = tuple[tuple[int, int], tuple[int, int]]

CACHE = 2**22
"""Bytes of the shifted copies that one product of ``_filter_by_images`` may read."""


def convolve(x: Array, kernel: Array, padding: Padding) -> Array:
    """Cross-correlation of stride 1.

    Args:
        x: [N, H, W, I].
        kernel: [h, w, I, O], of the type of ``x``.
        padding: zeros before and after, for rows and for columns; fewer than the kernel's size.

    Returns:
        [N, H + Σ padding − h + 1, W + Σ padding − w + 1, O].
    """
    return conv_p.bind(x, kernel, padding=padding)


def convolve_upsampled(x: Array, kernel: Array) -> Array:
    """3×3 convolution of the nearest-neighbour upsampled image, with 16 products a pixel in place of 36.

    An output pixel of an even row sees input rows (i−1, i, i), one of an odd row (i, i, i+1). So each of the four phases is a
    2×2 convolution of the small image with sums of the kernel's rows and columns.

    Args:
        x: [N, H, W, I].
        kernel: [3, 3, I, O]; sums are taken in its own type, then cast to that of ``x``.

    Returns:
        [N, 2H, 2W, O].
    """
    n, h, w, _ = x.shape
    rows = []
    for i, by_row in enumerate(_phases(kernel, axis=0)):
        columns = [
            convolve(x, phase.astype(x.dtype), ((1 - i, i), (1 - j, j)))
            for j, phase in enumerate(_phases(by_row, axis=1))
        ]
        rows.append(jnp.stack(columns, axis=3))
    return jnp.reshape(jnp.stack(rows, axis=2), (n, 2 * h, 2 * w, kernel.shape[3]))


def _phases(kernel: Array, axis: int) -> tuple[Array, Array]:
    """Two taps for even and for odd outputs, from the three taps along ``axis``."""
    first, middle, last = jnp.split(kernel, 3, axis=axis)
    even = jnp.concatenate([first, middle + last], axis=axis)
    return even, jnp.concatenate([first + middle, last], axis=axis)


def convolve_by_two(x: Array, kernel: Array, before: int = 1) -> Array:
    """3×3 convolution of stride 2: the sum of four convolutions, one a phase of the input.

    Args:
        x: [N, 2H, 2W, I].
        kernel: [3, 3, I, O], of the type of ``x``.
        before: 1 for a zero all around, 0 for zeros after the last row and column only.

    Returns:
        [N, H, W, O].
    """
    n, h, w, c = x.shape
    pixels = jnp.reshape(x, (n, h // 2, 2, w // 2, 2, c))
    # Output i is centred on input 2i (tap 1), or on 2i+1 where no zero goes before; taps 0 and 2 are of the other phase.
    centre, sides = slice(1, 2), slice(0, 3, 2)
    taps = (centre, sides) if before else (sides, centre)
    padding = ((0, 0), (1, 0)) if before else ((0, 1), (0, 0))
    terms = [
        convolve(pixels[:, :, i, :, j], kernel[taps[i], taps[j]], (padding[i], padding[j]))
        for i in (0, 1)
        for j in (0, 1)
    ]
    return (terms[0] + terms[1]) + (terms[2] + terms[3])


def _plain(x: Array, kernel: Array, *, padding: Padding) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _abstract(x: Any, kernel: Any, *, padding: Padding) -> ShapedArray:
    sizes = (
        side + sum(pad) - window + 1 for side, pad, window in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True)
    )
    return ShapedArray((x.shape[0], *sizes, kernel.shape[3]), x.dtype)


conv_p = Primitive("conv_stride_1")
conv_p.def_impl(jax.jit(_plain, static_argnames="padding"))
conv_p.def_abstract_eval(_abstract)
mlir.register_lowering(conv_p, mlir.lower_fun(_plain, multiple_results=False))


def _transpose_input(ct: Array, x: Any, kernel: Array, *, padding: Padding) -> Array:
    # The transpose of a correlation is the correlation with the kernel turned by 180° and its channels swapped.
    del x
    (top, bottom), (left, right) = padding
    h, w = kernel.shape[0] - 1, kernel.shape[1] - 1
    return convolve(ct, turn_p.bind(kernel), ((h - top, h - bottom), (w - left, w - right)))


def _transpose_kernel(ct: Array, x: Array, kernel: Any, *, padding: Padding) -> Array:
    del kernel
    return filter_p.bind(x, ct, padding=padding)


ad.defbilinear(conv_p, _transpose_input, _transpose_kernel)


def _batch(arguments: tuple[Array, Array], axes: tuple[Any, Any], *, padding: Padding) -> tuple[Array, int]:
    x, kernel = arguments
    if axes[1] is None:
        x = jnp.moveaxis(x, axes[0], 0)
        merged = convolve(jnp.reshape(x, (-1, *x.shape[2:])), kernel, padding)
        return jnp.reshape(merged, (*x.shape[:2], *merged.shape[1:])), 0
    # A network a batch entry: rare, and grouped convolution is what JAX makes of it.
    return jax.vmap(partial(_plain, padding=padding), axes)(x, kernel), 0


batching.primitive_batchers[conv_p] = _batch


def _turn(kernel: Array) -> Array:
    return jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)


turn_p = Primitive("conv_kernel_turned")
turn_p.def_impl(jax.jit(_turn))
turn_p.def_abstract_eval(lambda kernel: ShapedArray((*kernel.shape[:2], *kernel.shape[:1:-1]), kernel.dtype))
mlir.register_lowering(turn_p, mlir.lower_fun(_turn, multiple_results=False))
# In a loop the turned kernel is the same at every step. XLA moves no bare transpose out of a loop, but it moves a barrier
# and what comes before it.
_turn_once = mlir.lower_fun(lambda kernel: lax.optimization_barrier(_turn(kernel)), multiple_results=False)
mlir.register_lowering(turn_p, _turn_once, platform="cpu")
ad.deflinear2(turn_p, lambda ct, _: [turn_p.bind(ct)])
batching.primitive_batchers[turn_p] = lambda kernels, axes: (jax.vmap(_turn, axes)(*kernels), 0)


def _taps(x: Any, ct: Any, padding: Padding) -> tuple[int, int]:
    """The kernel's size, from the shapes of what goes in and of what came out."""
    rows, columns = (
        side + sum(pad) - out + 1 for side, pad, out in zip(x.shape[1:3], padding, ct.shape[1:3], strict=True)
    )
    return rows, columns


def _filter_plain(x: Array, ct: Array, *, padding: Padding) -> Array:
    shape = jax.ShapeDtypeStruct((*_taps(x, ct, padding), x.shape[3], ct.shape[3]), x.dtype)
    (gradient,) = jax.linear_transpose(partial(_plain, x, padding=padding), shape)(ct)
    return gradient


def _filter_by_images(x: Array, ct: Array, *, padding: Padding) -> Array:
    """The same as matrix products, one image at a time on each device, so that what they read stays in the cache.

    G[i, j] = Σ x[r + i, c + j]ᵀ ct[r, c] over the pixels (r, c). With x shifted along rows only, and ct along columns only, one
    product has all (i, j). So a pixel is copied h + w times, in place of h w times for patches of x.
    """
    (h, w), (n, height, _, features), channels = _taps(x, ct, padding), ct.shape, x.shape[3]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    ct = jnp.pad(ct, ((0, 0), (0, 0), (w - 1, w - 1), (0, 0)))
    width, devices = x.shape[2], math.gcd(n, jax.device_count())
    sums = wide(x.dtype)
    rows = _divisor(height, CACHE // (width * (h * channels + w * features) * x.dtype.itemsize))

    def add_rows(total: Array, first: Array, x: Array, ct: Array) -> Array:
        x = lax.dynamic_slice_in_dim(x, first, rows + h - 1, 1)
        ct = lax.dynamic_slice_in_dim(ct, first, rows, 1)
        down = jnp.concatenate([x[:, i : i + rows] for i in range(h)], -1)
        across = jnp.concatenate([ct[:, :, j : j + width] for j in reversed(range(w))], -1)
        flat = (jnp.reshape(a, (devices, rows * width, -1)) for a in (across, down))
        return total + jnp.einsum("dpo,dpi->doi", *flat, preferred_element_type=sums)

    def add_image(total: Array, image: tuple[Array, ...]) -> tuple[Array, None]:
        return lax.fori_loop(0, height // rows, lambda k, total: add_rows(total, k * rows, *image), total), None

    # A batch that is split over devices stays split: its devices take one image each, and are summed at the end.
    images = [jnp.swapaxes(jnp.reshape(a, (devices, n // devices, *a.shape[1:])), 0, 1) for a in (x, ct)]
    total, _ = lax.scan(add_image, jnp.zeros((devices, w * features, h * channels), sums), tuple(images))
    gradient = jnp.reshape(jnp.sum(total, 0), (w, features, h, channels))
    return jnp.transpose(gradient, (2, 0, 3, 1)).astype(x.dtype)


def _filter_convolved(x: Array, ct: Array, *, padding: Padding) -> Array:
    """The same as one convolution in NHWC and HWIO: images are the channels, and ``ct`` is the kernel.

    XLA's own form is the same convolution in another layout, for which oneDNN has no fast code. Outside of loops XLA mends it.
    """
    images, kernel = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(ct, (1, 2, 0, 3))
    return jnp.transpose(_plain(images, kernel, padding=padding), (1, 2, 0, 3))


def _divisor(number: int, most: int) -> int:
    """The largest divisor of ``number`` up to ``most``, or 1."""
    return max(d for d in range(1, max(min(number, most), 1) + 1) if number % d == 0)


def _filter_cpu(x: Array, ct: Array, *, padding: Padding) -> Array:
    # Without oneDNN, the convolution runs at a third to a half of the forward pass's rate. With oneDNN, an update of training
    # takes as long with either form, but for 1×1 kernels. docs/performance.md has the figures.
    by_images = not runtime.in_use().onednn or _taps(x, ct, padding) == (1, 1)
    return (_filter_by_images if by_images else _filter_convolved)(x, ct, padding=padding)


def _filter_abstract(x: Any, ct: Any, *, padding: Padding) -> ShapedArray:
    return ShapedArray((*_taps(x, ct, padding), x.shape[3], ct.shape[3]), x.dtype)


filter_p = Primitive("conv_stride_1_filter_gradient")
filter_p.def_impl(jax.jit(lambda x, ct, padding: filter_p.bind(x, ct, padding=padding), static_argnames="padding"))
filter_p.def_abstract_eval(_filter_abstract)
mlir.register_lowering(filter_p, mlir.lower_fun(_filter_plain, multiple_results=False))
mlir.register_lowering(filter_p, mlir.lower_fun(_filter_cpu, multiple_results=False), platform="cpu")


def _filter_transpose_input(gradient: Array, x: Any, ct: Array, *, padding: Padding) -> Array:
    # ⟨gradient, filter(x, ct)⟩ = ⟨x ⋆ gradient, ct⟩, so both transposes are convolutions with the gradient as kernel.
    return _transpose_input(ct, x, gradient, padding=padding)


def _filter_transpose_output(gradient: Array, x: Array, ct: Any, *, padding: Padding) -> Array:
    del ct
    return convolve(x, gradient, padding)


ad.defbilinear(filter_p, _filter_transpose_input, _filter_transpose_output)


def _filter_batch(arguments: tuple[Array, Array], axes: tuple[Any, Any], *, padding: Padding) -> tuple[Array, int]:
    return jax.vmap(partial(_filter_plain, padding=padding), axes)(*arguments), 0


batching.primitive_batchers[filter_p] = _filter_batch
