"""
Your own network
================

Any network that removes noise from images can be a prior. You train a small one on pictures of discs, and restore a disc
with it. Then you write the same network in Flax nnx, in Equinox and as a plain function, and use each in jaxdiff.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx

import jaxdiff as jd

SHAPE, SCHEDULE = (16, 16, 1), jd.schedules.linear(1000)
FACTS = {"schedule": SCHEDULE, "prediction": "x0", "image_shape": SHAPE}

# %%
# Data
# ----


def disc(key):
    """A bright disc of random place and size."""
    place, size = jax.random.split(key)
    y, x = jax.random.uniform(place, (2,), minval=4, maxval=12)
    radius = jax.random.uniform(size, minval=2, maxval=4)
    rows, columns = jnp.mgrid[:16, :16]
    return jnp.tanh(2 * (radius - jnp.hypot(rows - y, columns - x)))[..., None]


discs = jax.vmap(disc)(jax.random.split(jax.random.key(0), 6))
figure = jd.plots.image_table([list(np.asarray(discs))], title="discs")

# %%
# Flax linen
# ----------
#
# The module takes a batch [N, H, W, C] and timesteps [N].


class Net(linen.Module):
    """Three dense layers on the pixels and the timestep."""

    width: int = 256

    @linen.compact
    def __call__(self, x, t):
        """The clean images of a batch."""
        frequencies = 2.0 ** jnp.arange(8) * jnp.pi / 1000
        angles = t[:, None] * frequencies
        h = jnp.concatenate([x.reshape(len(x), -1), jnp.sin(angles), jnp.cos(angles)], axis=-1)
        for _ in range(3):
            h = linen.gelu(linen.Dense(self.width)(h))
        return linen.Dense(x[0].size)(h).reshape(x.shape)


module = Net()
params = module.init(jax.random.key(1), jnp.zeros((1, *SHAPE)), jnp.zeros(1))

# %%
# Train it for a few seconds
# --------------------------
#
# The network predicts the clean image, which a small network learns fast. For real training, use ``jaxdiff train``.

optimizer = optax.adam(2e-3)


@jax.jit
def update(params, state, key):
    """One step on 64 new discs."""
    keys = jax.random.split(key, 3)
    x0 = jax.vmap(disc)(jax.random.split(keys[0], 64))
    t = jax.random.randint(keys[1], (64,), 0, 1000)
    noise = jax.random.normal(keys[2], x0.shape)
    alpha_bar = SCHEDULE.alpha_bar[t][:, None, None, None]
    x_t = jnp.sqrt(alpha_bar) * x0 + jnp.sqrt(1 - alpha_bar) * noise

    def loss(params):
        return jnp.mean((module.apply(params, x_t, t.astype(jnp.float32)) - x0) ** 2)

    value, gradient = jax.value_and_grad(loss)(params)
    change, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, change), state, value


state, losses = optimizer.init(params), []
for i in range(1500):
    params, state, value = update(params, state, jax.random.fold_in(jax.random.key(2), i))
    losses.append(float(value))
figure = jd.plots.curves({"loss": (range(0, 1500, 20), losses[::20])}, x="update", y="loss")

# %%
# Restore with it
# ---------------
#
# ``from_module`` makes a prior of it. It needs three facts: the schedule, what the output means, and the shape of the images.

denoiser = jd.denoisers.from_module(module, params, **FACTS)
jd.testing.check_denoiser(denoiser)
truth = disc(jax.random.key(10))
operator = jd.operators.inpaint_mask(jnp.ones((16, 16)).at[:, 8:].set(0), image_shape=SHAPE)
problem = jd.observe(jax.random.key(3), operator, truth, noise=0.05)
draws = jd.posterior(jax.random.key(4), denoiser, problem, jd.samplers.mmps(iterations=3), n=4, steps=50)
figure = jd.plots.image_table(
    [[np.asarray(truth), np.asarray(operator.view(problem.y)), *np.asarray(draws.samples)]],
    captions=[["truth", "left half seen", "draw", "draw", "draw", "draw"]],
)

# %%
# A plain function
# ----------------
#
# ``from_function`` takes a function of the parameters, the batch and the timesteps. This works for every other library.


def linear_net(params, x, t):
    """The smallest network."""
    return params["gain"] * x * (t / 1000)[:, None, None, None]


jd.testing.check_denoiser(jd.denoisers.from_function(linear_net, {"gain": jnp.asarray(0.5)}, **FACTS))

# %%
# Flax nnx
# --------
#
# An nnx module contains its parameters.


class NnxNet(nnx.Module):
    """One convolution."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 1, (3, 3), rngs=rngs)

    def __call__(self, x, t):
        """The clean images of a batch."""
        return self.conv(x) * (t / 1000)[:, None, None, None]


jd.testing.check_denoiser(jd.denoisers.from_module(NnxNet(nnx.Rngs(0)), **FACTS))

# %%
# Equinox
# -------
#
# An Equinox network takes one image, with the channels first. Two options say so.


class EqxNet(eqx.Module):
    """One convolution."""

    conv: eqx.nn.Conv2d

    def __call__(self, x, t):
        """Noise of one image [C, H, W]."""
        return self.conv(x) * (t / 1000)


net = EqxNet(eqx.nn.Conv2d(1, 1, 3, padding=1, key=jax.random.key(0)))
jd.testing.check_denoiser(jd.denoisers.from_module(net, batched=False, channels_first=True, **FACTS))
print("linen, a function, nnx and Equinox: all four are priors")
