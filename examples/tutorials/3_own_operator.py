"""
Your own operator
=================

A camera reads every second row a little later, so these rows of a moving object are shifted. You write this as an operator
in a few lines. jaxdiff derives the adjoint, batches and gradients.
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
# The shift is an array, so JAX does not compile again for another shift. It can be a fraction of a pixel: then two neighbours
# are mixed.


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
# The check compares ⟨A x, y⟩ with ⟨x, Aᵀ y⟩, among other things. If something is wrong, it raises an error that says what.

jd.testing.check_operator(operator)
x = jax.random.normal(jax.random.key(0), (64, 64, 3))
print("A x:", operator(x).shape, " Aᵀ y:", operator.T(operator(x)).shape)

# %%
# Combine and restore
# -------------------
#
# ``B @ A`` is the operator that applies first A and then B. Here the picture also loses half of its pixels.

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
# You can differentiate with respect to the shift. So if the shift is unknown, you can find it from a known picture.


def misfit(shift):
    """How badly a shift explains the combed picture."""
    return jnp.sum((Interlaced(shift, image_shape=face.shape)(face) - operator(face)) ** 2)


print("slope at 4.3:", jax.grad(misfit)(4.3), " at 4.7:", jax.grad(misfit)(4.7))
