"""The UNet of DDPM, DDPM++ and NCSN++ in Flax linen, and of the many networks that are the same but for options.

One module runs the list of layers that ``song_layout`` makes of a ``SongConfig``: channels last, float32 or bfloat16
compute over float32 parameters.

References: Ho et al., "Denoising Diffusion Probabilistic Models" (2020); Song et al., "Score-Based Generative Modeling through
Stochastic Differential Equations" (2021); Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models"
(2022).
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdiff.models.layers import Conv, Dense, GroupNorm, Parametric, attend, check_inputs, sinusoids, uniform, zeros
from jaxdiff.models.resampling import convolve_then_halve, double_by, double_then_convolve, halve_by
from jaxdiff.models.song_config import SongConfig
from jaxdiff.models.song_layout import SongLayer, song_layout
from jaxdiff.numerics import wide
from jaxdiff.typing import Array, DTypeLike

__all__ = ["Song"]

ACTIVATIONS = {
    "silu": nn.silu,
    "relu": nn.relu,
    "elu": nn.elu,
    "lrelu": lambda x: nn.leaky_relu(x, 0.2),
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "mish": lambda x: x * jnp.tanh(nn.softplus(x)),
}


class FusedConv(Parametric):
    """3×3 convolution fused with resampling by a filter."""

    features: int
    way: str
    taps: tuple[float, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Halve or double ``x`` [N, H, W, C]."""
        kernel = self.param("kernel", uniform, (3, 3, x.shape[-1], self.features), jnp.float32).astype(self.dtype)
        bias = self.param("bias", zeros, (self.features,), jnp.float32).astype(self.dtype)
        resampled = (convolve_then_halve if self.way == "down" else double_then_convolve)(
            x.astype(self.dtype), kernel, self.taps
        )
        return resampled + bias[None, None, None, :]


class SongBlock(nn.Module):
    """``(shortcut(x) + conv(act(norm(conv(act(norm(x))), label)))) / scale``, resampled before the first convolution."""

    layer: SongLayer
    config: SongConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, emb: Array | None, train: bool) -> Array:
        """Apply to ``x`` [N, H, W, C] with the label's features ``emb`` [N, E], after the activation."""
        config, layer = self.config, self.layer
        act, taps = ACTIVATIONS[config.activation], config.resample_filter
        h = act(GroupNorm(self.dtype, layer.groups[0], config.epsilon, name="norm_0")(x)).astype(self.dtype)
        fused = layer.way == "up" and len(taps) in (0, 2)
        if layer.way is not None:
            resample = halve_by if layer.way == "down" else double_by
            x, h = resample(x, taps), h if fused else resample(h, taps)
        h = Conv(layer.after, resample="up" if fused else None, dtype=self.dtype, name="conv_0")(h)
        norm = GroupNorm(self.dtype, layer.groups[1], config.epsilon, name="norm_1")
        if emb is None:
            h = norm(h)
        else:
            film = Dense(
                layer.after * (2 if config.scale_shift else 1), dtype=emb.dtype, kernel_init=uniform, name="dense"
            )(emb)
            h = norm(h, film) if config.scale_shift else norm(h.astype(film.dtype) + film[:, None, None, :])
        h = nn.Dropout(config.dropout, deterministic=not train)(act(h).astype(self.dtype))
        h = Conv(layer.after, zero=True, dtype=self.dtype, name="conv_1")(h)
        if layer.shortcut:
            x = Conv(layer.after, size=1, dtype=self.dtype, name="shortcut")(x)
        return (x + h) / layer.scale


class SongAttention(nn.Module):
    """Self-attention over pixels: ``(x + W softmax(q kᵀ / √d) v) / scale``."""

    layer: SongLayer
    epsilon: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Attend over ``x`` [N, H, W, C]."""
        n, channels, groups = x.shape[0], x.shape[-1], self.layer.groups[0]
        h = GroupNorm(self.dtype, groups, self.epsilon, name="norm")(x) if groups else x
        h = jnp.reshape(h.astype(self.dtype), (n, -1, channels))
        qkv = Dense(3 * channels, dtype=self.dtype, kernel_init=uniform, name="qkv")(h)
        h = attend(qkv, self.layer.heads, "new", self.dtype)
        h = Dense(channels, dtype=self.dtype, kernel_init=zeros, name="out")(h)
        return (x + jnp.reshape(h, x.shape)) / self.layer.scale


class Head(nn.Module):
    """``conv(act(norm(x)))``."""

    layer: SongLayer
    config: SongConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply to ``x`` [N, H, W, C]."""
        act = ACTIVATIONS[self.config.outer_activation]
        h = act(GroupNorm(self.dtype, self.layer.groups[0], self.config.epsilon, name="norm")(x))
        return Conv(self.layer.after, zero=True, dtype=self.dtype, name="conv")(h)


class Song(nn.Module):
    """The whole network: ``module.apply({"params": params}, x, t, y) → output``.

    Attributes:
        config: the architecture.
        dtype: type of the convolutions and attention, float32 or bfloat16; parameters, norm statistics, softmax, the
            features of the label and the output heads stay float32.
        remat: keep only what goes from layer to layer for a gradient, and compute the rest again: less memory, one more
            forward pass. The result is the same.
    """

    config: SongConfig
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, t: Array, y: Array | None = None, *, train: bool = False) -> Array:
        """Predict from noisy images.

        Args:
            x: [N, H, W, C], on the range and scale of the training.
            t: [N], noise labels as in training.
            y: [N], class labels, or one vector each [N, num_classes], for a class-conditional network.
            train: apply dropout (needs a "dropout" key).

        Returns:
            [N, H, W, out_channels], float32.

        Raises:
            ValueError: if shapes or labels do not suit the network; the sentence says what would.
        """
        config = self.config
        null = config.num_classes is not None and config.null_label and y is None
        check_inputs(config, x, t, jnp.zeros(t.shape, jnp.int32) if null else _ids(y))
        emb = self._embed(t, y)
        h = (2 * x - 1 if config.center_input else x).astype(self.dtype)
        skips: list[Array] = []
        pyramid, output = h, None
        for layer in song_layout(config):
            if layer.join:
                h = jnp.concatenate([h, skips.pop()], axis=-1)
            if layer.kind in ("pyramid_down", "pyramid_skip", "pyramid_residual"):
                h, pyramid = self._take_in(layer, h, pyramid)
            elif layer.kind in ("head", "pyramid_up", "pyramid_grow"):
                h, output = self._give_out(layer, h, output)
            else:
                h = self._layer(layer, h, emb, train)
            if layer.keep:
                skips.append(h)
        return h if config.output_pyramid != "skip" else output  # type: ignore[return-value]

    def _layer(self, layer: SongLayer, h: Array, emb: Array | None, train: bool) -> Array:
        config = self.config
        if layer.kind == "conv":
            return Conv(layer.after, dtype=self.dtype, name=layer.name)(h)
        if layer.kind == "attention":
            attention = nn.remat(SongAttention) if self.remat else SongAttention
            return attention(layer, config.epsilon, self.dtype, name=layer.name)(h)
        if layer.kind == "resample":
            return self._resample(layer, h)
        if layer.kind == "out":
            return Head(layer, config, wide(self.dtype), name=layer.name)(h)
        block = nn.remat(SongBlock, static_argnums=3) if self.remat else SongBlock
        return block(layer, config, self.dtype, name=layer.name)(h, emb, train)

    def _resample(self, layer: SongLayer, h: Array) -> Array:
        """Halve or double, with a convolution where the layer has weights; the filter, where there is one, is fused."""
        taps, way = self.config.resample_filter, layer.way or "down"
        if layer.weights or layer.kind == "pyramid_residual":
            if taps:
                return FusedConv(layer.after, way, taps, self.dtype, name=layer.name)(h)
            how = "up" if way == "up" else "down" if self.config.downsample_padding else "down_after"
            return Conv(layer.after, resample=how, dtype=self.dtype, name=layer.name)(h)
        return halve_by(h, taps) if way == "down" else double_by(h, taps)

    def _take_in(self, layer: SongLayer, h: Array, pyramid: Array) -> tuple[Array, Array]:
        """Features and input pyramid after a layer that joins them."""
        if layer.kind == "pyramid_down":
            return h, halve_by(pyramid, self.config.resample_filter)
        if layer.kind == "pyramid_residual":
            h = (self._resample(layer._replace(way="down", weights=True), pyramid) + h) / layer.scale
            return h, h
        entering = Conv(layer.after, size=1, dtype=self.dtype, name=layer.name)(pyramid)
        h = jnp.concatenate([entering, h], axis=-1) if self.config.combine == "cat" else entering + h
        return h, pyramid

    def _give_out(self, layer: SongLayer, h: Array, output: Array | None) -> tuple[Array, Array | None]:
        """Features and output pyramid after a layer that adds to it."""
        if layer.kind == "head":
            images = self.config.output_pyramid == "skip"
            part = Head(layer, self.config, wide(self.dtype) if images else self.dtype, name=layer.name)(h)
            return h, part if output is None else output + part
        if output is None:
            return h, None
        if layer.kind == "pyramid_up":
            return h, double_by(output, self.config.resample_filter)
        h = (self._resample(layer._replace(way="up", weights=True), output) + h) / layer.scale
        return h, h

    def _embed(self, t: Array, y: Array | None) -> Array | None:
        """Features of label and class, after the activation that every residual block would start with."""
        config, dtype = self.config, wide(self.dtype)
        if config.embedding == "none":
            return None
        act, features, channels = ACTIVATIONS[config.outer_activation], config.noise_channels, config.embedding_channels
        if config.embedding == "fourier":
            emb = Fourier(features // 2, config.sin_first, config.label_rounding, name="noise_features")(t)
        else:
            sin_first, rounding = config.sin_first, config.label_rounding
            emb = sinusoids(t, features, shift=config.freq_shift, sin_first=sin_first, rounding=rounding)
        emb = emb.astype(dtype)
        early = config.num_classes is not None and config.label_place == "noise"
        if early:
            vector = self._class(y, dtype, len(t)) * math.sqrt(config.num_classes or 1)
            emb = emb + Dense(features, dtype=dtype, kernel_init=uniform, name="label")(vector)
        emb = act(Dense(channels, dtype=dtype, kernel_init=uniform, name="embed_0")(emb))
        emb = Dense(channels, dtype=dtype, kernel_init=uniform, name="embed_1")(emb)
        if config.num_classes is not None and not early:
            vector = self._class(y, dtype, len(t))
            label = Dense(channels, use_bias=False, dtype=dtype, kernel_init=nn.initializers.normal(1.0), name="label")
            emb = emb + label(vector)
        return ACTIVATIONS[config.activation](emb)

    def _class(self, y: Array | None, dtype: DTypeLike, count: int) -> Array:
        """One vector an image: its class, or zero where it has none."""
        classes = self.config.num_classes or 1
        if y is None:
            return jnp.zeros((count, classes), dtype)
        return jax.nn.one_hot(y, classes, dtype=dtype) if y.ndim == 1 else y.astype(dtype)


class Fourier(Parametric):
    """[cos, sin] of 2π f_i t for frequencies that stay as they were drawn."""

    count: int
    sin_first: bool
    rounding: str

    @nn.compact
    def __call__(self, t: Array) -> Array:
        """[N, 2·count] from [N], float32."""
        frequencies = self.param("frequencies", nn.initializers.normal(16.0), (self.count,), jnp.float32)
        frequencies = jax.lax.stop_gradient(frequencies)
        t, frequencies = t.astype(jnp.float32)[:, None], frequencies.astype(jnp.float32)[None, :]
        # Phases reach 1000, so that the order of the products shows.
        phase = t * (frequencies * (2 * math.pi)) if self.rounding == "edm" else t * frequencies * (2 * math.pi)
        waves = (jnp.sin(phase), jnp.cos(phase)) if self.sin_first else (jnp.cos(phase), jnp.sin(phase))
        return jnp.concatenate(waves, axis=-1)


def _ids(y: Array | None) -> Array | None:
    """Class labels in the shape of ids, where they are given as vectors."""
    return y if y is None or y.ndim == 1 else jnp.argmax(y, axis=-1)
