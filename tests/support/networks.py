"""The smallest networks that still do what a prior does."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.record_inception import drawn_state
from jaxdiff import denoisers, schedules
from jaxdiff.metrics.inception import inception_shapes
from jaxdiff.metrics.lpips import TRUNKS
from jaxdiff.models import UNetConfig, timestep_embedding


class TinyNet(nn.Module):
    """Two convolutions that know their time; twice the channels where the variance is learned."""

    learned_variance: bool = False

    @nn.compact
    def __call__(self, x, t, y=None):
        time = jnp.sin(t.astype(jnp.float32) / 30.0).reshape(-1, 1, 1, 1)
        channels = x.shape[-1] * (2 if self.learned_variance else 1)
        return nn.Conv(channels, (3, 3))(nn.tanh(nn.Conv(4, (3, 3))(x + time)))


def tiny_denoiser(shape, schedule=None, *, learned_variance=False, **options):
    """A ``Denoiser`` around ``TinyNet`` for images of this shape [H, W, C], by default with 50 timesteps."""
    module = TinyNet(learned_variance)
    params = module.init(jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros(1))["params"]
    if learned_variance:
        options["variance"] = "learned_range"
    return denoisers.Denoiser(params, schedule or schedules.linear(50), module=module, image_shape=shape, **options)


def small_unet(**changes):
    """The configuration of the smallest UNet: 16×16, one level of 32 channels, no attention."""
    small = {"image_size": 16, "model_channels": 32, "num_res_blocks": 1, "channel_mult": (1,), "attention_factors": ()}
    return UNetConfig(**small | changes)


class TrainableNet(nn.Module):
    """Three layers with the UNet's call signature, for the trainer: it compiles in a second."""

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, t, y=None, *, train=False):
        wide = jnp.float64 if self.dtype == jnp.float64 else jnp.float32
        emb = nn.Dense(8, name="emb")(timestep_embedding(t, 16))
        if y is not None:
            emb = emb + nn.Embed(16, 8, name="label")(y)
        h = nn.Conv(8, (3, 3), dtype=self.dtype, name="conv_in")(x)
        h = nn.silu(h + emb[:, None, None, :].astype(h.dtype))
        return nn.Conv(self.channels, (3, 3), name="conv_out")(h.astype(wide))


def trainable(config):
    """What ``jaxdiff.training.state.network`` gives, with ``TrainableNet`` for the UNet."""
    return TrainableNet(config.prior.unet.out_channels, jnp.dtype(config.dtype))


def install():
    """Trainers get ``TrainableNet``, in processes that tests start; tests use monkeypatch."""
    from jaxdiff.training import loop, state

    state.network = loop.network = trainable
    loop.export_averages = lambda *_: None


def quick(monkeypatch, small_network):
    """Trainers get three layers in place of a UNet, and so export no prior; for one test."""
    from jaxdiff.training import loop, state

    monkeypatch.setattr(state, "network", small_network)
    monkeypatch.setattr(loop, "network", small_network)
    monkeypatch.setattr(loop, "export_averages", lambda *_: None)


def random_lpips(net, seed=0):
    """Weights of LPIPS drawn from a seed."""
    rng = np.random.default_rng(seed)
    params, channels, taps = {}, 3, 0
    for i, conv in enumerate(TRUNKS[net]):
        shape = (conv.size, conv.size, channels, conv.features)
        params[f"conv{i}/kernel"] = rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[:3]) / 2)
        params[f"conv{i}/bias"] = 0.1 * rng.standard_normal(conv.features).astype(np.float32)
        channels = conv.features
        if conv.tap:
            params[f"linear{taps}"] = rng.uniform(0, 1, channels).astype(np.float32)
            taps += 1
    return params


def random_inception():
    """A state dict of FID's network drawn from a seed, by the names of torch."""
    kernels = {name.removesuffix("/kernel"): shape for name, shape in inception_shapes().items() if len(shape) == 4}
    return drawn_state({name.replace("/", "."): (s[3], s[2], s[0], s[1]) for name, s in kernels.items()})
