"""TDS, the twisted diffusion sampler (Wu et al. 2023, Algorithm 1): guided particles, weighted to correct for the guidance.

TDS keeps many images, called particles, and guides each of them towards the measurement. The guidance is only approximate,
so each particle gets a weight that corrects the error. With more particles the draws become exact. This needs many network
calls.

p̃_t(y | x_t) ← N(y; A(x̂₀(x_t)), (σ² + κ r_t²) I)          the twist
weigh each particle by it; resample if few particles have most of the weight
x_s ~ N(μ + S² ∇ log p̃_t, S²), with μ, S of the prior's step
weight ← weight · p(x_s | x_t)/(p̃_t(y | x_t) q(x_s | x_t))
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff._checks import count, number
from jaxdiff.denoisers import Prediction
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import normal
from jaxdiff.samplers.arguments import noisy_transition_of
from jaxdiff.samplers.base import Calls, GuidedSampler, image_shape_of, residual_norm
from jaxdiff.samplers.likelihood import log_likelihood
from jaxdiff.samplers.particles import ParticleInfo, ParticleState, half_squared, pick, resample
from jaxdiff.samplers.ranges import Choice, Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.typing import Array, Image, Scalar, static

__all__ = ["TDS", "tds"]


@struct.dataclass
class TDS(GuidedSampler):
    """Twist p̃_t(y | x_t) = N(y; A(x̂₀(x_t)), (σ² + κ r_t²) I), r_t² = 1−ᾱ_t.

    The proposal is x_s ~ N(μ + S² ∇ log p̃_t, S²), where μ and S are the mean and standard deviation of the prior's step. The
    weight is p(x_s | x_t) p̃_s(y | x_s) / (p̃_t(y | x_t) q(x_s | x_t)). At the clean end, p̃ is the likelihood itself.
    With a noise model, the twist is the likelihood of the model with added Gaussian noise of variance κ r_t².
    """

    title = "TDS"
    takes = NoiseModel
    search = {"twist": Log(0.1, 10.0), "particles": Choice((4, 8, 16))}

    twist: Array
    threshold: Array
    particles: int = static(default=16)

    @property
    def calls(self) -> Calls:  # type: ignore[override]
        """One gradient a particle."""
        return Calls(self.particles, self.particles)

    def begin(self, at: Step) -> ParticleState:
        """N draws of pure noise, equally weighted."""
        shape = (self.particles, *image_shape_of(at.problem, at.denoiser))
        particles = normal(at.randomness, shape, at.denoiser.schedule.alpha_bar.dtype)
        return ParticleState(particles[0], particles, jnp.zeros(self.particles, particles.dtype), None)

    def restart(self, state: ParticleState, x: Image) -> ParticleState:
        """Every particle starts at ``x``."""
        return state._replace(x=x, particles=jnp.broadcast_to(x, state.particles.shape))

    def advance(self, state: ParticleState, at: Step) -> tuple[ParticleState, ParticleInfo]:
        """N forward and backward passes: weigh by the twist, resample, move."""
        resample_key, move_key, pick_key = at.keys(3, self.title)
        problem, old = at.problem, state.particles
        extra = (self.twist * at.level_t.one_minus_alpha_bar).astype(old.dtype)

        def twist(x0: Image) -> Scalar:
            return log_likelihood(problem, x0, extra)

        gradients, predictions, log_twist = jax.vmap(lambda x: at.misfit_gradient(x, twist))(old)
        weights = state.log_weights + log_twist
        residual = residual_norm(problem, predictions.x0[jnp.argmax(weights)])
        index, weights, ess = resample(resample_key, weights, self.threshold)
        x_t, log_twist, gradients, predictions = jax.tree.map(
            lambda leaf: leaf[index], (old, log_twist, gradients, predictions)
        )
        noise = normal(move_key, x_t.shape, x_t.dtype)

        def move(prediction: Prediction, x_t: Array, noise: Array) -> Array:
            return self.move(prediction, x_t, at, noise)

        mean = jax.vmap(move)(predictions, x_t, jnp.zeros_like(x_t))
        std = jax.vmap(move)(predictions, x_t, jnp.ones_like(x_t)) - mean
        shifted = noise + std * gradients  # the proposal, in units of the transition's noise
        x_s = mean + std * shifted
        weights = weights - half_squared(shifted) + half_squared(noise) - log_twist
        at_end = jax.vmap(lambda x: log_likelihood(problem, x))(x_s)
        final = weights + jnp.where(at.last, at_end, jnp.zeros_like(at_end))
        # Between steps the next twist is still owed: the particles' own likelihood stands in, to pick one to show.
        chosen = pick(pick_key, x_s, jnp.where(at.last, final, weights + log_twist))
        return ParticleState(chosen, x_s, final, None), ParticleInfo(residual, ess)


@register(TDS)
def tds(
    *,
    particles: int = 16,
    twist: float | Array = 1.0,
    threshold: float | Array = 0.5,
    transition: Transition | GuidedSampler | None = None,
) -> TDS:
    """Twisted diffusion sampling, for any differentiable operator; exact as N grows, for any twist.

    Each step makes N forward and N backward passes.

    Args:
        particles: N, the number of particles.
        twist: κ. The variance of the twist is σ² + κ (1−ᾱ_t).
        threshold: the fraction of N below which particles are resampled. With 1 they are always resampled.
        transition: the step of the prior, which must add noise; DDPM by default.

    Raises:
        ValueError: if an option is out of range, or the transition adds no noise.

    Reference:
        Wu et al. 2023, "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models", Algorithm 1.
        Resampling is systematic, and happens only if the effective sample size is small.
    """
    return TDS(
        number("twist", twist),
        number("threshold", threshold, high=1.0),
        count("particles", particles),
        transition=noisy_transition_of(transition, "TDS"),
    )
