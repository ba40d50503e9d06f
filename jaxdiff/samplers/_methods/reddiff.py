"""RED-diff (Mardani et al. 2024, Algorithm 1): a variational fit regularised by the denoiser's error.

RED-diff fits one image to the measurement by gradient descent. In each step, noise is added to the image, and the prior
pulls it in the direction in which the network would remove that noise. The result is a likely image and not a draw, so
several results differ little.

x_t ← √ᾱ_t μ + √(1−ᾱ_t) z
e   ← ε̂(x_t) − z
g   ← ∇_μ ½ mean (y − A μ)² · w + λ √((1−ᾱ_t)/ᾱ_t) e/n
μ   ← μ moved against g by Adam
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import number
from jaxdiff.linalg import dot, times
from jaxdiff.noise import NoiseModel
from jaxdiff.operators.base import LinearOperator
from jaxdiff.samplers.adam import AdamState, adam_init, adam_step
from jaxdiff.samplers.base import Info, Sampler, image_shape_of, residual_norm
from jaxdiff.samplers.likelihood import squared_misfit
from jaxdiff.samplers.ranges import Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Image, Scalar

__all__ = ["REDDiff", "REDDiffState", "reddiff"]

NEARLY_NONE = 1e-5
"""The least σ that the first guess supposes, small enough that it is A⁺ y without noise."""


class REDDiffState(NamedTuple):
    """The estimate μ and the state of the optimiser."""

    x: Array
    adam: AdamState


@struct.dataclass
class REDDiff(Sampler):
    """Adam on ½ mean (y − A μ)² · w + λ √((1−ᾱ_t)/ᾱ_t) mean ⟨sg(ε̂(x_t) − z), μ⟩, x_t = √ᾱ_t μ + √(1−ᾱ_t) z.

    Each timestep is one step of Adam, with falling t. With a noise model, (y − A μ)² is −2σ² log p(y | A μ).
    """

    title = "RED-diff"
    noisy = False
    takes = NoiseModel
    search = {"lam": Log(0.01, 3.0), "rate": Log(0.01, 0.7)}

    lam: Array
    rate: Array
    data_weight: Array

    def begin(self, at: Step) -> REDDiffState:
        """μ = (AᵀA + σ² I)⁻¹ Aᵀ y, or the operator's own first guess where it is not linear."""
        image_shape_of(at.problem, at.denoiser)
        operator = at.operator
        y = at.problem.keep_observed(at.problem.y)
        if isinstance(operator, LinearOperator):
            x = operator.ridge(at.problem.noise_variance(floor=NEARLY_NONE), y)
        else:
            x = operator.initial(y)
        x = x.astype(at.denoiser.schedule.alpha_bar.dtype)
        return REDDiffState(x, adam_init(x))

    def advance(self, state: REDDiffState, at: Step) -> tuple[REDDiffState, Info]:
        """One network call, one step of Adam."""
        mu, problem, level = state.x, at.problem, at.level_t
        noise = at.normal(mu)
        eps = at.predict(diffusion.q_sample(mu, noise, level)).eps
        observed = problem.observed_count()

        def misfit(mu: Image) -> Scalar:
            if problem.noise is not None:
                return squared_misfit(problem, mu) / (2 * observed)
            residual = problem.operator.keep_observed(problem.residual(mu))
            return dot(residual, residual) / (2 * observed)

        weight = self.lam * jnp.sqrt(level.one_minus_alpha_bar / level.alpha_bar)
        prior_gradient = times(weight.astype(mu.dtype) / mu.size, eps - noise)
        gradient = prior_gradient + times(self.data_weight, jax.grad(misfit)(mu))
        moved, adam = adam_step(mu, gradient, state.adam, self.rate, betas=(0.9, 0.99))
        return REDDiffState(moved, adam), Info(residual_norm(problem, mu))


@register(REDDiff)
def reddiff(*, lam: float | Array = 0.25, rate: float | Array = 0.1, data_weight: float | Array = 1.0) -> REDDiff:
    """RED-diff, for any differentiable operator; a point estimate near a mode, not a draw.

    Each step makes one network call, and needs no gradient of the network. Use 100 to 1000 steps.

    Args:
        lam: λ, the weight of the prior.
        rate: the learning rate of Adam. The authors use 0.1 in their configuration, and 0.5 in their README.
        data_weight: w, the weight of the misfit.

    Raises:
        ValueError: if an option is negative.

    Reference:
        Mardani et al. 2024, "A Variational Perspective on Solving Inverse Problems with Diffusion Models", Algorithm 1
        with the "linear" weight. The mean of the misfit is over the measured entries of y, as theirs is.
        Difference: the start is the posterior mean under the prior N(0, I), and not A⁺ y. For a blur, A⁺ amplifies noise a
        hundredfold, which Adam cannot undo in steps of ``rate``.
    """
    return REDDiff(number("lam", lam), number("rate", rate, open_low=True), number("data_weight", data_weight))
