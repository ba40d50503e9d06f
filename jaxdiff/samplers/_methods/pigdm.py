"""ΠGDM, pseudo-inverse guided diffusion (Song et al. 2023, Algorithm 1), for measurements with noise.

Given the noisy image, ΠGDM treats the clean image as Gaussian, with the same variance in all pixels. Then the likelihood of
the measurement has a formula, and its gradient guides the run. It is cheaper than MMPS and less exact.

r²  ← the variance in p(x₀ | x_t) ≈ N(x̂₀, r² I)
g   ← Jᵀ Aᵀ (r² A Aᵀ + σ² I)⁻¹ (y − A x̂₀), J = ∂x̂₀/∂x_t     ∇ log p(y | x_t)
x̂₀  ← x̂₀ + ζ (1−ᾱ_t)/√ᾱ_t g
x_s ← the step of the prior, with this x̂₀
"""

import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import choice, count, number, scheduled
from jaxdiff.denoisers import Prediction
from jaxdiff.linalg import cg_steps, times
from jaxdiff.numerics import expand
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import Calls, GuidedSampler, Info, State, residual_norm
from jaxdiff.samplers.likelihood import linearize, x0_variance
from jaxdiff.samplers.ranges import Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Scalar, static

__all__ = ["PiGDM", "pigdm"]

FORMS = ("posterior", "original")


@struct.dataclass
class PiGDM(GuidedSampler):
    """p(x₀ | x_t) ≈ N(x̂₀, r² I): g = Jᵀ Aᵀ (r² A Aᵀ + σ² I)⁻¹ (y − A x̂₀), J = ∂x̂₀/∂x_t, is ∇ log p(y | x_t).

    r² = τ² (1−ᾱ_t)/(ᾱ_t τ² + 1−ᾱ_t) for a prior of standard deviation τ.

    - ``posterior``: x̂₀ ← x̂₀ + ζ (1−ᾱ_t)/√ᾱ_t g. This is Bayes' rule.
    - ``original``: x_s ← x_s + ζ √(ᾱ_s ᾱ_t) r² g after the step of the prior, with the weights of the authors' code.
    """

    title = "ΠGDM"
    calls = Calls(1, 1)
    search = {"zeta": Log(0.3, 3.0), "prior_std": Log(0.1, 1.0)}

    zeta: Array
    prior_std: Array
    form: str = static(default="posterior")
    iterations: int = static(default=10)

    def guide(self, x_t: Array, at: Step) -> tuple[Prediction, Scalar]:
        """The posterior form: x̂₀ moved by Bayes' rule."""
        prediction, g, _ = self._guidance(x_t, at)
        x0, level = prediction.x0, at.level_t
        scale = at.value("zeta", self.zeta) * level.one_minus_alpha_bar / jnp.sqrt(level.alpha_bar)
        return prediction._replace(x0=x0 + times(scale, g)), residual_norm(at.problem, x0)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One forward and one backward pass."""
        if self.form == "posterior":
            return super().advance(state, at)
        prediction, g, r2 = self._guidance(state.x, at)
        x_s = self.move(prediction, state.x, at, at.normal(state.x))
        g = times(r2 * jnp.sqrt(at.level_t.alpha_bar).astype(g.dtype), g)
        scale = at.value("zeta", self.zeta) * jnp.sqrt(at.level_s.alpha_bar)
        return State(x_s + times(scale, g)), Info(residual_norm(at.problem, prediction.x0))

    def _guidance(self, x_t: Array, at: Step) -> tuple[Prediction, Array, Scalar]:
        """The prediction, g and r²."""
        prediction, pull = at.predict_vjp(x_t)
        r2 = x0_variance(at.level_t, self.prior_std).astype(x_t.dtype)
        return prediction, pull(_whitened(at.problem, prediction.x0, r2, self.iterations)), r2


def _whitened(problem: Problem, x0: Array, r2: Scalar, iterations: int) -> Array:
    """Aᵀ (r² A Aᵀ + σ² I)⁻¹ (y − A x̂₀) = (AᵀA + σ²/r² I)⁻¹ Aᵀ (y − A x̂₀) / r²."""
    local = linearize(problem, x0)
    variance = problem.noise_variance().astype(x0.dtype)
    operator = problem.operator
    if isinstance(operator, LinearOperator) and operator.closed_solve:
        return operator.ridge(variance / r2, local.residual) / expand(r2, x0)

    def matvec(u: Array) -> Array:
        return times(variance, u) + local.push(times(r2, local.pull(u)))

    return local.pull(cg_steps(matvec, local.residual, iterations))


@register(PiGDM)
def pigdm(
    *,
    zeta: float | Array = 1.0,
    prior_std: float | Array = 1.0,
    form: str = "posterior",
    iterations: int = 10,
    transition: Transition | GuidedSampler | None = None,
) -> PiGDM:
    """Pseudo-inverse guided diffusion, for any differentiable operator.

    Each step makes one forward and one backward pass. It is exact for a Gaussian prior with independent pixels of standard
    deviation ``prior_std``. For other priors this is an approximation.

    Args:
        zeta: ζ, a factor of the guidance. [T] values make a schedule over the training timesteps.
        prior_std: τ, the standard deviation of the images. The paper has 1, which gives r² = 1−ᾱ_t.
        form: "posterior" (Bayes' rule) or "original" (the authors' weights).
        iterations: the number of conjugate-gradient steps, if the operator has no formula for ``solve``.
        transition: the step of the prior; DDPM by default (the authors use DDIM).

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Song et al. 2023, "Pseudoinverse-Guided Diffusion Models for Inverse Problems", Algorithm 1,
        with its noise term. Differences: a nonlinear A is linearised at x̂₀ (the paper writes a
        pseudo-inverse by hand). σ is at least 1e-3.
    """
    return PiGDM(
        scheduled("zeta", zeta),
        number("prior_std", prior_std, open_low=True),
        choice("form", form, FORMS),
        count("iterations", iterations),
        transition=transition_of(transition),
    )
