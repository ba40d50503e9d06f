"""FAST-DIPS: annealing in which each noise level takes a few exact descent steps towards the data."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.numerics import expand, normal, safe_norm
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import FromNoise, Info, State, residual_norm
from jaxdiff.samplers.continuous import sigma_of
from jaxdiff.samplers.measurement import divide, dot, linearize, times
from jaxdiff.samplers.options import count, need_problem, number
from jaxdiff.typing import Array, Key, Measurement, Scalar, static

__all__ = ["FastDIPS", "fast_dips"]

HALVINGS = 8


@struct.dataclass
class FastDIPS(FromNoise):
    """ADMM on min ‖x − x̂₀‖²/(2σ_t²) subject to ‖A(x) − y‖ ≤ ε, then x_s = √ᾱ_s x + √(1−ᾱ_s) z.

    ``rounds`` times: ``descents`` steepest-descent steps on ‖x − x̂₀‖²/(2σ_t²) + (ρ/2) ‖A(x) − (v − u)‖² with the step
    that is exact for the linearised A, in [0, 1], halved up to 8 times while the objective rises; v = A(x) + u
    projected onto the ball; u ← u + A(x) − v.

    Attributes:
        epsilon: ε, radius of the ball.
        rho: ρ.
        rounds: K.
        descents: S.
    """

    epsilon: Array
    rho: Array
    rounds: int = static(default=3)
    descents: int = static(default=1)

    def step(
        self, key: Key, state: State, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[State, Info]:
        """One network call; ``key`` may be the step's recorded noise."""
        problem = need_problem(problem, "FAST-DIPS")
        x_t, schedule = state.x, denoiser.schedule
        x0 = denoiser(x_t, t, s).x0
        gamma = sigma_of(schedule.at(t)).astype(x_t.dtype) ** 2
        y = problem.operator.keep_observed(problem.y)
        measure = problem.operator.__call__
        rho, epsilon = self.rho.astype(x_t.dtype), self.epsilon.astype(x_t.dtype)

        def round_(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
            x, v, u = carry
            for _descent in range(self.descents):
                x = _descend(problem, x, x0, v - u, gamma, rho)
            value = measure(x)
            away = value + u - y
            shrink = jnp.minimum(1.0, divide(epsilon, safe_norm(away)))
            v = y + times(jnp.where(safe_norm(away) > 0, shrink, 1.0), away)
            return (x, v, u + value - v), None

        value = measure(x0)
        (x, _, _), _ = jax.lax.scan(round_, (x0, value, jnp.zeros_like(value)), length=self.rounds)
        noise = normal(key, x.shape, x.dtype)
        return State(diffusion.q_sample(x, noise, schedule.at(s))), Info(residual_norm(problem, x))


def _descend(problem: Problem, x: Array, x0: Array, target: Measurement, gamma: Scalar, rho: Scalar) -> Array:
    """One steepest-descent step on F(x) = ‖x − x₀‖²/(2γ) + (ρ/2) ‖A(x) − target‖²."""
    local = linearize(Problem(problem.operator, target, problem.noise_std), x)
    gap, miss = (x - x0) / expand(gamma, x), -local.residual
    downhill = gap + expand(rho, x) * local.pull(miss)
    image = local.push(downhill)
    slope = dot(gap, downhill) + rho * dot(miss, image)
    alpha = jnp.clip(divide(slope, dot(downhill, downhill) / gamma + rho * dot(image, image)), 0.0, 1.0)
    if isinstance(problem.operator, LinearOperator):
        return x - expand(alpha, x) * downhill  # F is a quadratic: a step no longer than the exact one never rises.

    def objective(x: Array) -> Scalar:
        residual = problem.operator(x) - target
        return dot(x - x0, x - x0) / (2 * gamma) + rho / 2 * dot(residual, residual)

    start = objective(x)

    def halve(alpha: Scalar, _: None) -> tuple[Scalar, None]:
        rises = objective(x - expand(alpha, x) * downhill) > start
        return jnp.where(rises, alpha / 2, alpha), None

    alpha, _ = jax.lax.scan(halve, alpha, length=HALVINGS)
    return x - expand(alpha, x) * downhill


def fast_dips(
    *, epsilon: float | Array = 0.05, rho: float | Array = 200.0, rounds: int = 3, descents: int = 1
) -> FastDIPS:
    """FAST-DIPS, for any differentiable operator; quick, and a point rather than a draw where the data are precise.

    Network calls a step: 1, no gradient through the network. 50 to 150 steps, ``spacing="karras"``.

    Args:
        epsilon: ε, how far (in norm) the data may be missed. The authors' 0.05 asks for a near-exact fit; σ √m, m the
            number of measured values, allows for the noise.
        rho: ρ; 200, and 5 for HDR.
        rounds: K; 3, and 2 for phase retrieval, nonlinear blur and HDR.
        descents: S; 1 for SR and inpainting, 2 for deblurring, 5 for nonlinear operators.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        "FAST-DIPS", ICLR 2026, arXiv 2603.01591. Departures: derivatives of A are exact (jvp) everywhere; the last
        level returns the point of ADMM (the authors: its x̂₀); any grid of levels, the method's usual one from the
        schedule's ends (the authors: σ from 100 to 0.1, ``karras_grid(schedule, steps, sigma_max=100, sigma_min=0.1)``).
    """
    return FastDIPS(
        number("epsilon", epsilon),
        number("rho", rho, open_low=True),
        count("rounds", rounds),
        count("descents", descents),
    )
