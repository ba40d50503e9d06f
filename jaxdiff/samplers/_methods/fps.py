"""FPS-SMC, filtering posterior sampling (Dou & Song 2024, Algorithm 2): particles follow a measurement with the image's noise.

FPS keeps many images, called particles. It adds noise to the measurement in the same way as to the images. So it can
compare each particle with a measurement of the same noise level, weigh it, and resample. It is exact only if the
measurement itself has no noise.

y_s ~ q(y_s | y_t, y)                                     the forward process of A x, backwards
w   ← w p(y_s | x_t)                                      for each particle
resample if few particles have most of the weight
x_s ~ p(x_s | x_t) N(y_s; A x_s, ᾱ_s σ² I)                exactly, both being Gaussian
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count, number
from jaxdiff.linalg import dot, times
from jaxdiff.numerics import normal, normal_like
from jaxdiff.operators.base import LinearOperator
from jaxdiff.samplers.base import Calls, Sampler, image_shape_of, residual_norm
from jaxdiff.samplers.likelihood import log_likelihood
from jaxdiff.samplers.particles import ParticleInfo, ParticleState, pick, resample
from jaxdiff.samplers.ranges import Choice, Linear
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.typing import Array, Image, Key, Scalar, static

__all__ = ["FPS", "fps"]


@struct.dataclass
class FPS(Sampler):
    """y_s ~ q(y_s | y_t, y), the forward process of A x; then x_s ~ p(x_s | x_t) N(y_s; A x_s, ᾱ_s σ² I), exactly.

    x_s is Gaussian with the mean μ + (AᵀA + ρ I)⁻¹ Aᵀ(y_s − A μ), ρ = ᾱ_s σ²/β̃, and is drawn by perturbing both terms. The
    weight is p(y_s | x_t) = N(y_s; A μ, ᾱ_s σ² I + β̃ A Aᵀ). μ and β̃ are the mean and the variance of q(x_s | x_t, x̂₀).
    """

    title = "FPS"
    needs = LinearOperator
    wants = "a linear operator, for (AᵀA + ρI)⁻¹Aᵀ"
    instead = "tds, dps or mmps"
    search = {"threshold": Linear(0.2, 1.0), "particles": Choice((4, 8, 16))}

    threshold: Array
    particles: int = static(default=16)

    @property
    def calls(self) -> Calls:  # type: ignore[override]
        """One a particle."""
        return Calls(self.particles)

    def begin(self, at: Step) -> ParticleState:
        """N draws of pure noise, equally weighted, and y noised to the same level."""
        particle_key, y_key = jax.random.split(at.randomness)
        shape = image_shape_of(at.problem, at.denoiser)
        dtype = at.denoiser.schedule.alpha_bar.dtype
        particles = normal(particle_key, (self.particles, *shape), dtype)
        y = at.operator.keep_observed(at.problem.y)
        noise = times(at.level_t.noise, normal(y_key, shape, dtype))
        noised = times(at.level_t.signal, y) + at.operator(noise)
        return ParticleState(particles[0], particles, jnp.zeros(self.particles, particles.dtype), noised)

    def restart(self, state: ParticleState, x: Image) -> ParticleState:
        """Every particle starts at ``x``."""
        return state._replace(x=x, particles=jnp.broadcast_to(x, state.particles.shape))

    def advance(self, state: ParticleState, at: Step) -> tuple[ParticleState, ParticleInfo]:
        """N forward passes: weigh by how well y_s is foreseen, resample, move."""
        y_key, resample_key, move_key, pick_key = at.keys(4, self.title)
        problem, operator, old, last = at.problem, at.operator, state.particles, at.last
        weigh = diffusion.posterior_coefficients(at.level_t, at.level_s)
        # The last move is its mean: it has no variance to divide by.
        beta = jnp.where(last, 1.0, weigh.variance).astype(old.dtype)
        noise = normal(y_key, old.shape[1:], old.dtype)
        bridge = operator(jnp.sqrt(jnp.where(last, 0.0, weigh.variance)).astype(old.dtype) * noise)
        y = operator.keep_observed(problem.y)
        y_s = times(weigh.x0_weight, y) + times(weigh.xt_weight, jnp.asarray(state.y)) + bridge

        x0 = jax.vmap(lambda x: at.predict(x).x0)(old)
        mean = times(weigh.x0_weight, x0) + times(weigh.xt_weight, old)
        variance = (at.level_s.alpha_bar * problem.noise_variance()).astype(old.dtype)
        foreseen = jax.vmap(lambda m: _log_evidence(operator, y_s - operator(m), variance, beta))(mean)
        at_end = jax.vmap(lambda x: log_likelihood(problem, x))(mean)
        weights = state.log_weights + jnp.where(last, at_end, foreseen)
        residual = residual_norm(problem, x0[jnp.argmax(weights)])
        index, weights, ess = resample(resample_key, weights, self.threshold)

        def move(key: Key, mean: Array) -> Array:
            image_key, data_key = jax.random.split(key)
            start = mean + jnp.sqrt(beta) * normal(image_key, mean.shape, mean.dtype)
            data = y_s + times(jnp.sqrt(variance), normal_like(data_key, y_s))
            return start + operator.ridge(variance / beta, data - operator(start))

        mean = mean[index]
        moved = jax.vmap(move)(jax.random.split(move_key, self.particles), mean)
        x_s = jnp.where(last, mean, moved)
        return ParticleState(pick(pick_key, x_s, weights), x_s, weights, y_s), ParticleInfo(residual, ess)


def _log_evidence(operator: LinearOperator, r: Array, variance: Scalar, beta: Scalar) -> Scalar:
    """−½ rᵀ (variance I + β A Aᵀ)⁻¹ r = −(‖r − A w‖² + ρ ‖w‖²)/(2 variance), w = (AᵀA + ρI)⁻¹ Aᵀ r, ρ = variance/β."""
    rho = variance / beta
    w = operator.ridge(rho, r)
    miss = r - operator(w)
    return -(dot(miss, miss) + rho * dot(w, w)) / (2 * variance)


@register(FPS)
def fps(*, particles: int = 16, threshold: float | Array = 0.5) -> FPS:
    """Filtering posterior sampling with sequential Monte-Carlo, for linear operators.

    Each step makes N network calls, and needs no gradient of the network. If y has no noise, it becomes exact as N grows.
    With σ > 0 its draws differ too little, because it treats the noise of y as new at every level.

    Args:
        particles: N. With 1 it is FPS without resampling.
        threshold: the fraction of N below which particles are resampled.

    Raises:
        ValueError: if an option is out of range.

    Reference:
        Dou & Song 2024, "Diffusion Posterior Sampling for Linear Inverse Problem Solving: A Filtering Perspective",
        Algorithm 2 (FPS-SMC). The noised measurements are drawn backwards from the bridge q(y_s | y_t, y) of their
        forward process; σ is at least 1e-3.
    """
    return FPS(number("threshold", threshold, high=1.0), count("particles", particles))
