"""The UNet of guided-diffusion in Flax linen: channels last, float32 or bfloat16 compute over float32 parameters.

Parameter names follow the state dict of the original: ``input_blocks.1.0.in_layers.2.weight`` is
``params["input_blocks_1_0"]["in_layers_2"]["kernel"]``, so that conversion is a mechanical two-way map.

Reference: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis" (2021).
"""

import jax.numpy as jnp
from flax import linen as nn

from jaxdiff.models.config import Layer, UNetConfig, layout
from jaxdiff.models.layers import (
    Conv,
    Dense,
    GroupNorm,
    attend,
    check_inputs,
    downsample,
    from_patches,
    timestep_embedding,
    to_patches,
    uniform,
    upsample,
    zeros,
)
from jaxdiff.numerics import wide
from jaxdiff.typing import Array, DTypeLike

__all__ = ["UNet"]


class ResBlock(nn.Module):
    """``skip(x) + conv(silu(norm(conv(silu(norm(x))), t)))``, resampling both ways before the first convolution."""

    layer: Layer
    config: UNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, emb: Array, train: bool) -> Array:
        """Apply to ``x`` [N, H, W, C] with the timestep's features ``emb`` [N, E] (after SiLU)."""
        config, features = self.config, self.layer.channels_out
        h = nn.silu(GroupNorm(self.dtype, config.norm_groups, name="in_layers_0")(x)).astype(self.dtype)
        up = self.layer.kind == "res_up"
        if self.layer.kind == "res_down":
            h, x = downsample(h), downsample(x)
        elif up:
            x = upsample(x)  # and h, within the convolution
        h = Conv(features, resample="up" if up else None, dtype=self.dtype, name="in_layers_2")(h)
        film_features = 2 * features if config.use_scale_shift_norm else features
        # The features of t stay float32: they are a vector an image, and cost nothing.
        film = Dense(film_features, dtype=emb.dtype, kernel_init=uniform, name="emb_layers_1")(emb)
        norm = GroupNorm(self.dtype, config.norm_groups, name="out_layers_0")
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
    config: UNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Attend over ``x`` [N, H, W, C]."""
        n, height, width, channels = x.shape
        h = GroupNorm(self.dtype, self.config.norm_groups, name="norm")(x).astype(self.dtype)
        h = jnp.reshape(h, (n, height * width, channels))
        qkv = Dense(3 * channels, dtype=self.dtype, kernel_init=uniform, name="qkv")(h)
        h = attend(qkv, self.heads, self.config.attention_order, self.dtype)
        h = Dense(channels, dtype=self.dtype, kernel_init=zeros, name="proj_out")(h)
        return x + jnp.reshape(h, x.shape)


class Resample(nn.Module):
    """A plain resampling layer, with a convolution where ``conv`` says so."""

    kind: str
    conv: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Halve or double ``x`` [N, H, W, C]."""
        channels = x.shape[-1]
        if self.kind == "down":
            return Conv(channels, resample="down", dtype=self.dtype, name="op")(x) if self.conv else downsample(x)
        return Conv(channels, resample="up", dtype=self.dtype, name="conv")(x) if self.conv else upsample(x)


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
    dtype: DTypeLike = jnp.float32
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
        check_inputs(config, x, t, y)
        emb = self._embed(t, y, wide(self.dtype))
        blocks = layout(config)
        h = to_patches(x.astype(self.dtype), config.patch_size)
        skips = []
        for block in blocks.inputs:
            h = self._run(block, h, emb, train)
            skips.append(h)
        h = self._run(blocks.middle, h, emb, train)
        for block in blocks.outputs:
            h = self._run(block, jnp.concatenate([h, skips.pop()], axis=-1), emb, train)
        head = wide(self.dtype)
        h = nn.silu(GroupNorm(head, config.norm_groups, name="out_0")(h))
        h = Conv(config.out_channels * config.patch_size**2, zero=True, dtype=head, name="out_2")(h)
        return from_patches(h, config.patch_size)

    def _embed(self, t: Array, y: Array | None, dtype: DTypeLike) -> Array:
        """Features of timestep and label, after the SiLU that every residual block would start with."""
        features = 4 * self.config.model_channels
        emb = timestep_embedding(t, self.config.model_channels).astype(dtype)
        emb = nn.silu(Dense(features, dtype=dtype, kernel_init=uniform, name="time_embed_0")(emb))
        emb = Dense(features, dtype=dtype, kernel_init=uniform, name="time_embed_2")(emb)
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
            return attention(layer.heads, config, self.dtype, name=layer.name)(h)
        if layer.kind in ("down", "up"):
            return Resample(layer.kind, config.conv_resample, self.dtype, name=layer.name)(h)
        block = nn.remat(ResBlock, static_argnums=3) if self.remat else ResBlock
        return block(layer, config, self.dtype, name=layer.name)(h, emb, train)
