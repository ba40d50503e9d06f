"""
Restore a face
==============

You measure a face in three ways, and restore each measurement. The prior is ``faces64``. The package contains the face: it
is Eileen Collins (NASA, public domain).
"""

import jax
import numpy as np

import jaxdiff as jd
from jaxdiff.assets import path
from jaxdiff.files import load_image

denoiser = jd.load_denoiser("faces64")
face = load_image(path("astronaut.png"), size=(64, 64), resize=True).pixels
print(denoiser)
print(face.shape, face.min(), face.max())

# %%
# Measure
# -------
#
# An operator A is the measurement without noise. ``jd.observe`` applies it and adds noise: y = A(x) + σ n.

operators = {
    "super-resolution ×4": jd.operators.super_resolution(image_shape=face.shape, factor=4),
    "camera shake": jd.operators.motion_blur(jax.random.key(1), image_shape=face.shape, size=15),
    "80 % missing": jd.operators.inpaint_random(jax.random.key(3), image_shape=face.shape, fraction=0.8),
}
problems = {name: jd.observe(jax.random.key(0), A, face, noise=0.05) for name, A in operators.items()}

# %%
# Restore
# -------
#
# DiffPIR is fast: each step calls the network once, without a gradient. Twenty steps are enough for a first look. MMPS is
# slower and usually better.

methods = {"DiffPIR": jd.samplers.diffpir(), "MMPS": jd.samplers.mmps(iterations=2)}
rows, captions = [], []
for name, problem in problems.items():
    view = np.asarray(problem.operator.view(problem.y))
    row, caption = [view, face], [name, "truth"]
    for title, sampler in methods.items():
        x, info = jd.sample(jax.random.key(2), denoiser, problem, sampler, steps=20)
        row.append(np.asarray(x))
        caption.append(f"{title}, {jd.metrics.psnr(x, face):.1f} dB")
    rows.append(row)
    captions.append(caption)

figure = jd.plots.image_table(rows, captions=captions)
figure.set_dpi(120)

# %%
# ``info.residual`` has ‖y − A(x̂₀)‖ for each step. It should fall to about σ √m, where m is the number of measured values.

residual = np.asarray(info.residual)
figure = jd.plots.curves({"MMPS, 80 % missing": (range(len(residual)), residual)}, x="step", y="‖y − A(x̂₀)‖")
