"""Score ALD: annealed guidance by the data misfit of the noisy iterate itself."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.diffusion import beta_between
from jaxdiff.numerics import expand
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler
from jaxdiff.samplers.measurement import noise_variance
from jaxdiff.samplers.options import move_of, schedule, value_at
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array

__all__ = ["ScoreALD", "score_ald"]


@struct.dataclass
class ScoreALD(GuidedSampler):
    """x_s ← x_s − 1/(2(σ²+γ_t²)) ∇_{x_t} ‖A(x_t) − y‖², as the study writes it.

    γ_t is the annealing. By default it makes the guidance what Bayes' rule asks of a reverse step: with noise variance
    v_t = (1−ᾱ_t)/ᾱ_t of x_t/√ᾱ_t, p(y | x_t) ≈ N(A x_t, σ² + v_t) has the gradient Aᵀ(y − A x_t)/(σ² + v_t), and a step
    from t to s adds β_{t|s} times the score; so

        1/(σ² + γ_t²) = strength · β_{t|s} / (σ² + v_t).

    Since β_{t|s} ≤ 1−ᾱ_t ≤ v_t this never exceeds ``strength``: for ‖A‖ ≤ 1 a strength below 2 is stable at every σ.
    For complex y, σ² is that of each real number, half of the problem's.

    Attributes:
        strength: the multiple above, one number or [T], used where gamma is None.
        gamma: γ_t by timestep [T], one number for all, or None for the annealing above.
    """

    strength: Array
    gamma: Array | None = None

    def correct(
        self,
        x_s: Array,
        x_t: Array,
        t: Array,
        s: Array,
        guidance: None,
        problem: Problem | None,
        denoiser: DenoiserLike,
    ) -> Array:
        """Step towards the measurement; no gradient through the network."""
        if problem is None:
            raise ValueError("Score ALD restores a measurement; give a problem, or sample with jd.samplers.ddpm().")
        gradient = jax.grad(lambda x: jnp.sum(jnp.square(jnp.abs(problem.residual(x)))))(x_t)
        variance = noise_variance(problem, floor=0.0).astype(x_s.dtype)
        if self.gamma is None:
            level = denoiser.schedule.at(t)
            beta = beta_between(level, denoiser.schedule.at(s))
            scale = (
                value_at("strength", self.strength, t, denoiser)
                * beta
                / (variance + level.one_minus_alpha_bar / level.alpha_bar)
            )
        else:
            gamma = value_at("gamma", self.gamma, t, denoiser)
            scale = 1 / (variance + gamma**2)
        return x_s - expand(scale.astype(x_s.dtype) / 2, x_s) * gradient


def score_ald(
    *,
    strength: float | Array | None = None,
    gamma: float | Array | None = None,
    transition: Transition | GuidedSampler | None = None,
) -> ScoreALD:
    """Score-based annealed Langevin guidance (Jalal et al. 2021, in the study's form).

    Args:
        strength: multiple of the annealed default, one number (1) or [T]; below 2/‖A‖² it is stable.
        gamma: [T] values γ_t (or one number for all t) in place of strength and default.
        transition: the unconditional move; DDPM by default.

    Raises:
        ValueError: if the strength is not positive, either is neither a number nor [T], or both are given.
    """
    if strength is not None and gamma is not None:
        raise ValueError("give strength or gamma to score_ald, not both.")
    return ScoreALD(
        schedule("strength", 1.0 if strength is None else strength, open_low=True),
        None if gamma is None else schedule("gamma", gamma),
        transition=move_of(transition),
    )
