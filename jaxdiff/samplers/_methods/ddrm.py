"""DDRM, denoising diffusion restoration models (Kawar et al. 2022): sampling in the singular basis of A = U S Vᵀ.

The singular value decomposition splits the image into directions that are measured independently. In each direction, DDRM
mixes the network's estimate and the measurement by their noise. It is fast, but needs an operator with known singular
values.

bar: Vᵀ of an image; ȳ = Uᵀ y
for each singular value s, with ς = √((1−ᾱ_s)/ᾱ_s) the noise of the next level:
    s = 0       keep x̂₀ and add noise of ς
    s ς < σ     x̂₀, moved towards y as far as its noise allows
    s ς ≥ σ     y/s, with the rest of the noise added
"""

import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import number
from jaxdiff.operators.base import SpectralOperator
from jaxdiff.samplers.base import Info, Sampler, State, pure_noise, residual_norm
from jaxdiff.samplers.ranges import Linear
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.spectral import spectral_step
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array

__all__ = ["DDRM", "ddrm"]


@struct.dataclass
class DDRM(Sampler):
    """x_s by ``spectral.spectral_step``: each singular direction mixes x̂₀, ε̂, y and fresh noise by its noise level."""

    title = "DDRM"
    needs = SpectralOperator
    wants = "a singular value decomposition (a SpectralOperator)"
    instead = "diffpir or mmps"
    search = {"eta": Linear(0.0, 1.0), "eta_b": Linear(0.3, 1.0)}

    eta: Array
    eta_b: Array

    def begin(self, at: Step) -> State:
        """x_T with mean √ᾱ_T y/s in the directions where y is cleaner than x_T, pure noise elsewhere."""
        noise = pure_noise(at)
        nothing, one = jnp.zeros_like(noise), jnp.ones((), noise.dtype)
        # With x̂₀ = 0, η = 1: √(1−ᾱ) z where y says less, and √ᾱ y/s + what is left of the noise where it says more.
        return State(spectral_step(at.problem, at.operator, nothing, nothing, noise, at.level_t, one, one))

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One network call."""
        prediction = at.predict(state.x)
        noise = at.normal(state.x)
        x_s = spectral_step(
            at.problem, at.operator, prediction.x0, prediction.eps, noise, at.level_s, self.eta, self.eta_b
        )
        return State(x_s), Info(residual_norm(at.problem, prediction.x0))


@register(DDRM)
def ddrm(*, eta: float | Array = 0.85, eta_b: float | Array = 1.0) -> DDRM:
    """Denoising diffusion restoration, for operators whose singular value decomposition is known.

    Each step makes one network call. It is made for 20 steps.

    Args:
        eta: η in [0, 1], the share of fresh noise in directions that y does not measure well.
        eta_b: η_b in [0, 1], the weight of y in directions where it has less noise than x_s.

    Raises:
        ValueError: if one of them is out of range.

    Reference:
        Kawar et al. 2022, "Denoising Diffusion Restoration Models", Eqs. 7 and 8 (variance-exploding form, as the
        authors' code runs it). Differences: a direction with s ς = σ counts as measured (theirs: as missing).
        The authors do not clip x̂₀. If the denoiser clips it, ε̂ here stays as it was. ``clip=False`` in the denoiser
        gives the authors' method.
    """
    return DDRM(number("eta", eta, high=1.0), number("eta_b", eta_b, high=1.0))
