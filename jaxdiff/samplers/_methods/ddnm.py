"""DDNM and DDNM+ (Wang et al. 2023): what A measures comes from y, and the rest from the prior.

In each step, DDNM takes the measured part of the image from the measurement, and the other part from the network's
estimate. DDNM+ takes the noise of the measurement into account. It is fast, but needs a pseudo-inverse.

x̂₀, ε̂ ← the network's prediction at x_t
x̂₀′   ← x̂₀ − λ A⁺(A x̂₀ − y)
n     ← √(1−η²) ε̂ + η z
x_s   ← √ᾱ_s x̂₀′ + (√(1−ᾱ_s) (I − A⁺A) + γ A⁺A) n          γ allows for the noise of y
"""

import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import choice, number
from jaxdiff.linalg import times
from jaxdiff.numerics import safe_sqrt
from jaxdiff.operators.base import LinearOperator, SpectralOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Info, Sampler, State, residual_norm
from jaxdiff.samplers.ranges import Linear
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.spectral import spectral_step
from jaxdiff.samplers.step import Step
from jaxdiff.schedules import Level
from jaxdiff.typing import Array, static

__all__ = ["DDNM", "ddnm"]

FORMS = ("auto", "spectral", "simple", "noiseless")


@struct.dataclass
class DDNM(Sampler):
    """x̂₀′ = x̂₀ − λ A⁺(A x̂₀ − y), x_s = √ᾱ_s x̂₀′ + (√(1−ᾱ_s) (I − A⁺A) + γ A⁺A) (√(1−η²) ε̂ + η z).

    - ``noiseless`` (DDNM): λ = 1, γ = √(1−ᾱ_s).
    - ``simple`` (DDNM+ for singular values near 1): with a = √ᾱ_s and b = √(1−ᾱ_s), λ = min(1, b/(a σ)) and
      γ² = b² − (a λ σ)².
    - ``spectral`` (DDNM+): each singular direction has its own λ and γ. This is the step of DDRM with η_b = 1.
    - ``auto``: ``spectral`` if the operator knows its singular values, else ``simple``.
    """

    title = "DDNM"
    needs = LinearOperator
    wants = "a linear operator with a pseudo-inverse"
    search = {"eta": Linear(0.0, 1.0)}

    eta: Array
    form: str = static(default="auto")

    def check(self, problem: Problem) -> None:
        """The spectral form needs singular values."""
        if self.form == "spectral" and not isinstance(problem.operator, SpectralOperator):
            raise ValueError(
                f"DDNM's spectral form needs singular values, which {type(problem.operator).__name__} does not know; "
                "use ddnm(form='simple')."
            )

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One network call."""
        x, problem, operator = state.x, at.problem, at.operator
        prediction = at.predict(x)
        noise, level = at.normal(x), at.level_s
        info = Info(residual_norm(problem, prediction.x0))
        if self.form in ("auto", "spectral") and isinstance(operator, SpectralOperator):
            one = jnp.ones((), x.dtype)
            moved = spectral_step(problem, operator, prediction.x0, prediction.eps, noise, level, self.eta, one)
            return State(moved), info
        pull, left, full = self._weights(problem, level, x)
        eta = self.eta.astype(x.dtype)
        mixed = times(safe_sqrt(1 - eta**2), prediction.eps) + times(eta, noise)
        residual = operator.keep_observed(problem.residual(prediction.x0))
        # Less noise is added where y brings its own; the null space gets all of it. One pseudo-inverse for both.
        change = times(pull, residual) - times(full - left, operator(mixed))
        moved = diffusion.q_sample(prediction.x0, mixed, level) + operator.pinv(change)
        return State(moved), info

    def _weights(self, problem: Problem, level: Level, x: Array) -> tuple[Array, Array, Array]:
        """√ᾱ_s λ, γ and √(1−ᾱ_s)."""
        a, b = level.signal.astype(x.dtype), level.noise.astype(x.dtype)
        if self.form == "noiseless":
            return a, b, b
        carried = a * problem.noise_level(floor=0.0).astype(x.dtype)
        tiny = jnp.finfo(x.dtype).tiny
        pull = jnp.where(b >= carried, jnp.ones_like(b), b / jnp.maximum(carried, tiny))
        return a * pull, safe_sqrt(b**2 - (pull * carried) ** 2), b


@register(DDNM)
def ddnm(*, eta: float | Array = 0.85, form: str = "auto") -> DDNM:
    """Denoising diffusion null-space model, for linear operators.

    Each step makes one network call. It is made for 100 steps. If the operator has no formula for ``pinv``, each step runs
    conjugate gradients. For blurs with noise, prefer ``diffpir`` or ``mmps``, because the pseudo-inverse amplifies noise.

    Args:
        eta: η in [0, 1], the share of fresh noise.
        form: "auto", "spectral", "simple" or "noiseless", see ``DDNM``.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Wang et al. 2023, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model", Algorithm 1 and the
        DDNM+ of section 3.3. Differences: there is no time travel. In the simple form, b = √(1−ᾱ_s) as in the equations
        (√(1−ᾱ_s²) in the authors' simplified script), and the null space gets all of its noise (theirs: γ everywhere).
        The authors do not clip x̂₀. If the denoiser clips it, ε̂ here stays as it was. ``clip=False`` in the denoiser
        gives the authors' method.
    """
    return DDNM(number("eta", eta, high=1.0), choice("form", form, FORMS))
