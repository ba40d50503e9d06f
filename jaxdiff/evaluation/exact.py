"""Posteriors that are known in closed form, and how far a sampler's draws are from them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.denoisers import GaussianMixturePrior, GaussianPrior
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.typing import Array, Key

__all__ = [
    "MixturePosterior",
    "MomentErrors",
    "gaussian_posterior",
    "mixture_posterior",
    "moment_errors",
    "sliced_wasserstein",
]


class _Linear(NamedTuple):
    """y − A μ = A (x₀ − μ) + n in real numbers: a complex entry of y is two rows, its real and its imaginary part.

    Attributes:
        a: A, [M, D].
        variance: of each entry of n.
        observed: [M], False where the row of A is 0.
    """

    a: Array
    variance: Array
    observed: Array

    def innovation(self, spread: Array) -> Array:
        """``spread`` + σ² I, [M, M]; 1 on the diagonal where the row of A is 0, so that σ = 0 divides by none."""
        return spread + jnp.diag(jnp.where(self.observed, self.variance, 1.0).astype(spread.dtype))


def _linear(problem: Problem) -> _Linear:
    if not isinstance(problem.operator, LinearOperator):
        raise ValueError(f"{type(problem.operator).__name__} is not linear, so its posterior has no closed form.")
    if problem.noise is not None:
        raise ValueError(f"under {problem.noise.title} the posterior has no closed form; give Gaussian noise of one σ.")
    a = _real(problem.operator.as_matrix())
    return _Linear(a, problem.noise_variance(floor=0.0), jnp.any(a != 0, axis=1))


def _real(values: Array) -> Array:
    """Complex entries as two real ones, along the first axis."""
    return jnp.concatenate([values.real, values.imag]) if jnp.iscomplexobj(values) else values


def gaussian_posterior(prior: GaussianPrior, problem: Problem) -> tuple[Array, Array]:
    """Mean [H, W, C] and covariance [D, D] of p(x₀ | y) for x₀ ~ N(μ, Σ), y = A x₀ + σ n.

    G = Σ Aᵀ (A Σ Aᵀ + σ² I)⁻¹,  mean = μ + G (y − A μ),  covariance = (I − G A) Σ (I − G A)ᵀ + σ² G Gᵀ.

    If y is complex, its real and its imaginary part have the variance σ²/2 each.

    Raises:
        ValueError: if the operator is not linear, or the problem has a noise model.
    """
    known = _linear(problem)
    a, prior_cov = known.a, prior.covariance
    gain = jnp.linalg.solve(known.innovation(a @ prior_cov @ a.T), a @ prior_cov).T
    mean = prior.mean + (gain @ _real(problem.residual(prior.mean).ravel())).reshape(prior.mean.shape)
    shrink = jnp.eye(a.shape[1], dtype=a.dtype) - gain @ a
    return mean, shrink @ prior_cov @ shrink.T + known.variance * gain @ gain.T


class MixturePosterior(NamedTuple):
    """p(x₀ | y) = Σ_k w_k N(m_k, C_k): weights [K], means [K, D], covariances [K, D, D]."""

    weights: Array
    means: Array
    covariances: Array

    @property
    def mean(self) -> Array:
        """[D]."""
        return self.weights @ self.means

    def draw(self, key: Key, count: int) -> Array:
        """Exact draws, [count, D]."""
        which_key, noise_key = jax.random.split(key)
        which = jax.random.choice(which_key, self.weights.shape[0], (count,), p=self.weights)
        values, vectors = jnp.linalg.eigh(self.covariances)
        # The symmetric root is unique: vectors √values alone would give other draws on another processor.
        roots = (vectors * jnp.sqrt(jnp.maximum(values, 0))[:, None, :]) @ vectors.mT
        noise = jax.random.normal(noise_key, (count, self.means.shape[1]))
        return self.means[which] + jnp.einsum("nij,nj->ni", roots[which], noise)


def mixture_posterior(prior: GaussianMixturePrior, problem: Problem) -> MixturePosterior:
    """p(x₀ | y) for x₀ ~ Σ_k w_k N(μ_k, v_k I), y = A x₀ + σ n.

    w′_k ∝ w_k N(y; A μ_k, v_k A Aᵀ + σ² I); each component as in ``gaussian_posterior``.

    Raises:
        ValueError: if the operator is not linear, or the problem has a noise model.
    """
    known = _linear(problem)
    a = known.a

    def component(mean: Array, v: Array) -> tuple[Array, Array, Array]:
        innovation = known.innovation(v * a @ a.T)
        residual = jnp.where(known.observed, _real(problem.residual(mean).ravel()), 0.0)
        gain = jnp.linalg.solve(innovation, v * a).T
        log_weight = -0.5 * (residual @ jnp.linalg.solve(innovation, residual) + jnp.linalg.slogdet(innovation)[1])
        return log_weight, mean.ravel() + gain @ residual, v * (jnp.eye(a.shape[1], dtype=a.dtype) - gain @ a)

    log_weights, means, covariances = jax.vmap(component)(prior.means, prior.variances)
    return MixturePosterior(jax.nn.softmax(log_weights + jnp.log(prior.weights)), means, covariances)


class MomentErrors(NamedTuple):
    """Errors of the first two moments of N draws, and what N exact draws would show on average.

    Attributes:
        mean: ‖m̂ − m‖ / √(tr C), in posterior standard deviations (rms over directions).
        mean_floor: √(1/N).
        covariance: ‖Ĉ − C‖_F / ‖C‖_F.
        covariance_floor: √((tr(C)² + tr(C²)) / ((N−1) tr(C²))).
        spread: tr Ĉ / tr C; below 1 is over-confident.
        spread_floor: standard error of ``spread``, √(2 tr(C²) / (N−1)) / tr(C).
    """

    mean: Array
    mean_floor: Array
    covariance: Array
    covariance_floor: Array
    spread: Array
    spread_floor: Array


def moment_errors(samples: Array, mean: Array, covariance: Array) -> MomentErrors:
    """Compare the first two moments of draws with the true ones.

    Args:
        samples: N draws, [N, …], of D numbers each.
        mean: of D numbers, in any shape.
        covariance: [D, D].
    """
    flat = samples.reshape(samples.shape[0], -1)
    count = flat.shape[0]
    estimate = flat.mean(0)
    centred = flat - estimate
    sample_cov = centred.T @ centred / (count - 1)
    trace, squared = jnp.trace(covariance), jnp.sum(covariance**2)
    return MomentErrors(
        mean=jnp.linalg.norm(estimate - mean.ravel()) / jnp.sqrt(trace),
        mean_floor=jnp.asarray(count**-0.5),
        covariance=jnp.linalg.norm(sample_cov - covariance) / jnp.sqrt(squared),
        covariance_floor=jnp.sqrt((trace**2 + squared) / ((count - 1) * squared)),
        spread=jnp.trace(sample_cov) / trace,
        spread_floor=jnp.sqrt(2 * squared / (count - 1)) / trace,
    )


def sliced_wasserstein(key: Key, a: Array, b: Array, *, directions: int = 128) -> Array:
    """Sliced 2-Wasserstein distance between two sets of N draws [N, D] each.

    (mean over random unit directions of the mean squared difference of sorted projections)^½.

    Args:
        key: of the directions.
        a: one set, [N, D].
        b: the other, [N, D].
        directions: how many.

    Raises:
        ValueError: if the sets differ in shape.
    """
    if a.shape != b.shape:
        raise ValueError(f"two sets of as many draws are compared, got shapes {a.shape} and {b.shape}.")
    unit = jax.random.normal(key, (directions, a.shape[1]), a.dtype)
    unit = unit / jnp.linalg.norm(unit, axis=1, keepdims=True)
    difference = jnp.sort(a @ unit.T, axis=0) - jnp.sort(b @ unit.T, axis=0)
    return jnp.sqrt(jnp.mean(difference**2))
