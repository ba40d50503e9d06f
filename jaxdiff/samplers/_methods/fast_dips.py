"""FAST-DIPS (ICLR 2026): annealing in which each noise level takes a few descent steps towards the data.

At each noise level, FAST-DIPS moves the network's estimate to the nearest image that fits the measurement. A few rounds of
ADMM find it. Then noise is added. It needs no gradient of the network, and is among the fastest methods. Its draws differ
too little.

x, v, u ← x̂₀, A(x̂₀), 0
repeat: x ← descent on ‖x − x̂₀‖²/(2σ_t²) + (ρ/2) ‖A(x) − (v − u)‖²
        v ← A(x) + u, projected onto the ball ‖v − y‖ ≤ ε
        u ← u + A(x) − v
x_s ← √ᾱ_s x + √(1−ᾱ_s) z
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count, number
from jaxdiff.linalg import divide_or_zero, dot, times
from jaxdiff.numerics import expand, safe_norm
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Info, Sampler, State, residual_norm
from jaxdiff.samplers.likelihood import linearize
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Measurement, Scalar, static

__all__ = ["FastDIPS", "fast_dips"]

HALVINGS = 8


@struct.dataclass
class FastDIPS(Sampler):
    """ADMM on min ‖x − x̂₀‖²/(2σ_t²) subject to ‖A(x) − y‖ ≤ ε, then x_s = √ᾱ_s x + √(1−ᾱ_s) z.

    Each of ``rounds`` rounds makes ``descents`` gradient steps on ‖x − x̂₀‖²/(2σ_t²) + (ρ/2) ‖A(x) − (v − u)‖². Their step
    size is exact for the linearised A. It is at most 1, and halved up to 8 times while the objective rises. Then v is
    A(x) + u, projected onto the ball, and u ← u + A(x) − v.
    """

    title = "FAST-DIPS"
    spacing = "karras"
    search = {"epsilon": Log(0.05, 10.0), "rho": Log(1.0, 1000.0), "descents": Choice((1, 2, 5))}

    epsilon: Array
    rho: Array
    rounds: int = static(default=3)
    descents: int = static(default=1)

    def advance(self, state: State, at: Step) -> tuple[State, Info]:
        """One network call."""
        x_t, problem, measure = state.x, at.problem, at.operator.__call__
        x0 = at.predict(x_t).x0
        gamma = at.level_t.sigma.astype(x_t.dtype) ** 2
        y = at.operator.keep_observed(problem.y)
        rho, epsilon = self.rho.astype(x_t.dtype), self.epsilon.astype(x_t.dtype)

        def round_(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
            x, v, u = carry
            for _descent in range(self.descents):
                x = _descend(problem, x, x0, v - u, gamma, rho)
            value = measure(x)
            away = value + u - y
            shrink = jnp.minimum(1.0, divide_or_zero(epsilon, safe_norm(away)))
            v = y + times(jnp.where(safe_norm(away) > 0, shrink, 1.0), away)
            return (x, v, u + value - v), None

        value = measure(x0)
        (x, _, _), _ = jax.lax.scan(round_, (x0, value, jnp.zeros_like(value)), length=self.rounds)
        return State(diffusion.q_sample(x, at.normal(x), at.level_s)), Info(residual_norm(problem, x))


def _descend(problem: Problem, x: Array, x0: Array, target: Measurement, gamma: Scalar, rho: Scalar) -> Array:
    """One steepest-descent step on F(x) = ‖x − x₀‖²/(2γ) + (ρ/2) ‖A(x) − target‖²."""
    local = linearize(Problem(problem.operator, target, problem.noise_std), x)
    gap, miss = (x - x0) / expand(gamma, x), -local.residual
    downhill = gap + times(rho, local.pull(miss))
    image = local.push(downhill)
    slope = dot(gap, downhill) + rho * dot(miss, image)
    alpha = jnp.clip(divide_or_zero(slope, dot(downhill, downhill) / gamma + rho * dot(image, image)), 0.0, 1.0)
    if isinstance(problem.operator, LinearOperator):
        return x - times(alpha, downhill)  # F is a quadratic: a step no longer than the exact one never rises.

    def objective(x: Array) -> Scalar:
        residual = problem.operator(x) - target
        return dot(x - x0, x - x0) / (2 * gamma) + rho / 2 * dot(residual, residual)

    start = objective(x)

    def halve(alpha: Scalar, _: None) -> tuple[Scalar, None]:
        rises = objective(x - times(alpha, downhill)) > start
        return jnp.where(rises, alpha / 2, alpha), None

    alpha, _ = jax.lax.scan(halve, alpha, length=HALVINGS)
    return x - times(alpha, downhill)


@register(FastDIPS)
def fast_dips(
    *, epsilon: float | Array = 0.05, rho: float | Array = 200.0, rounds: int = 3, descents: int = 1
) -> FastDIPS:
    """FAST-DIPS, for any differentiable operator. If σ is small, all its draws are nearly the same.

    Each step makes one network call, and needs no gradient of the network. Use 50 to 150 steps.

    Args:
        epsilon: ε, the largest allowed ‖A(x) − y‖. The authors' 0.05 asks for a nearly exact fit. For m measured values with
            noise, σ √m is right.
        rho: ρ. The authors use 200, and 5 for HDR.
        rounds: K. The authors use 3, and 2 for phase retrieval, nonlinear blur and HDR.
        descents: S. The authors use 1 for super-resolution and inpainting, 2 for deblurring, 5 for nonlinear operators.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        "FAST-DIPS", ICLR 2026, arXiv 2603.01591. Differences: all derivatives of A are exact. The last level
        returns the point of ADMM (theirs: its x̂₀). The grid covers the whole schedule (theirs: σ from 100 to 0.1, which is
        ``karras_grid(schedule, steps, sigma_max=100, sigma_min=0.1)``).
    """
    return FastDIPS(
        number("epsilon", epsilon),
        number("rho", rho, open_low=True),
        count("rounds", rounds),
        count("descents", descents),
    )
