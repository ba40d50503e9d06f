"""Annealed Langevin dynamics with the measurement, as Jalal et al. first ran it."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.numerics import expand, normal, safe_norm
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import FromNoise, Info, State, residual_norm
from jaxdiff.samplers.continuous import sigma_of
from jaxdiff.samplers.measurement import divide, linearize, noise_variance
from jaxdiff.samplers.options import choice, count, need_key, need_problem, number
from jaxdiff.typing import Array, Key, static

__all__ = ["AnnealedLangevin", "annealed_langevin"]

WEIGHTINGS = ("likelihood", "norm")


@struct.dataclass
class AnnealedLangevin(FromNoise):
    """x̃ ← x̃ + h (∇ log p_σ(x̃) + g) + √(2h) z, ``inner_steps`` times a level, h = step · σ_t², x̃ = x/√ᾱ.

    - ``likelihood``: g = Aᵀ(y − A x̃)/(σ_y² + γ_t²), γ_t = σ_t: the paper's annealed likelihood;
    - ``norm``: g = w Aᵀ(y − A x̃) ‖∇ log p‖/‖Aᵀ(y − A x̃)‖: the authors' code; norms of this image.

    Attributes:
        step_size: step, relative to σ_t².
        weight: w, for "norm"; multiplies g for "likelihood".
        inner_steps: Langevin steps a level, each a network call.
        weighting: which of the two.
        denoise: return x̂₀ of the last level instead of its noisy iterate.
    """

    step_size: Array
    weight: Array
    inner_steps: int = static(default=3)
    weighting: str = static(default="likelihood")
    denoise: bool = static(default=True)

    def step(
        self, key: Key, state: State, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[State, Info]:
        """``inner_steps`` network calls at this level (and one more to denoise); nothing moves to the next."""
        problem = need_problem(problem, "annealed Langevin")
        keys = jax.random.split(need_key(key, "annealed Langevin"), self.inner_steps)
        dtype = state.x.dtype
        level_t, level_s = denoiser.schedule.at(t), denoiser.schedule.at(s)
        sigma2 = sigma_of(level_t).astype(dtype) ** 2
        signal = expand(jnp.sqrt(level_t.alpha_bar).astype(dtype), state.x)
        h = self.step_size.astype(dtype) * sigma2
        weight = self.weight.astype(dtype)

        def body(x: Array, key: Key) -> tuple[Array, Array]:
            x0 = denoiser(signal * x, t, s).x0
            score = (x0 - x) / expand(sigma2, x)
            local = linearize(problem, x)
            toward = local.pull(local.residual)
            if self.weighting == "likelihood":
                scale = weight / (noise_variance(problem).astype(dtype) + sigma2)
            else:
                scale = weight * divide(safe_norm(score), safe_norm(toward))
            drift = score + expand(scale, x) * toward
            return x + expand(h, x) * drift + expand(jnp.sqrt(2 * h), x) * normal(key, x.shape, dtype), x0

        x, x0s = jax.lax.scan(body, state.x / signal, keys)
        info = Info(residual_norm(problem, x0s[-1]))
        if self.denoise:
            # A branch, not a choice between both: only the last step pays for it.
            x = jax.lax.cond(s < 0, lambda x: denoiser(signal * x, t, s).x0.astype(dtype), lambda x: x, x)
        return State(expand(jnp.sqrt(level_s.alpha_bar).astype(dtype), x) * x), info


def annealed_langevin(
    *,
    step_size: float | Array = 0.2,
    weight: float | Array = 1.0,
    inner_steps: int = 3,
    weighting: str = "likelihood",
    denoise: bool = True,
) -> AnnealedLangevin:
    """Annealed Langevin with the measurement, for any differentiable operator.

    Network calls a step: ``inner_steps`` (+ 1 where it denoises). Use hundreds of levels: ``spacing="log_snr"``.

    Args:
        step_size: relative to σ_t²; below 1 it is stable for ‖A‖ ≤ 1. The authors' 5e-5 (σ/σ_L)² is 1.15 here.
        weight: multiple of the likelihood's gradient; for "norm" the authors' ``mse`` (5).
        inner_steps: steps a level; 3 to 4 in the code.
        weighting: "likelihood" (the paper) or "norm" (the authors' code).
        denoise: end with a denoising step.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Jalal et al. 2021, "Robust Compressed Sensing MRI with Deep Generative Priors", Eq. 3 and Algorithm 1.
        Departures: norms are of one image (theirs are of the batch), the last level is denoised by default.
    """
    return AnnealedLangevin(
        number("step_size", step_size, open_low=True),
        number("weight", weight),
        count("inner_steps", inner_steps),
        choice("weighting", weighting, WEIGHTINGS),
        bool(denoise),
    )
