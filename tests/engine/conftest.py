"""A prior small enough to run whole experiments in seconds: a network of a few weights, and Gaussian ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxdiff import denoisers, schedules


class TinyNet(nn.Module):
    """Two convolutions that know their time."""

    @nn.compact
    def __call__(self, x, t, y=None):
        time = jnp.sin(t.astype(jnp.float32) / 30.0).reshape(-1, 1, 1, 1)
        return nn.Conv(x.shape[-1], (3, 3))(nn.tanh(nn.Conv(4, (3, 3))(x + time)))


@pytest.fixture(scope="session")
def tiny():
    """A ``Denoiser`` for 32×32 colour images with a schedule of 50 steps."""
    module = TinyNet()
    params = module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1))["params"]
    return denoisers.Denoiser(params, schedules.linear(50), module=module, image_shape=(32, 32, 3))
