"""LGD-MC, loss-guided diffusion (Song et al. 2023): the misfit averaged over draws around x̂₀.

LGD-MC is like DPS, but it allows for the error of the network's estimate. It averages the distance to the measurement over
several copies of the estimate with noise. Only the operator sees these copies, so the network costs the same as for DPS.

x̂₀ⁱ ← x̂₀ + κ √(1−ᾱ_t) z_i, i = 1 … n
r_i ← y − A(x̂₀ⁱ)
w   ← softmax(−‖r_i‖²/2σ²)                                held fixed
x_s ← the step of the prior − ζ ∇_{x_t} √(Σ_i w_i ‖r_i‖²)
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import count, flag, number, scheduled
from jaxdiff.linalg import times
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import expand, normal, safe_norm, safe_sqrt
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import Calls, GuidedSampler, Info, State, residual_norm
from jaxdiff.samplers.likelihood import distance, log_likelihood
from jaxdiff.samplers.ranges import Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Image, Scalar, static

__all__ = ["LGDMC", "lgd_mc"]


@struct.dataclass
class LGDMC(GuidedSampler):
    """x_s ← x_s − ζ Σ_i w_i ∇_{x_t} ‖r_i‖² / (2 √(Σ_i w_i ‖r_i‖²)), r_i = y − A(x̂₀ + κ √(1−ᾱ_t) z_i).

    Here w = softmax(−‖r_i‖²/2σ²). This is the gradient of log (1/n) Σ_i p(y | x̂₀ⁱ), scaled so that n = 1 and κ = 0 give DPS.
    With a noise model, ‖r_i‖ is the norm of the model, and w = softmax(log p(y | A(x̂₀ⁱ))).
    """

    title = "LGD-MC"
    takes = NoiseModel
    calls = Calls(1, 1)
    search = {"zeta": Log(0.2, 20.0), "spread": Log(0.01, 1.0)}

    zeta: Array
    spread: Array
    draws: int = static(default=10)
    observed_only: bool = static(default=False)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One forward and one backward pass through the network, ``draws`` of each through the operator."""
        x = state.x
        move_key, draw_key = at.keys(2, self.title)
        radius = self.spread * jnp.sqrt(at.level_t.one_minus_alpha_bar)
        offsets = expand(radius.astype(x.dtype), x)[None] * normal(draw_key, (self.draws, *x.shape), x.dtype)
        variance = at.problem.noise_variance()

        def size(x0: Image) -> Scalar:
            return distance(at.problem, x0, observed_only=self.observed_only)

        def misfit(x0: Image) -> Scalar:
            losses = jax.vmap(lambda offset: size(x0 + offset) ** 2)(offsets)
            likely = -losses / (2 * variance)
            if at.problem.noise is not None:
                likely = jax.vmap(lambda offset: log_likelihood(at.problem, x0 + offset))(offsets)
            weights = jax.lax.stop_gradient(jax.nn.softmax(likely))
            # Its gradient is Σ w_i ∇‖r_i‖² / (2 √(Σ w_i ‖r_i‖²)); the square root is safe at 0.
            return safe_norm(jnp.sqrt(weights) * safe_sqrt(losses))

        gradient, prediction, _ = at.misfit_gradient(x, misfit)
        x_s = self.move(prediction, x, at, normal(move_key, x.shape, x.dtype))
        x_s = x_s - times(at.value("zeta", self.zeta), gradient)
        return State(x_s), Info(residual_norm(at.problem, prediction.x0, observed_only=self.observed_only))


@register(LGDMC)
def lgd_mc(
    *,
    zeta: float | Array = 1.0,
    draws: int = 10,
    spread: float | Array = 1.0,
    observed_only: bool = False,
    transition: Transition | GuidedSampler | None = None,
) -> LGDMC:
    """Loss-guided diffusion with Monte-Carlo, for any differentiable operator.

    Each step makes one forward and one backward pass of the network. The n draws go only through the operator.

    Args:
        zeta: the step size ζ, on the scale of ``dps``. [T] values make a schedule over the training timesteps.
        draws: n, the number of copies.
        spread: κ, the standard deviation of the copies as a multiple of √(1−ᾱ_t).
        observed_only: True counts only pixels that were measured. False also counts the noise of hidden pixels, as DPS does.
        transition: the step of the prior; DDPM by default.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Song et al. 2023, "Loss-Guided Diffusion Models for Plug-and-Play Controllable Generation", with
        ℓ = ‖y − A(x)‖²/2σ². Difference: the step is normalised for each image as in DPS, because the factor 1/σ² is unstable.
    """
    return LGDMC(
        scheduled("zeta", zeta),
        number("spread", spread),
        count("draws", draws),
        flag("observed_only", observed_only),
        transition=transition_of(transition),
    )
