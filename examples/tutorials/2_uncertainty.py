"""
Uncertainty of a restoration
============================

One restoration is one guess. Many draws from the posterior show what the measurement settles, and what the prior filled in.
"""

import jax
import numpy as np

import jaxdiff as jd
from jaxdiff.assets import path
from jaxdiff.evaluation import calibration
from jaxdiff.files import load_image

denoiser = jd.load_denoiser("faces64")
face = load_image(path("astronaut.png"), size=(64, 64), resize=True).pixels
operator = jd.operators.inpaint_random(jax.random.key(3), image_shape=face.shape, fraction=0.9)
problem = jd.observe(jax.random.key(0), operator, face, noise=0.05)

# %%
# Draw
# ----
#
# MMPS is among the methods whose spread is nearly right. The eight runs are one compiled program.

draws = jd.posterior(jax.random.key(1), denoiser, problem, jd.samplers.mmps(iterations=3), n=8, steps=20)
figure = jd.plots.draws(draws, face, problem=problem, most=4)

# %%
# Mean, deviation and error
# -------------------------
#
# The mean has the best PSNR. The deviation should be large where the error is large.

mean = np.asarray(draws.mean)
figure = jd.plots.spread(draws, face)
single = np.mean([jd.metrics.psnr(x, face) for x in draws.samples])
print(f"mean of the draws {jd.metrics.psnr(mean, face):.2f} dB, a single draw {single:.2f} dB")

# %%
# Is the spread honest?
# ---------------------
#
# A 70 % interval should hold 70 % of the pixels. Below the diagonal the draws are over-confident.

found = calibration(draws.samples, face)
figure = jd.plots.calibration(found, samples=8)
