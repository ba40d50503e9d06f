"""LGD-MC, loss-guided diffusion: the misfit averaged over draws around x̂₀."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import expand, normal, safe_norm, safe_sqrt
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, Info, State
from jaxdiff.samplers.measurement import noise_variance, residual_at
from jaxdiff.samplers.options import count, move_of, need_key, need_problem, number, schedule, value_at
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Key, Scalar, static

__all__ = ["LGDMC", "lgd_mc"]


@struct.dataclass
class LGDMC(GuidedSampler):
    """x_s ← x_s − ζ Σ_i w_i ∇_{x_t} ‖r_i‖² / (2 √(Σ_i w_i ‖r_i‖²)), r_i = y − A(x̂₀ + κ √(1−ᾱ_t) z_i).

    w = softmax(−‖r_i‖²/2σ²): the gradient of log (1/n) Σ_i p(y | x̂₀ⁱ), scaled so that one draw without spread
    (n = 1, κ = 0) is DPS.

    Attributes:
        zeta: ζ, one number or [T].
        spread: κ.
        draws: n.
        observed_only: whether r is 0 where the measurement says nothing, as under a mask.
    """

    zeta: Array
    spread: Array
    draws: int = static(default=10)
    observed_only: bool = static(default=False)

    def step(
        self, key: Key, state: State, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[State, Info]:
        """One forward and one backward pass through the network, ``draws`` of each through the operator."""
        problem = need_problem(problem, "LGD-MC")
        move_key, draw_key = jax.random.split(need_key(key, "LGD-MC"))
        x = state.x
        radius = self.spread * jnp.sqrt(denoiser.schedule.at(t).one_minus_alpha_bar)
        offsets = expand(radius.astype(x.dtype), x)[None] * normal(draw_key, (self.draws, *x.shape), x.dtype)
        variance = noise_variance(problem)

        def size(x0: Array) -> Scalar:
            return safe_norm(residual_at(problem, x0, observed_only=self.observed_only))

        def surrogate(x_t: Array) -> tuple[Scalar, tuple[Prediction, Scalar]]:
            prediction = denoiser(x_t, t, s)

            def squared(offset: Array) -> Scalar:
                return size(prediction.x0 + offset) ** 2

            losses = jax.vmap(squared)(offsets)
            weights = jax.lax.stop_gradient(jax.nn.softmax(-losses / (2 * variance)))
            # Its gradient is Σ w_i ∇‖r_i‖² / (2 √(Σ w_i ‖r_i‖²)); the square root is safe at 0.
            value = safe_norm(jnp.sqrt(weights) * safe_sqrt(losses))
            return value, (prediction, size(prediction.x0))

        gradient, (prediction, residual) = jax.grad(surrogate, has_aux=True)(x)
        x_s = self.transition(prediction, x, t, s, normal(move_key, x.shape, x.dtype), denoiser.schedule)
        zeta = value_at("zeta", self.zeta, t, denoiser).astype(x.dtype)
        return State(x_s - expand(zeta, x) * gradient), Info(residual)


def lgd_mc(
    *,
    zeta: float | Array = 1.0,
    draws: int = 10,
    spread: float | Array = 1.0,
    observed_only: bool = False,
    transition: Transition | GuidedSampler | None = None,
) -> LGDMC:
    """Loss-guided diffusion with Monte-Carlo, for any differentiable operator.

    Network calls a step: 1 forward, 1 backward (the draws go through the operator only).

    Args:
        zeta: step size, on DPS's scale; [T] values make a schedule over training timesteps.
        draws: n.
        spread: κ, multiple of √(1−ᾱ_t), the paper's σ_t/√(1+σ_t²).
        observed_only: as in ``dps``: False lets y's noise on hidden pixels into the norms, as the code of DPS does.
        transition: the unconditional move; DDPM by default.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Song et al. 2023, "Loss-Guided Diffusion Models for Plug-and-Play Controllable Generation", with
        ℓ = ‖y − A(x)‖²/2σ². Departure: the step is normalised per image as in DPS, since 1/σ² is unstable as it stands.
    """
    return LGDMC(
        schedule("zeta", zeta),
        number("spread", spread),
        count("draws", draws),
        bool(observed_only),
        transition=move_of(transition),
    )
