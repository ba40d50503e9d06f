"""
Compare settings in one program
===============================

You compare step sizes, seeds and noise levels. The options of a method are arrays, like weights and masks. So ``vmap`` runs
all of them in one compiled program.
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from jaxdiff.assets import path
from jaxdiff.files import load_image

denoiser = jd.load_denoiser("faces64")
face = load_image(path("astronaut.png"), size=(64, 64), resize=True).pixels
operator = jd.operators.gaussian_blur(image_shape=face.shape, std=1.5)
problem = jd.observe(jax.random.key(0), operator, face, noise=0.05)

# %%
# DPS with four step sizes and two seeds
# --------------------------------------
#
# Two nested ``vmap`` make eight runs. Each gives the same picture as if it ran alone.

zetas = jnp.array([1.0, 4.0, 8.0, 16.0])
keys = jax.random.split(jax.random.key(1), 2)


def run(zeta, key):
    """One restoration by DPS."""
    return jd.sample(key, denoiser, problem, jd.samplers.dps(zeta=zeta), steps=20)[0]


sweep = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(zetas, keys)
psnr = jax.vmap(jax.vmap(lambda x: jd.metrics.psnr(x, face)))(sweep)
print(sweep.shape, "PSNR by ζ:", np.round(psnr.mean(axis=1), 2))
figure = jd.plots.image_table(
    [[np.asarray(problem.operator.view(problem.y)), *np.asarray(sweep[:, 0])]],
    captions=[["measured", *(f"ζ = {zeta:g}, {value:.1f} dB" for zeta, value in zip(zetas, psnr[:, 0], strict=True))]],
)

# %%
# A sweep over the noise level
# ----------------------------
#
# The problem is a pytree, too. Here the face is measured with three noise levels, and DiffPIR restores each.


def at_noise(noise_std):
    """PSNR of a restoration at one noise level."""
    noisy = jd.observe(jax.random.key(0), operator, face, noise_std)
    x, _ = jd.sample(jax.random.key(1), denoiser, noisy, jd.samplers.diffpir(), steps=20)
    return jd.metrics.psnr(x, face)


levels = jnp.array([0.02, 0.05, 0.1])
values = jax.jit(jax.vmap(at_noise))(levels)
figure = jd.plots.curves({"DiffPIR": (np.asarray(levels), np.asarray(values))}, x="σ", y="PSNR [dB]")

# %%
# Several methods
# ---------------
#
# Different methods are different programs, so this is a loop. All make twenty network calls and get the same measurement.

methods = {
    "DPS": jd.samplers.dps(zeta=8.0),
    "DiffPIR": jd.samplers.diffpir(),
    "DDRM": jd.samplers.ddrm(),
    "FAST-DIPS": jd.samplers.fast_dips(),
}
found = {name: jd.sample(keys[0], denoiser, problem, method, steps=20)[0] for name, method in methods.items()}
figure = jd.plots.image_table(
    [[np.asarray(x) for x in found.values()]],
    captions=[[f"{name}, {jd.metrics.psnr(x, face):.1f} dB" for name, x in found.items()]],
)
