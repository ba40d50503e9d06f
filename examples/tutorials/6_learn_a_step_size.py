"""
Learn a step size by gradients
==============================

You learn the two options of DiffPIR, λ and ζ, so that eight steps remove a blur as well as possible. This works because a
restoration is a pure function, so JAX can differentiate the whole run.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdiff as jd
from jaxdiff.assets import path
from jaxdiff.files import load_image

STEPS = 8
denoiser = jd.load_denoiser("faces64")
operator = jd.operators.gaussian_blur(image_shape=(64, 64, 3), std=1.5)

# %%
# Faces to learn from
# -------------------
#
# These faces are drawn from the prior. The astronaut is for the test.

faces = jd.restore(jax.random.key(5), denoiser, None, jd.samplers.ddim(), count=2, steps=20).x.clip(-1, 1)
problems = [jd.observe(jax.random.fold_in(jax.random.key(6), i), operator, face, 0.05) for i, face in enumerate(faces)]
problems = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)

# %%
# The error of a run
# ------------------
#
# λ must be positive, and ζ lies between 0 and 1. So you learn the logarithm of λ and the logit of ζ. ``checkpoint="step"``
# saves memory: it keeps one state for each step, and computes the rest again in the backward pass.


def method(options):
    """DiffPIR with these options."""
    return jd.samplers.diffpir(lam=jnp.exp(options["log_lam"]), zeta=jax.nn.sigmoid(options["logit_zeta"]))


def restored(options, key, problem):
    """One restoration."""
    return jd.sample(key, denoiser, problem, method(options), steps=STEPS, checkpoint="step")[0]


def error(options, key):
    """Mean squared error over the faces."""
    keys = jax.random.split(key, len(faces))
    x = jax.vmap(restored, (None, 0, 0))(options, keys, problems)
    return jnp.mean((x - jnp.asarray(faces)) ** 2)


# %%
# Descend
# -------

options = {"log_lam": jnp.log(1.75), "logit_zeta": jax.scipy.special.logit(0.3)}
start = options
optimizer = optax.adam(0.2)
step = jax.jit(jax.value_and_grad(error))
state, losses = optimizer.init(options), []
for i in range(15):
    loss, gradient = step(options, jax.random.fold_in(jax.random.key(7), i % 4))
    change, state = optimizer.update(gradient, state)
    options = optax.apply_updates(options, change)
    losses.append(float(loss))
print(f"λ: 1.75 → {jnp.exp(options['log_lam']):.2f}   ζ: 0.3 → {jax.nn.sigmoid(options['logit_zeta']):.2f}")
figure = jd.plots.curves({"training error": (range(15), losses)}, x="iteration", y="mean squared error")

# %%
# Another face
# ------------

truth = load_image(path("astronaut.png"), size=(64, 64), resize=True).pixels
problem = jd.observe(jax.random.key(8), operator, truth, 0.05)
before, after = (restored(each, jax.random.key(9), problem) for each in (start, options))
figure = jd.plots.image_table(
    [[np.asarray(operator.view(problem.y)), truth, np.asarray(before), np.asarray(after)]],
    captions=[
        [
            "measured",
            "truth",
            f"published options, {jd.metrics.psnr(before, truth):.1f} dB",
            f"learned, {jd.metrics.psnr(after, truth):.1f} dB",
        ]
    ],
)
