"""DiffPIR, plug-and-play restoration (Zhu et al. 2023, Algorithm 1).

In each step, DiffPIR moves the network's estimate towards the measurement by a linear solve, and then adds noise. It is
fast and needs no gradient of the network. It is a good method to start with.

ρ   ← λ σ² ᾱ_t/(1−ᾱ_t)
x̄₀  ← argmin ‖y − A x‖² + ρ ‖x − x̂₀‖²
ε̄   ← (x_t − √ᾱ_t x̄₀)/√(1−ᾱ_t)
x_s ← √ᾱ_s x̄₀ + √(1−ᾱ_s)(√(1−ζ) ε̄ + √ζ z)
"""

from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count, number
from jaxdiff.linalg import times
from jaxdiff.numerics import safe_sqrt
from jaxdiff.samplers.base import Info, Sampler, State, residual_norm
from jaxdiff.samplers.likelihood import proximal
from jaxdiff.samplers.ranges import Linear, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, static

__all__ = ["DiffPIR", "diffpir"]

SIGMA_FLOOR = 0.002
"""The original's max(0.001, σ) on the [0, 1] scale, on ours."""


@struct.dataclass
class DiffPIR(Sampler):
    """x̄₀ = argmin ‖y − A x‖² + ρ ‖x − x̂₀‖², ρ = λ σ² ᾱ_t/(1−ᾱ_t); x_s = √ᾱ_s x̄₀ + √(1−ᾱ_s)(√(1−ζ) ε̄ + √ζ z).

    ε̄ = (x_t − √ᾱ_t x̄₀)/√(1−ᾱ_t); for complex y, σ² is the variance of each real number, half of the problem's.
    """

    title = "DiffPIR"
    spacing = "quad"
    search = {"lam": Log(0.05, 20.0), "zeta": Linear(0.0, 1.0)}

    lam: Array
    zeta: Array
    iterations: int = static(default=5)
    rounds: int = static(default=2)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One network call."""
        x, problem, level = state.x, at.problem, at.level_t
        prediction = at.predict(x)
        rho = self.lam * problem.noise_variance(floor=SIGMA_FLOOR) * level.alpha_bar / level.one_minus_alpha_bar
        x0 = proximal(problem, prediction.x0, rho, iterations=self.iterations, rounds=self.rounds)
        eps = diffusion.eps_from_x0(x, x0, level)
        zeta = self.zeta.astype(x.dtype)
        mixed = times(safe_sqrt(1 - zeta), eps) + times(safe_sqrt(zeta), at.normal(x))
        return State(diffusion.q_sample(x0, mixed, at.level_s)), Info(residual_norm(problem, prediction.x0))


@register(DiffPIR)
def diffpir(*, lam: float | Array = 1.75, zeta: float | Array = 0.3, iterations: int = 5, rounds: int = 2) -> DiffPIR:
    """Plug-and-play diffusion restoration, for any differentiable operator.

    Each step makes one network call, and needs no gradient of the network. It is made for 20 to 100 steps.

    Args:
        lam: λ. With 1, the step is Bayes' rule for p(x₀ | x_t) ≈ N(x̂₀, (1−ᾱ_t)/ᾱ_t I). It is a quarter of the authors' λ,
            because their σ is for images in [0, 1]: their 7 for deblurring is 1.75 here, and their 1 for inpainting is 0.25.
        zeta: ζ in [0, 1], the share of fresh noise. The authors use 0.3 for deblurring, 0.25 for super-resolution and 1 for
            inpainting.
        iterations: the number of conjugate-gradient steps, for nonlinear operators.
        rounds: the number of Gauss–Newton steps, for nonlinear operators.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Zhu et al. 2023, "Denoising Diffusion Models for Plug-and-Play Image Restoration", Algorithm 1.
        Differences: it starts from pure noise (theirs: from y with noise). The last step is corrected, too. Nonlinear
        operators get Gauss–Newton steps (theirs: one gradient step).
    """
    return DiffPIR(
        number("lam", lam, open_low=True),
        number("zeta", zeta, high=1.0),
        count("iterations", iterations),
        count("rounds", rounds),
    )
