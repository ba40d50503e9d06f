"""PnP-Flow (Martin et al. 2025): a gradient step towards the measurement, fresh noise, and the network's estimate.

PnP-Flow holds a clean image. In each step, it moves the image towards the measurement, adds noise of the current level, and
takes the mean of the network's estimates for several draws of the noise. The steps towards the measurement get shorter as
the noise falls. It needs no gradient of the network and no linear solve.

τ   ← 1/(1 + σ_t), σ_t = √((1−ᾱ_t)/ᾱ_t)    the time of flow matching
x   ← x + η (1−τ)^α Aᵀ(y − A x)/‖A‖²
x   ← mean over n draws z of x̂₀(√ᾱ_t x + √(1−ᾱ_t) z)
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count, number
from jaxdiff.linalg import divide_or_zero, largest_eigenvalue, times
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import normal
from jaxdiff.samplers.base import Calls, Info, Sampler, State, image_shape_of, residual_norm
from jaxdiff.samplers.likelihood import linearize, towards_data
from jaxdiff.samplers.ranges import Choice, Linear, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Image, static

__all__ = ["PnPFlow", "pnp_flow"]


@struct.dataclass
class PnPFlow(Sampler):
    """x ← x + η (1−τ)^α Aᵀ(y − A x)/‖A‖², then x ← mean of x̂₀(√ᾱ_t x + √(1−ᾱ_t) z) over n draws, τ = 1/(1 + σ_t).

    The state is a clean image, not a noisy one. A nonlinear A has its derivative in place of A. With a noise model,
    Aᵀ(y − A x) is σ² ∇ log p(y | A x). Power iterations estimate ‖A‖², the square of the largest singular value.
    """

    title = "PnP-Flow"
    noisy = False
    takes = NoiseModel
    spacing = "flow"
    search = {"rate": Log(0.1, 3.0), "alpha": Linear(0.0, 1.0), "draws": Choice((1, 2, 5))}

    rate: Array
    alpha: Array
    draws: int = static(default=5)

    @property
    def calls(self) -> Calls:  # type: ignore[override]
        """``draws``."""
        return Calls(self.draws)

    def begin(self, at: Step) -> State:
        """The image 0: the first step's noise hides it."""
        return State(jnp.zeros(image_shape_of(at.problem, at.denoiser), at.denoiser.schedule.alpha_bar.dtype))

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """``draws`` network calls."""
        x, sigma = state.x, at.level_t.sigma.astype(state.x.dtype)
        local = linearize(at.problem, x)
        norm2 = largest_eigenvalue(lambda v: local.pull(local.push(v)), x)
        step = self.rate.astype(x.dtype) * (sigma / (1 + sigma)) ** self.alpha.astype(x.dtype)
        moved = x + times(divide_or_zero(step, norm2), towards_data(at.problem, x))

        def estimate(noise: Array) -> Image:
            return at.predict(diffusion.q_sample(moved, noise, at.level_t)).x0

        noise = normal(at.randomness, (self.draws, *x.shape), x.dtype)
        x = jnp.mean(jax.vmap(estimate)(noise), axis=0)
        return State(x), Info(residual_norm(at.problem, x))


@register(PnPFlow)
def pnp_flow(*, rate: float | Array = 1.0, alpha: float | Array = 1.0, draws: int = 5) -> PnPFlow:
    """Plug-and-play flow matching, for any differentiable operator; an estimate, not a draw.

    Each step makes ``draws`` network calls, and needs no gradient of the network. The authors take 100 steps.

    Args:
        rate: η, the length of the first gradient step in units of 1/‖A‖². Below 2 it is stable.
        alpha: α in the factor (1−τ)^α. With a smaller α, later steps follow the measurement more closely. The authors choose
            it for each task.
        draws: n, the draws of the noise that a step takes the mean of.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Martin et al. 2025, "PnP-Flow: Plug-and-Play Image Restoration with Flow Matching". x₀ + σ z is the
        authors' (1−τ) z + τ x₀ divided by τ, so any denoiser is a flow. The gradient's 1/σ² and the σ² in their η cancel.
        Differences: the step is divided by ‖A‖² (theirs is not, but their ‖A‖ is 1). σ starts at the schedule's largest
        (theirs: infinity).
    """
    return PnPFlow(number("rate", rate, open_low=True), number("alpha", alpha), count("draws", draws))
