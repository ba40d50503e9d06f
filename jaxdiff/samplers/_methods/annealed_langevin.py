"""Annealed Langevin dynamics with the measurement, as Jalal et al. (2021, Algorithm 1) first ran it.

Each noise level makes a few small steps. A step follows the gradients of the prior and of the likelihood, and adds noise.
This needs hundreds of noise levels. With fewer levels, the draws differ too much.

x̃, h ← x_t/√ᾱ_t, step · σ_t²
repeat:
    g ← Aᵀ(y − A x̃)/(σ² + σ_t²)
    x̃ ← x̃ + h (∇ log p_{σ_t}(x̃) + g) + √(2h) z
x_s  ← √ᾱ_s x̃                                             the next level begins here
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import choice, count, flag, number
from jaxdiff.linalg import divide_or_zero, times
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import expand, normal, safe_norm
from jaxdiff.samplers.base import Calls, Info, Sampler, State, residual_norm
from jaxdiff.samplers.likelihood import towards_data
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Key, static

__all__ = ["AnnealedLangevin", "annealed_langevin"]

WEIGHTINGS = ("likelihood", "norm")


@struct.dataclass
class AnnealedLangevin(Sampler):
    """x̃ ← x̃ + h (∇ log p_σ(x̃) + g) + √(2h) z, ``inner_steps`` times a level, h = step · σ_t², x̃ = x/√ᾱ.

    - ``likelihood``: g = Aᵀ(y − A x̃)/(σ_y² + γ_t²) with γ_t = σ_t. This is the annealed likelihood of the paper.
    - ``norm``: g = w Aᵀ(y − A x̃) ‖∇ log p‖/‖Aᵀ(y − A x̃)‖, as in the authors' code. The norms are those of this image.

    With a noise model, ∇ log p(y | A x̃) takes the place of Aᵀ(y − A x̃)/(σ_y² + γ_t²). Gaussian noise of variance γ_t² is added
    to the model.
    """

    title = "annealed Langevin"
    takes = NoiseModel
    spacing = "log_snr"
    search = {"step_size": Log(0.02, 1.0), "weight": Log(0.1, 10.0), "inner_steps": Choice((1, 2, 3))}

    step_size: Array
    weight: Array
    inner_steps: int = static(default=3)
    weighting: str = static(default="likelihood")
    denoise: bool = static(default=True)

    @property
    def calls(self) -> Calls:  # type: ignore[override]
        """``inner_steps``, and one at the end to denoise."""
        return Calls(self.inner_steps, at_end=int(self.denoise))

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """``inner_steps`` network calls at this level (and one more to denoise); nothing moves to the next."""
        keys = at.keys(self.inner_steps, self.title)
        dtype, level = state.x.dtype, at.level_t
        sigma2, signal = level.sigma.astype(dtype) ** 2, level.signal
        h, weight = self.step_size.astype(dtype) * sigma2, self.weight.astype(dtype)

        def body(x: Array, key: Key) -> tuple[Array, Array]:
            x0 = at.predict(times(signal, x)).x0
            score = (x0 - x) / expand(sigma2, x)
            toward = towards_data(at.problem, x, sigma2)
            if self.weighting == "likelihood":
                scale = weight / (at.problem.noise_variance().astype(dtype) + sigma2)
            else:
                scale = weight * divide_or_zero(safe_norm(score), safe_norm(toward))
            drift = score + times(scale, toward)
            return x + times(h, drift) + times(jnp.sqrt(2 * h), normal(key, x.shape, dtype)), x0

        x, x0s = jax.lax.scan(body, state.x / expand(signal.astype(dtype), state.x), keys)
        info = Info(residual_norm(at.problem, x0s[-1]))
        if self.denoise:
            # A branch, not a choice between both: only the last step pays for it.
            x = jax.lax.cond(at.last, lambda x: at.predict(times(signal, x)).x0.astype(dtype), lambda x: x, x)
        return State(times(at.level_s.signal, x)), info


@register(AnnealedLangevin)
def annealed_langevin(
    *,
    step_size: float | Array = 0.2,
    weight: float | Array = 1.0,
    inner_steps: int = 3,
    weighting: str = "likelihood",
    denoise: bool = True,
) -> AnnealedLangevin:
    """Annealed Langevin with the measurement, for any differentiable operator.

    Each step makes ``inner_steps`` network calls. If ``denoise`` is on, the run makes one more at the end. Use hundreds of
    levels.

    Args:
        step_size: relative to σ_t². Below 1 it is stable for ‖A‖ ≤ 1. The authors' 5e-5 (σ/σ_L)² is 1.15 here.
        weight: the factor of the likelihood's gradient. For "norm" it is ``mse`` of the authors' code (5).
        inner_steps: the number of steps at each level. The authors' code has 3 or 4.
        weighting: "likelihood" (as in the paper) or "norm" (as in the authors' code).
        denoise: whether the run ends with a denoising step, and returns x̂₀ in place of its noisy image.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Jalal et al. 2021, "Robust Compressed Sensing MRI with Deep Generative Priors", Eq. 3 and Algorithm 1.
        Differences: norms are taken over one image (theirs over the batch). The last level is denoised by default.
    """
    return AnnealedLangevin(
        number("step_size", step_size, open_low=True),
        number("weight", weight),
        count("inner_steps", inner_steps),
        choice("weighting", weighting, WEIGHTINGS),
        flag("denoise", denoise),
    )
