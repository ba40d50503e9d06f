"""DDRM, denoising diffusion restoration models: sampling in the singular basis of A."""

import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.numerics import normal
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Info, State, pure_noise, residual_norm
from jaxdiff.samplers.options import need_problem, need_spectral, number
from jaxdiff.samplers.spectral import spectral_step
from jaxdiff.typing import Array, Key, static

__all__ = ["DDRM", "ddrm"]


@struct.dataclass
class DDRM:
    """x_s by ``spectral.spectral_step``: each singular direction mixes x̂₀, ε̂, y and fresh noise by its own level.

    Attributes:
        eta: η, share of fresh noise where y does not reach.
        eta_b: η_b, trust in y where it is cleaner than x_s.
        start: forward steps at which the run begins; None for pure noise.
    """

    eta: Array
    eta_b: Array
    start: int | None = static(default=None)

    def init(self, key: Key, problem: Problem | None, denoiser: DenoiserLike, t: Array) -> State:
        """x_T with mean √ᾱ_T y/s in the directions where y is cleaner than x_T, pure noise elsewhere."""
        problem = need_problem(problem, "DDRM")
        operator = need_spectral(problem, "DDRM")
        noise = pure_noise(key, problem, denoiser)
        nothing = jnp.zeros_like(noise)
        one = jnp.ones((), noise.dtype)
        # With x̂₀ = 0, η = 1: √(1−ᾱ) z where y says less, and √ᾱ y/s + what is left of the noise where it says more.
        return State(spectral_step(problem, operator, nothing, nothing, noise, denoiser.schedule.at(t), one, one))

    def step(
        self, key: Key, state: State, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[State, Info]:
        """One network call; ``key`` may be the step's recorded noise."""
        problem = need_problem(problem, "DDRM")
        operator = need_spectral(problem, "DDRM")
        prediction = denoiser(state.x, t, s)
        noise = normal(key, state.x.shape, state.x.dtype)
        level = denoiser.schedule.at(s)
        x_s = spectral_step(problem, operator, prediction.x0, prediction.eps, noise, level, self.eta, self.eta_b)
        return State(x_s), Info(residual_norm(problem, prediction.x0))


def ddrm(*, eta: float | Array = 0.85, eta_b: float | Array = 1.0) -> DDRM:
    """Denoising diffusion restoration, for operators whose singular value decomposition is known.

    Network calls a step: 1. Made for 20 steps.

    Args:
        eta: η in [0, 1].
        eta_b: η_b in [0, 1].

    Raises:
        ValueError: if one of them is out of range.

    Reference:
        Kawar et al. 2022, "Denoising Diffusion Restoration Models", Eqs. 7 and 8 (variance-exploding form, as the
        authors' code runs it). Departures: s ς = σ counts as measured (in their code it falls through to "missing").
        The authors do not clip x̂₀: where the denoiser does, x̂₀ is clipped here while ε̂ is not; ``clip=False`` in the
        denoiser gives theirs.
    """
    return DDRM(number("eta", eta, high=1.0), number("eta_b", eta_b, high=1.0))
