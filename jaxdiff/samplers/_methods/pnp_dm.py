"""PnP-DM (Wu et al. 2024, Algorithm 1): a split Gibbs sampler between the measurement and the prior.

ρ ← noise level of the grid at t, between ρ_min and ρ_max
z ~ exp(−‖y − A z‖²/2σ² − ‖z − x‖²/2ρ²)
    exact for linear A and Gaussian noise, else Langevin
x ~ p(x) exp(−‖x − z‖²/2ρ²)                               by the diffusion, from level ρ
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import count, number
from jaxdiff.linalg import times
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import normal
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Calls, Info, Sampler, State, residual_norm
from jaxdiff.samplers.continuous import level_of_sigma, reverse_ve
from jaxdiff.samplers.likelihood import log_likelihood, measurement_noise, proximal
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Key, Scalar, static

__all__ = ["PnPDM", "pnp_dm"]


@struct.dataclass
class PnPDM(Sampler):
    """z ~ exp(−‖y − A z‖²/2σ² − ‖z − x‖²/2ρ²), then x ~ p(x) exp(−‖x − z‖²/2ρ²); ρ falls with the grid.

    Each entry of the grid is one round, with ρ the noise level √((1−ᾱ_t)/ᾱ_t), held between ``rho_min`` and
    ``rho_max``. The state is the image itself, not a noisy one.

    Attributes:
        rho_min: the floor of ρ, at which the chain stays and draws.
        rho_max: the largest ρ.
        step_size: relative step of the Langevin likelihood step, for nonlinear operators and noise models.
        prior_steps: network calls of a prior step.
        langevin_steps: of the likelihood step, for nonlinear operators and noise models.
    """

    title = "PnP-DM"
    noisy = False
    takes = NoiseModel
    spacing = "karras"
    sigma_range = (0.02, 10.0)  # it reaches below every floor of ρ, where the chain stays and draws
    search = {"rho_min": Log(0.02, 0.5), "rho_max": Log(1.0, 10.0), "prior_steps": Choice((5, 10, 20))}

    rho_min: Array
    rho_max: Array
    step_size: Array
    prior_steps: int = static(default=20)
    langevin_steps: int = static(default=100)

    @property
    def calls(self) -> Calls:  # type: ignore[override]
        """``prior_steps``."""
        return Calls(self.prior_steps)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One round: ``prior_steps`` network calls."""
        likelihood_key, prior_key = at.keys(2, self.title)
        x, rho = state.x, jnp.clip(at.level_t.sigma, self.rho_min, self.rho_max)
        rho = level_of_sigma(at.denoiser.schedule, rho).sigma.astype(x.dtype)
        exact = isinstance(at.operator, LinearOperator) and at.problem.noise is None
        likelihood = _exact if exact else self._langevin
        z = likelihood(likelihood_key, at.problem, x, rho)
        x = reverse_ve(prior_key, at.denoiser, z, rho, self.prior_steps)
        return State(x), Info(residual_norm(at.problem, x))

    def _langevin(self, key: Key, problem: Problem, x: Array, rho: Scalar) -> Array:
        step = self.step_size.astype(x.dtype) / (1 / problem.noise_variance() + 1 / rho**2)
        extra = 0.0 if problem.noise is None else step  # so that no entry is more precise than a step can follow
        score = jax.grad(lambda z: log_likelihood(problem, z, extra) - jnp.sum((z - x) ** 2) / (2 * rho**2))

        def body(z: Array, key: Key) -> tuple[Array, None]:
            return z + times(step, score(z)) + times(jnp.sqrt(2 * step), normal(key, z.shape, z.dtype)), None

        return jax.lax.scan(body, x, jax.random.split(key, self.langevin_steps))[0]


def _exact(key: Key, problem: Problem, x: Array, rho: Scalar) -> Array:
    """Perturb and minimise: the minimiser of a quadratic with noised centres is a draw from its Gaussian."""
    data_key, prior_key = jax.random.split(key)
    y = problem.y + measurement_noise(data_key, problem)
    centre = x + times(rho, normal(prior_key, x.shape, x.dtype))
    return proximal(Problem(problem.operator, y, problem.noise_std), centre, problem.noise_variance() / rho**2)


@register(PnPDM)
def pnp_dm(
    *,
    rho_min: float | Array = 0.1,
    rho_max: float | Array = 10.0,
    prior_steps: int = 20,
    langevin_steps: int = 100,
    step_size: float | Array = 0.2,
) -> PnPDM:
    """Plug-and-play diffusion Monte-Carlo, for any differentiable operator; exact as ρ_min → 0 with enough
    rounds and prior steps.

    Network calls a step: ``prior_steps``. Use 50 to 100 steps: ρ follows the noise levels of the grid, from 10 to 0.02,
    down to ``rho_min`` and stays there. A grid of your own has to end below ``rho_min``.

    Args:
        rho_min: the floor of ρ.
        rho_max: the largest ρ.
        prior_steps: network calls of a prior step, from level ρ to the clean image.
        langevin_steps: of the likelihood step, for nonlinear operators and noise models (else the draw is exact).
        step_size: of those, relative to 1/(1/σ² + 1/ρ²).

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Wu et al. 2024, "Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors", Algorithm 1.
        Departures: ρ follows the grid's noise levels (the authors: 0.9 to the power of the round), the prior step is
        ancestral (the authors: Euler on EDM's reverse SDE) and shorter by default.
    """
    if isinstance(rho_min, int | float) and isinstance(rho_max, int | float) and rho_min > rho_max:
        raise ValueError(f"rho_min must not be above rho_max, got {rho_min} and {rho_max}.")
    return PnPDM(
        number("rho_min", rho_min, open_low=True),
        number("rho_max", rho_max, open_low=True),
        number("step_size", step_size, open_low=True),
        count("prior_steps", prior_steps),
        count("langevin_steps", langevin_steps),
    )
