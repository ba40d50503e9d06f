"""How the operators of the catalogue are built at any image size: (key, image_shape) → operator.

Lengths that are a share of the image (boxes, large kernels, padding) scale with the side. Factors do not, nor do filters of
a few taps.
"""

import math
from typing import Literal

import jax
import numpy as np

from jaxdiff import operators as ops
from jaxdiff.operators.convolution import band_matrix
from jaxdiff.operators.kernels import gaussian_kernel
from jaxdiff.tasks.task import Make
from jaxdiff.typing import Key, Shape


def sides(shape: Shape) -> tuple[int, int]:
    """(H, W)."""
    return shape[0], shape[1]


def length(shape: Shape, pixels: float) -> int:
    """A length of so many pixels at 256, at this size (a share of the shorter side)."""
    return max(1, round(pixels * min(shape[:2]) / 256))


def odd_length(shape: Shape, pixels: float) -> int:
    """The same, rounded to an odd number of at least three."""
    return 2 * max(1, round((pixels * min(shape[:2]) / 256 - 1) / 2)) + 1


def width(shape: Shape, pixels: float) -> float:
    """A blur's standard deviation at this size, by the root of the side: 3/4 of a pixel at 64 would hardly show."""
    return pixels * math.sqrt(min(shape[:2]) / 256)


def gaussian(padding: Literal["reflect", "circular"]) -> Make:
    """A Gaussian of standard deviation 3 on 61 x 61 pixels at 256."""

    def make(key: Key, shape: Shape) -> ops.Operator:
        return ops.gaussian_blur(image_shape=shape, size=odd_length(shape, 61), std=width(shape, 3.0), padding=padding)

    return make


def motion(padding: Literal["reflect", "circular"]) -> Make:
    """A random camera shake of 61 x 61 pixels at 256."""
    return lambda key, shape: ops.motion_blur(key, image_shape=shape, size=odd_length(shape, 61), padding=padding)


def box(margin: int) -> Make:
    """A box of half the side, at random but so far from the border."""

    def make(key: Key, shape: Shape) -> ops.Operator:
        return ops.inpaint_box(image_shape=shape, size=length(shape, 128), key=key, margin=length(shape, margin))

    return make


def centred_box(part: int) -> Make:
    """A box in the middle, of one part of so many of each side."""
    return lambda key, shape: ops.inpaint_box(image_shape=shape, size=(shape[0] // part, shape[1] // part))


def random(fraction: float) -> Make:
    """A fraction of the pixels hidden at random."""
    return lambda key, shape: ops.inpaint_random(key, image_shape=shape, fraction=fraction)


def bicubic(factor: int) -> Make:
    """Antialiased bicubic downsampling."""
    return lambda key, shape: ops.super_resolution(image_shape=shape, factor=factor)


def blocks(factor: int) -> Make:
    """The mean of blocks."""
    return lambda key, shape: ops.block_average(image_shape=shape, factor=factor)


def phase(value_range: tuple[float, float]) -> Make:
    """Fourier magnitudes, oversampled."""
    return lambda key, shape: ops.phase_retrieval(image_shape=shape, value_range=value_range)


def hadamard(ratio: float) -> Make:
    """Walsh-Hadamard coefficients chosen at random."""
    return lambda key, shape: ops.compressed_sensing(key, image_shape=shape, ratio=ratio, signs=False)


def truncated_blur(down: np.ndarray, across: np.ndarray) -> Make:
    """The separable blur of DDRM and DDNM as their code builds it, from 2k + 1 taps along rows and columns.

    Their loop stops one short, so that the last tap is left out and the blur darkens; and singular values of either
    factor below 0.03 are set to zero in the operator itself, not in its inverse only.
    """

    def factor(side: int, taps: np.ndarray) -> np.ndarray:
        matrix = band_matrix(np.append(taps[:-1], 0.0), side, "zero")
        u, s, vt = np.linalg.svd(matrix)
        return (u * np.where(s < 3e-2, 0.0, s)) @ vt

    def make(key: Key, shape: Shape) -> ops.Operator:
        rows, columns = factor(shape[0], down), factor(shape[1], across)
        return ops.separable(image_shape=shape, rows=rows, columns=columns, rcond=1e-5)

    return make


def taps(count: int, std: float) -> np.ndarray:
    """Weights of a Gaussian on so many taps, sum 1."""
    weights = np.exp(-0.5 * ((np.arange(count) - count // 2) / std) ** 2)
    return weights / weights.sum()


def diffpir_gaussian(key: Key, shape: Shape) -> ops.Operator:
    """DiffPIR's Gaussian blur: its standard deviation is uniform in 3 to 9 pixels at 256."""
    std = width(shape, 3.0) * (2 * float(jax.random.uniform(key, ())) + 1)
    kernel = gaussian_kernel(odd_length(shape, 61), std)
    return ops.blur(image_shape=shape, kernel=kernel, padding="circular")


def mri(key: Key, shape: Shape) -> ops.Operator:
    """A single coil and a quarter of the columns."""
    return ops.mri(image_shape=shape, mask=ops.cartesian_mask(key, shape=sides(shape), acceleration=4))


def multicoil(key: Key, shape: Shape) -> ops.Operator:
    """Eight coils and an eighth of the columns."""
    mask = ops.cartesian_mask(key, shape=sides(shape), acceleration=8, center_fraction=0.04)
    return ops.multicoil_mri(
        image_shape=shape, mask=mask, sensitivities=ops.coil_sensitivities(shape=sides(shape), coils=8)
    )


def varying(key: Key, shape: Shape) -> ops.Operator:
    """Four Gaussians blended from corner to corner."""
    size = odd_length(shape, 41)
    kernels = [
        gaussian_kernel(size, (width(shape, a), width(shape, b))) for a, b in ((0.5, 0.5), (1, 4), (4, 1), (4, 4))
    ]
    weights = ops.blend_weights((shape[0], shape[1]), (2, 2))
    return ops.varying_blur(image_shape=shape, kernels=np.stack(kernels), weights=weights)
