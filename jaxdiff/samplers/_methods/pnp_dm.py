"""PnP-DM (Wu et al. 2024, Algorithm 1): a split Gibbs sampler between the measurement and the prior.

PnP-DM alternates between two draws. One draws an image that fits the measurement and is close to the current image. The
other draws an image that looks real and is close to that one. They stay closer and closer together. It comes close to the
posterior, but needs many network calls.

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
from jaxdiff.samplers.likelihood import log_likelihood, proximal_draw
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Key, Scalar, static

__all__ = ["PnPDM", "pnp_dm"]


@struct.dataclass
class PnPDM(Sampler):
    """z ~ exp(−‖y − A z‖²/2σ² − ‖z − x‖²/2ρ²), then x ~ p(x) exp(−‖x − z‖²/2ρ²); ρ falls with the grid.

    Each timestep is one round. ρ is the noise level √((1−ᾱ_t)/ᾱ_t), kept between ``rho_min`` and ``rho_max``. The state is a
    clean image, not a noisy one.
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
        if exact:
            z = proximal_draw(likelihood_key, at.problem, x, rho**2)
        else:
            z = self._langevin(likelihood_key, at.problem, x, rho)
        x = reverse_ve(prior_key, at.denoiser, z, rho, self.prior_steps)
        return State(x), Info(residual_norm(at.problem, x))

    def _langevin(self, key: Key, problem: Problem, x: Array, rho: Scalar) -> Array:
        step = self.step_size.astype(x.dtype) / (1 / problem.noise_variance() + 1 / rho**2)
        extra = 0.0 if problem.noise is None else step  # so that no entry is more precise than a step can follow
        score = jax.grad(lambda z: log_likelihood(problem, z, extra) - jnp.sum((z - x) ** 2) / (2 * rho**2))

        def body(z: Array, key: Key) -> tuple[Array, None]:
            return z + times(step, score(z)) + times(jnp.sqrt(2 * step), normal(key, z.shape, z.dtype)), None

        return jax.lax.scan(body, x, jax.random.split(key, self.langevin_steps))[0]


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

    Each step makes ``prior_steps`` network calls. Use 50 to 100 steps. ρ falls from 10 to ``rho_min`` with the noise levels of
    the grid, and stays there. If you give a grid, it must end below ``rho_min``.

    Args:
        rho_min: the smallest ρ, at which the chain stays.
        rho_max: the largest ρ.
        prior_steps: the number of network calls in a draw from the prior, from noise level ρ to the clean image.
        langevin_steps: the number of Langevin steps, for nonlinear operators and noise models. For others the draw is exact.
        step_size: the size of these steps, relative to 1/(1/σ² + 1/ρ²).

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Wu et al. 2024, "Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors", Algorithm 1.
        Differences: ρ follows the noise levels of the grid (theirs: 0.9 to the power of the round). A draw from the prior uses
        ancestral sampling (theirs: Euler steps of EDM's reverse SDE), with fewer steps by default.
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
