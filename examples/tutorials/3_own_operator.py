"""
Your own operator
=================

A camera reads every second row half a moment late, so moving things are combed. You write this as an operator in a few
lines. The adjoint, batches and gradients come for free.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

import jaxdiff as jd
from jaxdiff.assets import path
from jaxdiff.files import load_image

# %%
# Write ``apply``
# ---------------
#
# Arrays are fields, so another shift is another number and costs no compilation. The shift is a fraction of a pixel: two
# neighbours are mixed.


@struct.dataclass(eq=False)
class Interlaced(jd.operators.LinearOperator):
    """Odd rows are shifted to the right by ``shift`` pixels."""

    shift: jax.Array

    def apply(self, x):
        """One image."""
        whole = jnp.floor(self.shift).astype(int)
        part = (self.shift - whole).astype(x.dtype)
        moved = (1 - part) * jnp.roll(x, whole, axis=1) + part * jnp.roll(x, whole + 1, axis=1)
        odd = (jnp.arange(x.shape[0]) % 2 == 1)[:, None, None]
        return jnp.where(odd, moved, x)


operator = Interlaced(jnp.asarray(4.5), image_shape=(64, 64, 3))

# %%
# Check it
# --------
#
# The check compares ⟨A x, y⟩ with ⟨x, Aᵀ y⟩, among other things. It raises an error with one sentence if one fails.

jd.testing.check_operator(operator)
x = jax.random.normal(jax.random.key(0), (64, 64, 3))
print("A x:", operator(x).shape, " Aᵀ y:", operator.T(operator(x)).shape)

# %%
# Combine and restore
# -------------------
#
# Operators multiply. Here the combed picture also loses half of its pixels.

face = load_image(path("astronaut.png"), size=(64, 64), resize=True).pixels
hide = jd.operators.inpaint_random(jax.random.key(1), image_shape=face.shape, fraction=0.5)
problem = jd.observe(jax.random.key(2), hide @ operator, face, noise=0.05)
denoiser = jd.load_denoiser("faces64")
restored, info = jd.sample(jax.random.key(3), denoiser, problem, jd.samplers.diffpir(), steps=20)
figure = jd.plots.image_table(
    [[face, np.asarray(operator(face)), np.asarray(problem.operator.view(problem.y)), np.asarray(restored)]],
    captions=[["truth", "A x", "half of it, with noise", f"restored, {jd.metrics.psnr(restored, face):.1f} dB"]],
)

# %%
# The shift is a leaf: a gradient reaches it. If the shift is unknown, the misfit of a known picture tells it.


def misfit(shift):
    """How badly a shift explains the combed picture."""
    return jnp.sum((Interlaced(shift, image_shape=face.shape)(face) - operator(face)) ** 2)


print("slope at 4.3:", jax.grad(misfit)(4.3), " at 4.7:", jax.grad(misfit)(4.7))
