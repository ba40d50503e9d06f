"""The features of FID and KID: Inception-v3 as Heusel et al. trained it, in plain JAX.

Weights are named arrays, ``NAME/kernel`` [h, w, in, out] and ``NAME/bias`` [out] for each convolution; the batch norm after it
is part of both. They are too large for the package (87 MB): ``jaxdiff convert inception`` makes them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdiff import assets
from jaxdiff.typing import Array, Shape

__all__ = ["FEATURES", "inception_features", "inception_params", "inception_shapes"]

FEATURES = 2048
SIDE = 299
"""Pixels of a side of the image that the network sees."""
FILE = "inception.safetensors"
SOURCE = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"

Weights = Mapping[str, Array | np.ndarray]


class Conv(NamedTuple):
    """A convolution and its ReLU; with ``stride`` 2, or where ``valid`` says so, there are no zeros around the image."""

    name: str
    features: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False


class Pool(NamedTuple):
    """A pool over 3×3 pixels: "max" with the stride, or "mean" over the pixels that are inside the image."""

    kind: str
    stride: int = 1


class Split(NamedTuple):
    """Chains that start from the same image; their results are put side by side."""

    chains: tuple[tuple["Step", ...], ...]


Step = Conv | Pool | Split


def _a(name: str, pooled: int) -> Split:
    """At 35×35."""
    return Split(
        (
            (Conv(f"{name}/branch1x1", 64),),
            (Conv(f"{name}/branch5x5_1", 48), Conv(f"{name}/branch5x5_2", 64, (5, 5))),
            (
                Conv(f"{name}/branch3x3dbl_1", 64),
                Conv(f"{name}/branch3x3dbl_2", 96, (3, 3)),
                Conv(f"{name}/branch3x3dbl_3", 96, (3, 3)),
            ),
            (Pool("mean"), Conv(f"{name}/branch_pool", pooled)),
        )
    )


def _b(name: str) -> Split:
    """From 35×35 to 17×17."""
    return Split(
        (
            (Conv(f"{name}/branch3x3", 384, (3, 3), stride=2),),
            (
                Conv(f"{name}/branch3x3dbl_1", 64),
                Conv(f"{name}/branch3x3dbl_2", 96, (3, 3)),
                Conv(f"{name}/branch3x3dbl_3", 96, (3, 3), stride=2),
            ),
            (Pool("max", stride=2),),
        )
    )


def _c(name: str, width: int) -> Split:
    """At 17×17."""
    return Split(
        (
            (Conv(f"{name}/branch1x1", 192),),
            (
                Conv(f"{name}/branch7x7_1", width),
                Conv(f"{name}/branch7x7_2", width, (1, 7)),
                Conv(f"{name}/branch7x7_3", 192, (7, 1)),
            ),
            (
                Conv(f"{name}/branch7x7dbl_1", width),
                Conv(f"{name}/branch7x7dbl_2", width, (7, 1)),
                Conv(f"{name}/branch7x7dbl_3", width, (1, 7)),
                Conv(f"{name}/branch7x7dbl_4", width, (7, 1)),
                Conv(f"{name}/branch7x7dbl_5", 192, (1, 7)),
            ),
            (Pool("mean"), Conv(f"{name}/branch_pool", 192)),
        )
    )


def _d(name: str) -> Split:
    """From 17×17 to 8×8."""
    return Split(
        (
            (Conv(f"{name}/branch3x3_1", 192), Conv(f"{name}/branch3x3_2", 320, (3, 3), stride=2)),
            (
                Conv(f"{name}/branch7x7x3_1", 192),
                Conv(f"{name}/branch7x7x3_2", 192, (1, 7)),
                Conv(f"{name}/branch7x7x3_3", 192, (7, 1)),
                Conv(f"{name}/branch7x7x3_4", 192, (3, 3), stride=2),
            ),
            (Pool("max", stride=2),),
        )
    )


def _e(name: str, pool: str) -> Split:
    """At 8×8. The last one has a max pool where the paper has a mean; the weights were trained so."""

    def both(stem: str) -> Split:
        return Split(((Conv(f"{stem}a", 384, (1, 3)),), (Conv(f"{stem}b", 384, (3, 1)),)))

    return Split(
        (
            (Conv(f"{name}/branch1x1", 320),),
            (Conv(f"{name}/branch3x3_1", 384), both(f"{name}/branch3x3_2")),
            (
                Conv(f"{name}/branch3x3dbl_1", 448),
                Conv(f"{name}/branch3x3dbl_2", 384, (3, 3)),
                both(f"{name}/branch3x3dbl_3"),
            ),
            (Pool(pool), Conv(f"{name}/branch_pool", 192)),
        )
    )


NETWORK: tuple[Step, ...] = (
    Conv("Conv2d_1a_3x3", 32, (3, 3), stride=2),
    Conv("Conv2d_2a_3x3", 32, (3, 3), valid=True),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    Pool("max", stride=2),
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, (3, 3), valid=True),
    Pool("max", stride=2),
    _a("Mixed_5b", 32),
    _a("Mixed_5c", 64),
    _a("Mixed_5d", 64),
    _b("Mixed_6a"),
    _c("Mixed_6b", 128),
    _c("Mixed_6c", 160),
    _c("Mixed_6d", 160),
    _c("Mixed_6e", 192),
    _d("Mixed_7a"),
    _e("Mixed_7b", "mean"),
    _e("Mixed_7c", "max"),
)


def inception_shapes() -> dict[str, Shape]:
    """Shape of each weight, by its name.

    >>> inception_shapes()["Conv2d_1a_3x3/kernel"]
    (3, 3, 3, 32)
    """
    shapes: dict[str, Shape] = {}
    _shapes(NETWORK, 3, shapes)
    return shapes


def _shapes(chain: tuple[Step, ...], channels: int, shapes: dict[str, Shape]) -> int:
    for step in chain:
        if isinstance(step, Split):
            channels = sum(_shapes(each, channels, shapes) for each in step.chains)
        elif isinstance(step, Conv):
            shapes |= {
                f"{step.name}/kernel": (*step.size, channels, step.features),
                f"{step.name}/bias": (step.features,),
            }
            channels = step.features
    return channels


def inception_params() -> Weights:
    """The weights, from ``$JAXDIFF_CACHE``, by default ``~/.cache/jaxdiff``.

    Raises:
        ValueError: if they have not been made; the sentence holds the command that makes them.
    """
    try:
        return dict(assets.tensors(FILE))
    except FileNotFoundError:
        raise ValueError(
            f"FID needs the weights of Inception-v3; download {SOURCE} and give it to `jaxdiff convert inception FILE`, "
            f"which writes {assets.cache_dir() / FILE}."
        ) from None


def inception_features(images: Array, params: Weights | None = None) -> Array:
    """The features of the last pool, of each image, [B, 2048].

    Images become 299×299 by bilinear interpolation without an antialiasing filter, as pytorch-fid does. So features of small
    and of large images differ; compare sets of one size.

    Args:
        images: [B, H, W, C] in [-1, 1], C = 3, or 1 (repeated to 3).
        params: weights from ``inception_params()``, read when not given. Pass them to keep 87 MB of constants out of a
            compiled program.

    Raises:
        ValueError: other shapes, or no weights.

    Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016; Heusel et al., "GANs Trained
    by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017. The numbers are those of ``pytorch-fid`` 0.3.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images must be [B, H, W, 3], or [B, H, W, 1], got shape {images.shape}.")
    params = inception_params() if params is None else params
    count = images.shape[0]
    h = jnp.broadcast_to(images, (*images.shape[:3], 3)).astype(jnp.float32)
    h = jax.image.resize(h, (count, SIDE, SIDE, 3), "linear", antialias=False)
    return jnp.mean(_run(NETWORK, h, params), axis=(1, 2))


def _run(chain: tuple[Step, ...], h: Array, params: Weights) -> Array:
    for step in chain:
        if isinstance(step, Split):
            h = jnp.concatenate([_run(each, h, params) for each in step.chains], axis=-1)
        elif isinstance(step, Pool):
            h = _pool(step, h)
        else:
            h = _convolve(step, h, params)
    return h


def _convolve(step: Conv, h: Array, params: Weights) -> Array:
    around = [(0, 0), (0, 0)] if step.valid or step.stride > 1 else [(size // 2, size // 2) for size in step.size]
    h = lax.conv_general_dilated(
        h,
        jnp.asarray(params[f"{step.name}/kernel"], h.dtype),
        (step.stride, step.stride),
        around,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # accelerators otherwise round to bfloat16 or TF32
    )
    return jnp.maximum(h + jnp.asarray(params[f"{step.name}/bias"], h.dtype), 0)


def _pool(step: Pool, h: Array) -> Array:
    window, strides = (1, 3, 3, 1), (1, step.stride, step.stride, 1)
    around = [(0, 0), (0, 0), (0, 0), (0, 0)] if step.stride > 1 else [(0, 0), (1, 1), (1, 1), (0, 0)]
    if step.kind == "max":
        return lax.reduce_window(h, np.asarray(-np.inf, h.dtype), lax.max, window, strides, around)
    zero = np.zeros((), h.dtype)
    total = lax.reduce_window(h, zero, lax.add, window, strides, around)
    inside = lax.reduce_window(jnp.ones_like(h[:1, :, :, :1]), zero, lax.add, window, strides, around)
    return total / inside
