"""TDS, the twisted diffusion sampler: particles guided by the approximate likelihood and weighted to correct for it."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.numerics import normal
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, image_shape_of, residual_norm
from jaxdiff.samplers.measurement import log_likelihood
from jaxdiff.samplers.options import count, need_key, need_problem, noisy_move_of, number
from jaxdiff.samplers.particles import ParticleInfo, ParticleState, half_squared, pick, resample
from jaxdiff.samplers.transitions import DDPM, Transition
from jaxdiff.typing import Array, Image, Key, Scalar, static

__all__ = ["TDS", "tds"]


@struct.dataclass
class TDS:
    """Twist p̃_t(y | x_t) = N(y; A(x̂₀(x_t)), (σ² + κ r_t²) I), r_t² = 1−ᾱ_t.

    Proposal x_s ~ N(μ + S² ∇ log p̃_t, S²) with μ, S the transition's mean and standard deviation; weight
    p(x_s | x_t) p̃_s(y | x_s) / (p̃_t(y | x_t) q(x_s | x_t)), p̃ being the likelihood itself at the clean end.

    Attributes:
        twist: κ, how far the twist is softened at high noise.
        threshold: particles are resampled where their effective number falls below this share of N.
        transition: the unconditional move.
        particles: N.
        start: forward steps at which the run begins; None for pure noise.
    """

    twist: Array
    threshold: Array
    transition: Transition = struct.field(default=DDPM())
    particles: int = static(default=16)
    start: int | None = static(default=None)

    def init(self, key: Key, problem: Problem | None, denoiser: DenoiserLike, t: Array) -> ParticleState:
        """N draws of pure noise, equally weighted."""
        del t
        shape = (self.particles, *image_shape_of(problem, denoiser))
        particles = normal(key, shape, denoiser.schedule.alpha_bar.dtype)
        return ParticleState(particles[0], particles, jnp.zeros(self.particles, particles.dtype), None)

    def restart(self, state: ParticleState, x: Image) -> ParticleState:
        """Every particle starts at ``x``."""
        return state._replace(x=x, particles=jnp.broadcast_to(x, state.particles.shape))

    def step(
        self, key: Key, state: ParticleState, t: Array, s: Array, problem: Problem | None, denoiser: DenoiserLike
    ) -> tuple[ParticleState, ParticleInfo]:
        """N forward and backward passes: weigh by the twist, resample, move."""
        problem = need_problem(problem, "TDS")
        resample_key, move_key, pick_key = jax.random.split(need_key(key, "TDS"), 3)
        schedule, old = denoiser.schedule, state.particles
        extra = (self.twist * schedule.at(t).one_minus_alpha_bar).astype(old.dtype)

        def twist(x_t: Array) -> tuple[Scalar, Prediction]:
            prediction = denoiser(x_t, t, s)
            return log_likelihood(problem, prediction.x0, extra), prediction

        (log_twist, predictions), gradients = jax.vmap(jax.value_and_grad(twist, has_aux=True))(old)
        weights = state.log_weights + log_twist
        residual = residual_norm(problem, predictions.x0[jnp.argmax(weights)])
        index, weights, ess = resample(resample_key, weights, self.threshold)
        x_t, log_twist, gradients, predictions = jax.tree.map(
            lambda leaf: leaf[index], (old, log_twist, gradients, predictions)
        )
        noise = normal(move_key, x_t.shape, x_t.dtype)

        def move(prediction: Prediction, x_t: Array, noise: Array) -> Array:
            return self.transition(prediction, x_t, t, s, noise, schedule)

        mean = jax.vmap(move)(predictions, x_t, jnp.zeros_like(x_t))
        std = jax.vmap(move)(predictions, x_t, jnp.ones_like(x_t)) - mean
        shifted = noise + std * gradients  # the proposal, in units of the transition's noise
        x_s = mean + std * shifted
        weights = weights - half_squared(shifted) + half_squared(noise) - log_twist
        at_end = jax.vmap(lambda x: log_likelihood(problem, x))(x_s)
        final = weights + jnp.where(s < 0, at_end, jnp.zeros_like(at_end))
        # Between steps the next twist is still owed: the particles' own likelihood stands in, to pick one to show.
        chosen = pick(pick_key, x_s, jnp.where(s < 0, final, weights + log_twist))
        return ParticleState(chosen, x_s, final, None), ParticleInfo(residual, ess)


def tds(
    *,
    particles: int = 16,
    twist: float | Array = 1.0,
    threshold: float | Array = 0.5,
    transition: Transition | GuidedSampler | None = None,
) -> TDS:
    """Twisted diffusion sampling, for any differentiable operator; exact as N grows, for any twist.

    Network calls a step: N forward, N backward.

    Args:
        particles: N.
        twist: κ; the twist's variance is σ² + κ (1−ᾱ_t).
        threshold: share of N below which particles are resampled; 1 resamples always.
        transition: a move *with noise*; DDPM by default.

    Raises:
        ValueError: if an option is out of range, or the transition adds no noise.

    Reference:
        Wu et al. 2023, "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models", Algorithm 1.
        Systematic resampling, only where the effective sample size asks for it.
    """
    return TDS(
        number("twist", twist),
        number("threshold", threshold, high=1.0),
        noisy_move_of(transition, "TDS"),
        count("particles", particles),
    )
