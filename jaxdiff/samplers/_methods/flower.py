"""FLOWER (Pourya et al. 2026): a Gaussian around the network's estimate, Bayes' rule, and fresh noise.

In each step, FLOWER treats the clean image as Gaussian around the network's estimate. Bayes' rule with the measurement is
then a linear solve. FLOWER adds fresh noise to its result. It needs no gradient of the network, and has nothing to tune.

r²  ← 1 − ᾱ_t
x̄₀  ← argmin ‖y − A x‖²/σ² + ‖x − x̂₀‖²/r²              or a draw of the Gaussian exp(−½ this)
x_s ← √ᾱ_s x̄₀ + √(1−ᾱ_s) z
"""

from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count, flag
from jaxdiff.numerics import normal
from jaxdiff.samplers.base import Info, Sampler, State, residual_norm
from jaxdiff.samplers.likelihood import proximal, proximal_draw
from jaxdiff.samplers.ranges import Choice
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import static

__all__ = ["Flower", "flower"]


@struct.dataclass
class Flower(Sampler):
    """x̄₀ = argmin ‖y − A x‖²/σ² + ‖x − x̂₀‖²/(1−ᾱ_t), or a draw; x_s = √ᾱ_s x̄₀ + √(1−ᾱ_s) z.

    1−ᾱ_t is the variance of x₀ given x_t for the prior N(0, I). In the time τ of flow matching it is
    (1−τ)²/(τ² + (1−τ)²).
    """

    title = "FLOWER"
    spacing = "flow"
    search = {"draw": Choice((False, True))}

    draw: bool = static(default=False)
    iterations: int = static(default=5)
    rounds: int = static(default=2)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One network call."""
        x, problem, variance = state.x, at.problem, at.level_t.one_minus_alpha_bar
        centre = at.predict(x).x0
        solver = {"iterations": self.iterations, "rounds": self.rounds}
        if self.draw:
            key, noise_key = at.keys(2, "FLOWER with draw=True")
            x0 = proximal_draw(key, problem, centre, variance, **solver)
            noise = normal(noise_key, x.shape, x.dtype)
        else:
            x0 = proximal(problem, centre, problem.noise_variance() / variance, **solver)
            noise = at.normal(x)
        return State(diffusion.q_sample(x0, noise, at.level_s)), Info(residual_norm(problem, centre))


@register(Flower)
def flower(*, draw: bool = False, iterations: int = 5, rounds: int = 2) -> Flower:
    """FLOWER, for any differentiable operator; there is no step size to tune.

    Each step makes one network call, and needs no gradient of the network. The authors take 100 steps, and the mean of five
    runs: ``jd.posterior(..., n=5).mean``.

    Args:
        draw: draw x̄₀ from its Gaussian (the authors' γ = 1). For the prior N(0, I) and a linear operator, the runs are then
            exact draws from the posterior. Without it, x̄₀ is the Gaussian's mean (γ = 0, the authors' choice).
        iterations: the number of conjugate-gradient steps, for nonlinear operators.
        rounds: the number of Gauss–Newton steps, for nonlinear operators.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Pourya et al. 2026, "FLOWER: A Flow-Matching Solver for Inverse Problems", Algorithm 1. x₀ + σ z is the authors'
        (1−τ) z + τ x₀ divided by τ, so any denoiser is a flow, with σ = (1−τ)/τ and x̂₀ = D. Differences: σ starts at the
        schedule's largest (theirs: infinity). Linear operators with a closed form get it (theirs: 50 steps of conjugate
        gradients). Nonlinear operators get Gauss–Newton steps (theirs: linear ones only).
    """
    return Flower(flag("draw", draw), count("iterations", iterations), count("rounds", rounds))
