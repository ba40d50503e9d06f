"""
Uncertainty of a restoration
============================

One restoration is one guess. You make many, and see where they agree. There the measurement determines the picture. Where
they differ, the prior filled it in.
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
# The spread of MMPS is closer to the truth than that of most methods. All eight runs are one compiled program.

draws = jd.posterior(jax.random.key(1), denoiser, problem, jd.samplers.mmps(iterations=2), n=8, steps=20)
figure = jd.plots.draws(draws, face, problem=problem, most=4)

# %%
# Mean, standard deviation and error
# ----------------------------------
#
# The mean has the best PSNR. The standard deviation should be large where the error is large.

mean = np.asarray(draws.mean)
figure = jd.plots.spread(draws, face)
single = np.mean([jd.metrics.psnr(x, face) for x in draws.samples])
print(f"mean of the draws {jd.metrics.psnr(mean, face):.2f} dB, a single draw {single:.2f} dB")

# %%
# Is the spread right?
# --------------------
#
# An interval of 70 % should contain the truth for 70 % of the pixels. Here the curve lies below the diagonal, so the draws
# differ too little. Only the average over many pictures shows whether a method does this in general.

found = calibration(draws.samples, face)
figure = jd.plots.calibration(found, samples=8)
