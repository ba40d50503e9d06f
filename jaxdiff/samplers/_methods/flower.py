"""FLOWER (Pourya et al. 2026): a Gaussian around the network's estimate, Bayes' rule, and fresh noise.

In each step, FLOWER treats the clean image as Gaussian around the network's estimate. Bayes' rule with the measurement is
then a linear solve. FLOWER adds fresh noise to its result. It needs no gradient of the network, and works without tuning.

r²  ← 1 − ᾱ_t                   the variance of x₀ given x_t, if x₀ ~ N(0, I)
x̄₀  ← argmin ‖y − A x‖²/σ² + ‖x − x̂₀‖²/r²    or a draw of exp(−½ this)
x_s ← √ᾱ_s x̄₀ + √(1−ᾱ_s) z
"""

from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count, flag, number
from jaxdiff.numerics import normal
from jaxdiff.samplers.base import Info, Sampler, State, residual_norm
from jaxdiff.samplers.likelihood import proximal, proximal_draw, x0_variance
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, static

__all__ = ["Flower", "flower"]


@struct.dataclass
class Flower(Sampler):
    """x̄₀ = argmin ‖y − A x‖²/σ² + ‖x − x̂₀‖²/r², or a draw; x_s = √ᾱ_s x̄₀ + √(1−ᾱ_s) z.

    r² = τ² (1−ᾱ_t)/(ᾱ_t τ² + 1−ᾱ_t) is the variance of x₀ given x_t for independent pixels of standard deviation τ. For τ = 1
    it is 1−ᾱ_t.
    """

    title = "FLOWER"
    spacing = "flow"
    search = {"prior_std": Log(0.1, 2.0), "draw": Choice((False, True))}

    prior_std: Array
    draw: bool = static(default=False)
    iterations: int = static(default=5)
    rounds: int = static(default=2)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One network call."""
        x, problem = state.x, at.problem
        centre, variance = at.predict(x).x0, x0_variance(at.level_t, self.prior_std).astype(x.dtype)
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
def flower(*, prior_std: float | Array = 1.0, draw: bool = False, iterations: int = 5, rounds: int = 2) -> Flower:
    """FLOWER, for any differentiable operator; it works without tuning.

    Each step makes one network call, and needs no gradient of the network. The authors take 100 steps, and the mean of five
    runs: ``jd.posterior(..., n=5).mean``.

    Args:
        prior_std: τ, the standard deviation of the images. The authors have 1, which gives r² = 1−ᾱ_t.
        draw: draw x̄₀ from its Gaussian (the authors' γ = 1). If the pixels of the prior are independent, with standard
            deviation ``prior_std``, and A is linear, the runs are then exact draws from the posterior. Without it, x̄₀ is
            the Gaussian's mean (γ = 0, the authors' choice).
        iterations: the number of conjugate-gradient steps, for nonlinear operators.
        rounds: the number of Gauss–Newton steps, for nonlinear operators.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Pourya et al. 2026, "FLOWER: A Flow-Matching Solver for Inverse Problems". x₀ + σ z is the authors'
        (1−s) z + s x₀ divided by their time s. So any denoiser is a flow, with σ = (1−s)/s and x̂₀ = D. Differences: σ starts
        at the schedule's largest (theirs: infinity). Linear operators with a closed form use it (theirs: 50 steps of
        conjugate gradients). Nonlinear operators get Gauss–Newton steps (theirs: linear ones only).
    """
    return Flower(
        number("prior_std", prior_std, open_low=True),
        flag("draw", draw),
        count("iterations", iterations),
        count("rounds", rounds),
    )
