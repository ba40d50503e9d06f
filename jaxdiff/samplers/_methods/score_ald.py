"""Score ALD, annealed guidance by the data misfit of the noisy iterate itself (Jalal et al. 2021, in the study's form).

After each step of the prior, the noisy image itself moves closer to the measurement. This needs no gradient of the network,
so a step is cheap. But the image is noisy, so the guidance is weak while the noise is high.

x̂₀  ← the network's prediction at x_t
x_s ← the step of the prior from x_t
g   ← ∇_{x_t} ‖A(x_t) − y‖²                               no gradient through the network
x_s ← x_s − g/(2(σ²+γ_t²))
"""

import jax
from flax import struct

from jaxdiff._checks import scheduled
from jaxdiff.diffusion import beta_between
from jaxdiff.linalg import times
from jaxdiff.noise import NoiseModel
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import GuidedSampler, Info, State, residual_norm
from jaxdiff.samplers.likelihood import squared_misfit
from jaxdiff.samplers.ranges import Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Scalar

__all__ = ["ScoreALD", "score_ald"]


@struct.dataclass
class ScoreALD(GuidedSampler):
    """x_s ← x_s − 1/(2(σ²+γ_t²)) ∇_{x_t} ‖A(x_t) − y‖², as the study of ``jaxdiff reproduce`` has it.

    γ_t weakens the guidance at high noise. Its default follows from Bayes' rule. x_t/√ᾱ_t has noise of the variance
    v_t = (1−ᾱ_t)/ᾱ_t. So p(y | x_t) ≈ N(A x_t, σ² + v_t), and its gradient is Aᵀ(y − A x_t)/(σ² + v_t). A step from t to s
    adds the gradient β_{t|s} times, which gives

        1/(σ² + γ_t²) = strength · β_{t|s} / (σ² + v_t).

    This is at most ``strength``, because β_{t|s} ≤ 1−ᾱ_t ≤ v_t. So for ‖A‖ ≤ 1, a strength below 2 is stable at every σ.
    With a noise model, ‖A(x_t) − y‖² is −2 (σ² + v_t) log p(y | A x_t), where Gaussian noise of variance v_t is added to the
    model. For complex y, σ² is the variance of each real number, half of the problem's.
    """

    title = "Score ALD"
    takes = NoiseModel
    search = {"strength": Log(0.1, 1.9)}  # below 2 the annealed guidance is stable at every noise level

    strength: Array
    gamma: Array | None = None

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One network call, one gradient through the operator."""
        x_t = state.x
        prediction = at.predict(x_t)
        residual = residual_norm(at.problem, prediction.x0)
        x_s = self.move(prediction, x_t, at, at.normal(x_t))
        spread = self._spread(at)
        gradient = jax.grad(lambda x: squared_misfit(at.problem, x, spread))(x_t)
        return State(x_s - times(self._weight(at, spread, x_s).astype(x_s.dtype) / 2, gradient)), Info(residual)

    def _spread(self, at: Step) -> Scalar:
        """The variance that the noise of x_t adds: γ_t², or (1−ᾱ_t)/ᾱ_t."""
        if self.gamma is not None:
            return at.value("gamma", self.gamma) ** 2
        return at.level_t.one_minus_alpha_bar / at.level_t.alpha_bar

    def _weight(self, at: Step, spread: Scalar, x: Array) -> Scalar:
        """1/(σ² + γ_t²)."""
        variance = at.problem.noise_variance(floor=0.0).astype(x.dtype)
        if self.gamma is not None:
            return 1 / (variance + spread)
        return at.value("strength", self.strength) * beta_between(at.level_t, at.level_s) / (variance + spread)


@register(ScoreALD)
def score_ald(
    *,
    strength: float | Array | None = None,
    gamma: float | Array | None = None,
    transition: Transition | GuidedSampler | None = None,
) -> ScoreALD:
    """Score-based annealed Langevin guidance (Jalal et al. 2021, in the study's form).

    Args:
        strength: a factor of the default guidance, one number (1) or [T]. Below 2/‖A‖² it is stable.
        gamma: γ_t, one number or [T], in place of ``strength``.
        transition: the step of the prior; DDPM by default.

    Raises:
        ValueError: if the strength is not positive, either is neither a number nor [T], or both are given.
    """
    if strength is not None and gamma is not None:
        raise ValueError("give strength or gamma to score_ald, not both.")
    return ScoreALD(
        scheduled("strength", 1.0 if strength is None else strength, open_low=True),
        None if gamma is None else scheduled("gamma", gamma),
        transition=transition_of(transition),
    )
