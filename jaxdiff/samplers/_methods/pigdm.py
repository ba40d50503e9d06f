"""ΠGDM, pseudo-inverse guided diffusion, aware of the measurement's noise."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import expand
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, residual_norm
from jaxdiff.samplers.measurement import cg_steps, linearize, noise_variance, times
from jaxdiff.samplers.options import choice, count, move_of, need_problem, number, schedule, value_at
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Scalar, static

__all__ = ["PiGDM", "pigdm"]

FORMS = ("posterior", "original")


@struct.dataclass
class PiGDM(GuidedSampler):
    """p(x₀ | x_t) ≈ N(x̂₀, r² I): g = Jᵀ Aᵀ (r² A Aᵀ + σ² I)⁻¹ (y − A x̂₀), J = ∂x̂₀/∂x_t, is ∇ log p(y | x_t).

    r² = τ² (1−ᾱ_t)/(ᾱ_t τ² + 1−ᾱ_t) for a prior of standard deviation τ.

    - ``posterior``: x̂₀ ← x̂₀ + ζ (1−ᾱ_t)/√ᾱ_t g, Bayes' rule, in any transition;
    - ``original``: x_s ← x_s + ζ √(ᾱ_s ᾱ_t) r² g after the transition, as the authors' code weighs it.

    Attributes:
        zeta: ζ.
        prior_std: τ.
        form: which of the two.
        iterations: of conjugate gradients, where the operator has no closed ``solve``.
    """

    zeta: Array
    prior_std: Array
    form: str = static(default="posterior")
    iterations: int = static(default=10)

    def predict(
        self, x_t: Array, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[Prediction, Array, Scalar]:
        """One forward and one backward pass."""
        problem = need_problem(problem, "PiGDM")

        def denoise(x_t: Array) -> tuple[Array, Prediction]:
            prediction = denoiser(x_t, t, s)
            return prediction.x0, prediction

        x0, backward, prediction = jax.vjp(denoise, x_t, has_aux=True)
        level = denoiser.schedule.at(t)
        rest, tau2 = level.one_minus_alpha_bar, self.prior_std**2
        r2 = (tau2 * rest / (level.alpha_bar * tau2 + rest)).astype(x0.dtype)
        guidance = backward(_whitened(problem, x0, r2, self.iterations))[0]
        residual = residual_norm(problem, x0)
        if self.form == "posterior":
            scale = (value_at("zeta", self.zeta, t, denoiser) * rest / jnp.sqrt(level.alpha_bar)).astype(x0.dtype)
            return prediction._replace(x0=x0 + expand(scale, x0) * guidance), guidance, residual
        return prediction, expand(r2 * jnp.sqrt(level.alpha_bar).astype(x0.dtype), x0) * guidance, residual

    def correct(
        self,
        x_s: Array,
        x_t: Array,
        t: Array,
        s: Array,
        guidance: Array,
        problem: Problem | None,
        denoiser: DenoiserLike,
    ) -> Array:
        """The original form's step; nothing in the posterior form."""
        if self.form == "posterior":
            return x_s
        scale = value_at("zeta", self.zeta, t, denoiser) * jnp.sqrt(denoiser.schedule.at(s).alpha_bar)
        return x_s + expand(scale.astype(x_s.dtype), x_s) * guidance


def _whitened(problem: Problem, x0: Array, r2: Scalar, iterations: int) -> Array:
    """Aᵀ (r² A Aᵀ + σ² I)⁻¹ (y − A x̂₀) = (AᵀA + σ²/r² I)⁻¹ Aᵀ (y − A x̂₀) / r²."""
    local = linearize(problem, x0)
    variance = noise_variance(problem).astype(x0.dtype)
    operator = problem.operator
    if isinstance(operator, LinearOperator) and operator.closed_solve:
        return operator.ridge(variance / r2, local.residual) / expand(r2, x0)

    def matvec(u: Array) -> Array:
        return times(variance, u) + local.push(expand(r2, x0) * local.pull(u))

    return local.pull(cg_steps(matvec, local.residual, iterations))


def pigdm(
    *,
    zeta: float | Array = 1.0,
    prior_std: float | Array = 1.0,
    form: str = "posterior",
    iterations: int = 10,
    transition: Transition | GuidedSampler | None = None,
) -> PiGDM:
    """Pseudo-inverse guided diffusion, for any differentiable operator.

    Network calls a step: 1 forward, 1 backward. Exact for an isotropic Gaussian prior of standard deviation
    ``prior_std``; other priors are treated as if Cov[x₀ | x_t] were isotropic.

    Args:
        zeta: multiple of the guidance; [T] values make a schedule over training timesteps.
        prior_std: τ, the standard deviation of the data; 1 in the paper (r² = 1−ᾱ_t).
        form: "posterior" (Bayes' rule) or "original" (the authors' weights).
        iterations: of conjugate gradients where the operator has no closed ``solve``.
        transition: the unconditional move; DDPM by default (the authors: DDIM).

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Song et al. 2023, "Pseudoinverse-Guided Diffusion Models for Inverse Problems", Algorithm 1,
        with its noise term. Departures: a nonlinear A is linearised at x̂₀ (the paper: a pseudo-inverse by hand); σ is
        at least 1e-3.
    """
    return PiGDM(
        schedule("zeta", zeta),
        number("prior_std", prior_std, open_low=True),
        choice("form", form, FORMS),
        count("iterations", iterations),
        transition=move_of(transition),
    )
