"""The UNet of guided-diffusion in Flax linen: channels last, float32 or bfloat16 compute over float32 parameters.

Parameter names follow the state dict of the original: ``input_blocks.1.0.in_layers.2.weight`` is
``params["input_blocks_1_0"]["in_layers_2"]["kernel"]``, so that conversion is a mechanical two-way map.

Reference: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis" (2021).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxdiff.models.config import NORM_GROUPS, Layer, UNetConfig, layout
from jaxdiff.models.convolution import convolve, convolve_by_two, convolve_upsampled
from jaxdiff.typing import Array

__all__ = ["UNet", "timestep_embedding"]

MAX_PERIOD = 10_000.0
EPSILON = 1e-5

# PyTorch's default: uniform with variance 1 / (3 fan_in).
_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_zeros = nn.initializers.zeros_init()


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
    half = dim // 2
    # Rounded step by step in float32 as the original does, so that large phases agree with it.
    exponent = np.float32(-math.log(MAX_PERIOD)) * np.arange(half, dtype=np.float32) / np.float32(half)
    frequency = np.exp(exponent.astype(np.float64)).astype(np.float32)
    phase = t.astype(jnp.float32)[:, None] * jnp.asarray(frequency)[None, :]
    features = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)
    return jnp.pad(features, ((0, 0), (0, dim - 2 * half)))


def _wide(dtype: Any) -> Any:
    """The type of statistics, softmax and head: at least float32."""
    # Not promote_types, which strict promotion refuses for bfloat16 with float32.
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32


class GroupNorm(nn.Module):
    """Group norm over 32 groups, statistics in float32, with an optional scale and shift by the timestep.

    ``y = γ (x − μ_g) / √(σ²_g + ε) + β``, then ``y (1 + scale) + shift``. All of it is one affine map a channel. It costs two
    reductions over space and one fused pass, and the same again in the backward pass.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, film: Array | None = None) -> Array:
        """Normalise ``x`` [N, H, W, C]; ``film`` [N, 2C] is (scale, shift)."""
        channels = x.shape[-1]
        wide = _wide(self.dtype)
        gain = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32).astype(wide)[None, :]
        bias = self.param("bias", _zeros, (channels,), jnp.float32).astype(wide)[None, :]
        x = x.astype(wide)
        mean = _per_group(jnp.mean(x, axis=(1, 2)))
        # E(x−c)² − (μ−c)² at c = μ, a constant. Its second term is 0, but it carries the curvature that second derivatives
        # need (a gradient through a guided sampler). No gradient has to flow back through the centre over pixels.
        centre = jax.lax.stop_gradient(mean)
        second_moment = _per_group(jnp.mean(jnp.square(x - centre[:, None, None, :]), axis=(1, 2)))
        variance = second_moment - jnp.square(mean - centre)
        gain = gain * jax.lax.rsqrt(variance + EPSILON)
        if film is not None:
            scale, shift = jnp.split(film.astype(wide), 2, axis=-1)
            gain, bias = gain * (1 + scale), bias * (1 + scale) + shift
        y = (x - mean[:, None, None, :]) * gain[:, None, None, :] + bias[:, None, None, :]
        return y


def _per_group(moment: Array) -> Array:
    """Mean of a moment [N, C] over the channels of each group, given back to each channel."""
    n, channels = moment.shape
    size = channels // NORM_GROUPS
    mean = jnp.mean(jnp.reshape(moment, (n, NORM_GROUPS, size)), axis=-1, keepdims=True)
    return jnp.reshape(jnp.broadcast_to(mean, (n, NORM_GROUPS, size)), (n, channels))


def _upsample(x: Array) -> Array:
    """Nearest neighbour, twice the size. Stacking has a cheaper gradient (two adds) than broadcasting (a reduction)."""
    n, h, w, c = x.shape
    x = jnp.reshape(jnp.stack([x, x], axis=3), (n, h, 2 * w, c))
    return jnp.reshape(jnp.stack([x, x], axis=2), (n, 2 * h, 2 * w, c))


def _downsample(x: Array) -> Array:
    """Mean of 2×2 pixels, as three adds: a reduction over such short axes is many times slower."""
    n, h, w, c = x.shape
    x = jnp.reshape(x, (n, h // 2, 2, w, c))
    x = jnp.reshape(x[:, :, 0] + x[:, :, 1], (n, h // 2, w // 2, 2, c))
    return (x[:, :, :, 0] + x[:, :, :, 1]) * 0.25


class Conv(nn.Module):
    """Convolution with zero padding, size 3 or 1; ``resample`` "up": of the upsampled image, "down": of stride 2."""

    features: int
    size: int = 3
    resample: str | None = None
    zero: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply to ``x`` [N, H, W, C]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", _zeros if self.zero else _uniform, shape, jnp.float32)
        bias = self.param("bias", _zeros, (self.features,), jnp.float32)
        x = x.astype(self.dtype)
        if self.resample == "up":
            x = convolve_upsampled(x, kernel)
        elif self.resample == "down":
            x = convolve_by_two(x, kernel.astype(self.dtype))
        else:
            pad = (self.size // 2, self.size // 2)
            x = convolve(x, kernel.astype(self.dtype), (pad, pad))
        return x + bias.astype(self.dtype)[None, None, None, :]


class ResBlock(nn.Module):
    """``skip(x) + conv(silu(norm(conv(silu(norm(x))), t)))``, resampling both ways before the first convolution."""

    layer: Layer
    config: UNetConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, emb: Array, train: bool) -> Array:
        """Apply to ``x`` [N, H, W, C] with the timestep's features ``emb`` [N, E] (after SiLU)."""
        config, features = self.config, self.layer.channels_out
        h = nn.silu(GroupNorm(self.dtype, name="in_layers_0")(x)).astype(self.dtype)
        up = self.layer.kind == "res_up"
        if self.layer.kind == "res_down":
            h, x = _downsample(h), _downsample(x)
        elif up:
            x = _upsample(x)  # and h, within the convolution
        h = Conv(features, resample="up" if up else None, dtype=self.dtype, name="in_layers_2")(h)
        film_features = 2 * features if config.use_scale_shift_norm else features
        # The features of t stay float32: they are a vector an image, and cost nothing.
        film = nn.Dense(film_features, dtype=emb.dtype, kernel_init=_uniform, name="emb_layers_1")(emb)
        norm = GroupNorm(self.dtype, name="out_layers_0")
        h = norm(h, film) if config.use_scale_shift_norm else norm(h.astype(film.dtype) + film[:, None, None, :])
        h = nn.silu(h).astype(self.dtype)
        h = nn.Dropout(config.dropout, deterministic=not train)(h)
        h = Conv(features, zero=True, dtype=self.dtype, name="out_layers_3")(h)
        if features != x.shape[-1]:
            x = Conv(features, size=1, dtype=self.dtype, name="skip_connection")(x)
        return x + h


class Attention(nn.Module):
    """Self-attention over pixels: ``x + W softmax(q kᵀ / √d) v``, softmax in float32."""

    heads: int
    order: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Attend over ``x`` [N, H, W, C]."""
        n, height, width, channels = x.shape
        size = channels // self.heads
        h = GroupNorm(self.dtype, name="norm")(x).astype(self.dtype)
        h = jnp.reshape(h, (n, height * width, channels))
        qkv = nn.Dense(3 * channels, dtype=self.dtype, kernel_init=_uniform, name="qkv")(h)
        if self.order == "legacy":
            q, k, v = jnp.unstack(jnp.reshape(qkv, (n, -1, self.heads, 3, size)), axis=3)
        else:
            q, k, v = jnp.unstack(jnp.reshape(qkv, (n, -1, 3, self.heads, size)), axis=2)
        # The scale is shared between q and k so that neither overflows in half precision.
        scale = 1 / math.sqrt(math.sqrt(size))
        wide = _wide(self.dtype)
        logits = jnp.einsum("nthc,nshc->nhts", q * scale, k * scale, preferred_element_type=wide)
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        h = jnp.reshape(jnp.einsum("nhts,nshc->nthc", weights, v), (n, -1, channels))
        h = nn.Dense(channels, dtype=self.dtype, kernel_init=_zeros, name="proj_out")(h)
        return x + jnp.reshape(h, x.shape)


class Resample(nn.Module):
    """A plain resampling layer, with a convolution where ``conv`` says so."""

    kind: str
    conv: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Halve or double ``x`` [N, H, W, C]."""
        channels = x.shape[-1]
        if self.kind == "down":
            return Conv(channels, resample="down", dtype=self.dtype, name="op")(x) if self.conv else _downsample(x)
        return Conv(channels, resample="up", dtype=self.dtype, name="conv")(x) if self.conv else _upsample(x)


class UNet(nn.Module):
    """The whole network: ``module.apply({"params": params}, x, t, y) → output``.

    Attributes:
        config: the architecture.
        dtype: type of the convolutions and attention, float32 or bfloat16; parameters, norm statistics, softmax, the
            features of t and the output head stay float32.
        remat: keep only what goes from layer to layer for a gradient, and compute the rest again: less memory, one more
            forward pass. The result is the same.
    """

    config: UNetConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, t: Array, y: Array | None = None, *, train: bool = False) -> Array:
        """Predict from noisy images.

        Args:
            x: [N, H, W, C] in [-1, 1] plus noise.
            t: [N], timesteps as in training, whole or fractional.
            y: [N], class labels, for a class-conditional network.
            train: apply dropout (needs a "dropout" key).

        Returns:
            [N, H, W, out_channels], float32.

        Raises:
            ValueError: if shapes or labels do not suit the network; the sentence says what would.
        """
        config = self.config
        _check_inputs(config, x, t, y)
        wide = _wide(self.dtype)
        emb = self._embed(t, y, wide)
        blocks = layout(config)
        h = x.astype(self.dtype)
        skips = []
        for block in blocks.inputs:
            h = self._run(block, h, emb, train)
            skips.append(h)
        h = self._run(blocks.middle, h, emb, train)
        for block in blocks.outputs:
            h = self._run(block, jnp.concatenate([h, skips.pop()], axis=-1), emb, train)
        h = nn.silu(GroupNorm(wide, name="out_0")(h))
        return Conv(config.out_channels, zero=True, dtype=wide, name="out_2")(h)

    def _embed(self, t: Array, y: Array | None, dtype: Any) -> Array:
        """Features of timestep and label, after the SiLU that every residual block would start with."""
        features = 4 * self.config.model_channels
        emb = timestep_embedding(t, self.config.model_channels).astype(dtype)
        emb = nn.silu(nn.Dense(features, dtype=dtype, kernel_init=_uniform, name="time_embed_0")(emb))
        emb = nn.Dense(features, dtype=dtype, kernel_init=_uniform, name="time_embed_2")(emb)
        if self.config.num_classes is not None:
            emb = emb + nn.Embed(
                self.config.num_classes,
                features,
                dtype=dtype,
                embedding_init=nn.initializers.normal(1.0),
                name="label_emb",
            )(y)
        return nn.silu(emb)

    def _run(self, block: tuple[Layer, ...], h: Array, emb: Array, train: bool) -> Array:
        for layer in block:
            h = self._layer(layer, h, emb, train)
        return h

    def _layer(self, layer: Layer, h: Array, emb: Array, train: bool) -> Array:
        config = self.config
        if layer.kind == "conv":
            return Conv(layer.channels_out, dtype=self.dtype, name=layer.name)(h)
        if layer.kind == "attention":
            attention = nn.remat(Attention) if self.remat else Attention
            return attention(layer.heads, config.attention_order, self.dtype, name=layer.name)(h)
        if layer.kind in ("down", "up"):
            return Resample(layer.kind, config.conv_resample, self.dtype, name=layer.name)(h)
        block = nn.remat(ResBlock, static_argnums=3) if self.remat else ResBlock
        return block(layer, config, self.dtype, name=layer.name)(h, emb, train)


def _check_inputs(config: UNetConfig, x: Array, t: Array, y: Array | None) -> None:
    if x.ndim != 4 or x.shape[-1] != config.in_channels:
        raise ValueError(f"the network takes x [N, H, W, {config.in_channels}], got shape {x.shape}.")
    n, height, width, _ = x.shape
    factor = 2**config.depth
    if height % factor or width % factor or not height or not width:
        nearest = " × ".join(str(max(1, round(side / factor)) * factor) for side in (height, width))
        raise ValueError(
            f"the network halves an image {config.depth} times, so height and width must be multiples of {factor}; "
            f"got {height} × {width}: crop or resize to {nearest}."
        )
    if t.shape != (n,):
        raise ValueError(f"the network takes one timestep an image, t [{n}], got shape {t.shape}.")
    if (y is None) != (config.num_classes is None):
        need = "takes no labels" if y is not None else f"needs labels y [{n}] in 0 … {(config.num_classes or 1) - 1}"
        raise ValueError(f"this network {need}.")
    if y is not None and (y.shape != (n,) or not jnp.issubdtype(y.dtype, jnp.integer)):
        raise ValueError(f"labels must be whole numbers, y [{n}], got shape {y.shape} of {y.dtype}.")
