"""Layers that the networks share: norms, convolutions, resampling, attention, and features of the noise level."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.errors import ScopeParamShapeError

from jaxdiff.models.config import NORM_GROUPS
from jaxdiff.models.convolution import convolve, convolve_by_two, convolve_upsampled
from jaxdiff.numerics import wide
from jaxdiff.typing import Array, DTypeLike

__all__ = [
    "FREQUENCIES",
    "Conv",
    "Dense",
    "GroupNorm",
    "NetworkConfig",
    "Parametric",
    "attend",
    "check_inputs",
    "downsample",
    "from_patches",
    "sinusoids",
    "timestep_embedding",
    "to_patches",
    "uniform",
    "upsample",
    "zeros",
]

MAX_PERIOD = 10_000.0
EPSILON = 1e-5

# PyTorch's default: uniform with variance 1 / (3 fan_in).
uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
zeros = nn.initializers.zeros_init()


class NetworkConfig(Protocol):
    """What every family's configuration tells of its network."""

    @property
    def in_channels(self) -> int:
        """Channels of x."""
        ...

    @property
    def num_classes(self) -> int | None:
        """Classes of a class-conditional network."""
        ...

    @property
    def multiple(self) -> int:
        """What height and width of an image must be multiples of."""
        ...


def timestep_embedding(t: Array, dim: int) -> Array:
    """Sinusoidal features of timesteps, ``[cos(t f_i), sin(t f_i)]`` with ``f_i = 10000^(−i / half)``.

    Args:
        t: [N], timesteps, whole or fractional.
        dim: number of features; an odd one is padded with a zero.

    Returns:
        [N, dim], float32. Phases are float32, so they are exact to about 3e-5 at t = 999.

    >>> timestep_embedding(jnp.array([0]), 4).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """
    return sinusoids(t, dim)


def sinusoids(t: Array, dim: int, *, shift: float = 0, sin_first: bool = False, rounding: str = "diffusers") -> Array:
    """Sinusoidal features of noise labels with frequencies ``f_i = 10000^(−i / (half − shift))``.

    Args:
        t: [N], labels.
        dim: number of features; an odd one is padded with a zero.
        shift: 1 where the last frequency is 1/10000, as in Ho et al. 2020; 0 in guided-diffusion.
        sin_first: ``[sin, cos]`` in place of ``[cos, sin]``.
        rounding: whose float32 steps the frequencies take, a key of ``FREQUENCIES``.

    Returns:
        [N, dim], float32.
    """
    half = dim // 2
    frequency = FREQUENCIES[rounding](np.arange(half, dtype=np.float32), half - shift)
    phase = t.astype(jnp.float32)[:, None] * jnp.asarray(frequency, jnp.float32)[None, :]
    waves = (jnp.sin(phase), jnp.cos(phase)) if sin_first else (jnp.cos(phase), jnp.sin(phase))
    return jnp.pad(jnp.concatenate(waves, axis=-1), ((0, 0), (0, dim - 2 * half)))


def _exp(exponent: np.ndarray) -> np.ndarray:
    return np.exp(exponent.astype(np.float64))


FREQUENCIES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "diffusers": lambda i, span: _exp(np.float32(-math.log(MAX_PERIOD)) * i / np.float32(span)),
    "score_sde": lambda i, span: _exp(np.float32(-math.log(MAX_PERIOD) / span) * i),
    "edm": lambda i, span: np.float64(np.float32(1 / MAX_PERIOD)) ** (i / np.float32(span)).astype(np.float64),
}
"""10000^(−i / span), rounded step by step in float32 as each code does it; "diffusers" is guided-diffusion's, too.

Phases reach 1000, so that the last digit of a frequency is 3e-5 of a feature.
"""


class Parametric(nn.Module):
    """A module that reads its parameters without their initialisers. flax traces these only to compare shapes.

    That was half of the time in which JAX traces a network.
    """

    @nn.nowrap
    def param(self, name: str, init_fn: Callable[..., Any], *init_args: Any, **options: Any) -> Any:
        """The parameter, or its initial value; ``init_args`` begin with its shape."""
        if not self.has_variable("params", name):
            return super().param(name, init_fn, *init_args, **options)
        value: Any = self.get_variable("params", name)
        shape = tuple(init_args[0])
        if jnp.shape(value) != shape:
            raise ScopeParamShapeError(name, "/".join(self.path), jnp.shape(value), shape)
        return value


class Dense(Parametric, nn.Dense):
    """flax's dense layer."""


class GroupNorm(Parametric):
    """Group norm over 32 groups (or as many as said), statistics in float32, with an optional scale and shift by the timestep.

    ``y = γ (x − μ_g) / √(σ²_g + ε) + β``, then ``y (1 + scale) + shift``. All of it is one affine map a channel. It costs two
    reductions over space and one fused pass, and the same again in the backward pass.
    """

    dtype: DTypeLike = jnp.float32
    groups: int = NORM_GROUPS
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: Array, film: Array | None = None) -> Array:
        """Normalise ``x`` [N, H, W, C]; ``film`` [N, 2C] is (scale, shift)."""
        channels = x.shape[-1]
        kind = wide(self.dtype)
        gain = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32).astype(kind)[None, :]
        bias = self.param("bias", zeros, (channels,), jnp.float32).astype(kind)[None, :]
        x = x.astype(kind)
        mean = _per_group(jnp.mean(x, axis=(1, 2)), self.groups)
        # E(x−c)² − (μ−c)² at c = μ, a constant. Its second term is 0, but it carries the curvature that second derivatives
        # need (a gradient through a guided sampler). No gradient has to flow back through the centre over pixels.
        centre = jax.lax.stop_gradient(mean)
        second_moment = _per_group(jnp.mean(jnp.square(x - centre[:, None, None, :]), axis=(1, 2)), self.groups)
        variance = second_moment - jnp.square(mean - centre)
        gain = gain * jax.lax.rsqrt(variance + self.epsilon)
        if film is not None:
            scale, shift = jnp.split(film.astype(kind), 2, axis=-1)
            gain, bias = gain * (1 + scale), bias * (1 + scale) + shift
        y = (x - mean[:, None, None, :]) * gain[:, None, None, :] + bias[:, None, None, :]
        return y


def _per_group(moment: Array, groups: int) -> Array:
    """Mean of a moment [N, C] over the channels of each group, given back to each channel."""
    n, channels = moment.shape
    size = channels // groups
    mean = jnp.mean(jnp.reshape(moment, (n, groups, size)), axis=-1, keepdims=True)
    return jnp.reshape(jnp.broadcast_to(mean, (n, groups, size)), (n, channels))


def upsample(x: Array) -> Array:
    """Nearest neighbour, twice the size. Stacking has a cheaper gradient (two adds) than broadcasting (a reduction)."""
    n, h, w, c = x.shape
    x = jnp.reshape(jnp.stack([x, x], axis=3), (n, h, 2 * w, c))
    return jnp.reshape(jnp.stack([x, x], axis=2), (n, 2 * h, 2 * w, c))


def downsample(x: Array) -> Array:
    """Mean of 2×2 pixels, as three adds: a reduction over such short axes is many times slower."""
    n, h, w, c = x.shape
    x = jnp.reshape(x, (n, h // 2, 2, w, c))
    x = jnp.reshape(x[:, :, 0] + x[:, :, 1], (n, h // 2, w // 2, 2, c))
    return (x[:, :, :, 0] + x[:, :, :, 1]) * 0.25


def to_patches(x: Array, size: int) -> Array:
    """Squares of ``size`` × ``size`` pixels as one pixel each: [N, H, W, C] to [N, H/s, W/s, s·s·C].

    Reference: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", 2016, backwards.
    """
    n, h, w, c = x.shape
    x = jnp.reshape(x, (n, h // size, size, w // size, size, c))
    return jnp.reshape(jnp.transpose(x, (0, 1, 3, 2, 4, 5)), (n, h // size, w // size, size * size * c))


def from_patches(x: Array, size: int) -> Array:
    """What ``to_patches`` took apart, put together: [N, H, W, s·s·C] to [N, s·H, s·W, C]."""
    n, h, w, c = x.shape
    c //= size * size
    x = jnp.transpose(jnp.reshape(x, (n, h, w, size, size, c)), (0, 1, 3, 2, 4, 5))
    return jnp.reshape(x, (n, h * size, w * size, c))


class Conv(Parametric):
    """Convolution with zero padding, size 3 or 1.

    ``resample`` "up" takes the upsampled image; "down" has stride 2 and a zero all around; "down_after" has stride 2 and
    zeros below and to the right only.
    """

    features: int
    size: int = 3
    resample: str | None = None
    zero: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply to ``x`` [N, H, W, C]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", zeros if self.zero else uniform, shape, jnp.float32)
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        x = x.astype(self.dtype)
        if self.resample == "up":
            x = convolve_upsampled(x, kernel)
        elif self.resample in ("down", "down_after"):
            x = convolve_by_two(x, kernel.astype(self.dtype), before=int(self.resample == "down"))
        else:
            pad = (self.size // 2, self.size // 2)
            x = convolve(x, kernel.astype(self.dtype), (pad, pad))
        return x + bias.astype(self.dtype)[None, None, None, :]


def attend(qkv: Array, heads: int, order: str, dtype: DTypeLike) -> Array:
    """softmax(q kᵀ / √d) v over the places of each image, softmax in float32.

    Args:
        qkv: [N, P, 3C], queries, keys and values at P places.
        heads: number of heads; each has C / heads channels.
        order: "legacy" lists q, k, v of each head in turn; "new" the heads of q, then those of k, then those of v.
        dtype: type of the products.

    Returns:
        [N, P, C].
    """
    n, places, channels = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    size = channels // heads
    if order == "legacy":
        q, k, v = jnp.unstack(jnp.reshape(qkv, (n, -1, heads, 3, size)), axis=3)
    else:
        q, k, v = jnp.unstack(jnp.reshape(qkv, (n, -1, 3, heads, size)), axis=2)
    # The scale is shared between q and k so that neither overflows in half precision.
    scale = 1 / math.sqrt(math.sqrt(size))
    logits = jnp.einsum("nthc,nshc->nhts", q * scale, k * scale, preferred_element_type=wide(dtype))
    weights = jax.nn.softmax(logits, axis=-1).astype(dtype)
    return jnp.reshape(jnp.einsum("nhts,nshc->nthc", weights, v), (n, places, channels))


def check_inputs(config: NetworkConfig, x: Array, t: Array, y: Array | None) -> None:
    """Refuse images, times or labels that do not suit a network; the sentence says what would."""
    if x.ndim != 4 or x.shape[-1] != config.in_channels:
        raise ValueError(f"the network takes x [N, H, W, {config.in_channels}], got shape {x.shape}.")
    n, height, width, _ = x.shape
    factor = config.multiple
    if height % factor or width % factor or not height or not width:
        nearest = " × ".join(str(max(1, round(side / factor)) * factor) for side in (height, width))
        raise ValueError(
            f"the network needs images whose height and width are multiples of {factor}; got {height} × {width}: crop or "
            f"resize to {nearest}."
        )
    if t.shape != (n,):
        raise ValueError(f"the network takes one timestep an image, t [{n}], got shape {t.shape}.")
    if (y is None) != (config.num_classes is None):
        classes = f"0 … {(config.num_classes or 1) - 1}"
        needed = f"needs labels y [{n}] in {classes}: give a class to load_denoiser(…, label=), or by --label"
        raise ValueError(f"this network {'takes no labels' if y is not None else needed}.")
    if y is not None and (y.shape != (n,) or not jnp.issubdtype(y.dtype, jnp.integer)):
        raise ValueError(f"labels must be whole numbers, y [{n}], got shape {y.shape} of {y.dtype}.")
