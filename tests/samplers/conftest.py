"""A small world where the posterior is known: Gaussian priors, linear operators, and draws by the thousand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxdiff import operators, schedules
from jaxdiff.denoisers import GaussianPrior, gaussian_prior
from jaxdiff.evaluation.exact import gaussian_posterior
from jaxdiff.operators.base import LinearOperator, Operator
from jaxdiff.problems import Problem, observe
from jaxdiff.samplers import karras_grid, sample
from jaxdiff.typing import Array, static
from tests.support.operators import Cubic, Dense

SHAPE = (4, 4, 1)
SIZE = 16
SCHEDULE = schedules.linear(1000)
SIGMA = 0.2


@struct.dataclass
class Spectrum(Operator):
    """The complex Fourier transform, declared nonlinear so that derivatives are taken."""

    scale: float = static(default=1.0)

    def apply(self, x):
        return self.scale * jnp.fft.fft2(x[..., 0], norm="ortho")


class World(NamedTuple):
    prior: GaussianPrior
    problem: Problem
    mean: Array
    covariance: Array

    def draws(self, sampler, *, steps=100, count=1000, seed=0, grid=None):
        """``count`` independent runs: images [count, H, W, C] and infos."""
        grid = karras_grid(SCHEDULE, steps) if grid is None else grid
        keys = jax.random.split(jax.random.key(seed), count)
        one = jax.jit(jax.vmap(lambda k: sample(k, self.prior, self.problem, sampler, steps=grid)))
        return one(keys)


def make_prior(*, kind="correlated", std=0.5):
    rng = np.random.default_rng(0)
    mean = jnp.asarray(rng.normal(size=SHAPE) / 3, jnp.float32)
    if kind == "correlated":
        position = np.arange(SIZE)
        row, column = position // 4, position % 4
        distance = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
        covariance = std**2 * 0.6**distance
    elif kind == "diagonal":
        covariance = np.diag(rng.uniform(0.1, 0.6, SIZE))
    else:
        covariance = std**2 * np.eye(SIZE)
    return gaussian_prior(mean, jnp.asarray(covariance, jnp.float32), SCHEDULE)


def make_operator(kind):
    if kind == "mask":
        mask = np.random.default_rng(3).permutation(SIZE).reshape(4, 4) < 9
        return operators.inpaint_mask(image_shape=SHAPE, mask=jnp.asarray(mask, jnp.float32))
    if kind == "blur":
        rows = np.array([[0.6, 0.4, 0, 0], [0.3, 0.4, 0.3, 0], [0, 0.3, 0.4, 0.3], [0, 0, 0.4, 0.6]])
        return operators.separable(image_shape=SHAPE, rows=rows, columns=rows)
    if kind == "dense":
        matrix = np.random.default_rng(4).normal(size=(6, SIZE)) / 3
        return Dense(jnp.asarray(matrix, jnp.float32), image_shape=SHAPE)
    if kind == "cubic":
        return Cubic(jnp.asarray(0.3), image_shape=SHAPE)
    return Spectrum(image_shape=SHAPE)


def make_world(operator="mask", prior="correlated", sigma=SIGMA, std=0.5):
    prior = make_prior(kind=prior, std=std)
    operator = make_operator(operator)
    # By Cholesky's root, which is unique: eigenvectors, and so the draw, would differ from processor to processor.
    root = np.linalg.cholesky(np.asarray(prior.covariance, np.float64)).astype(np.float32)
    truth = prior.mean + (root @ jax.random.normal(jax.random.key(5), (SIZE,))).reshape(SHAPE)
    problem = observe(jax.random.key(6), operator, truth, sigma)
    if isinstance(operator, LinearOperator):
        return World(prior, problem, *gaussian_posterior(prior, problem))
    return World(prior, problem, None, None)


def posterior_given_xt(world, x_t, t):
    """E[x₀ | x_t, y] by dense linear algebra: y and x_t are two measurements of x₀."""
    level = SCHEDULE.at(jnp.asarray(t))
    a = np.asarray(world.problem.operator.as_matrix(), np.float64)
    precision = np.linalg.inv(np.asarray(world.prior.covariance, np.float64))
    sigma2, rest, signal2 = (
        float(world.problem.noise_std) ** 2,
        float(level.one_minus_alpha_bar),
        float(level.alpha_bar),
    )
    total = precision + a.T @ a / sigma2 + signal2 / rest * np.eye(SIZE)
    right = (
        precision @ np.asarray(world.prior.mean, np.float64).ravel()
        + a.T @ np.asarray(world.problem.y, np.float64).ravel() / sigma2
        + np.sqrt(signal2) / rest * np.asarray(x_t, np.float64).ravel()
    )
    return np.linalg.solve(total, right).reshape(SHAPE)


@pytest.fixture(scope="session")
def world():
    """``world(operator, prior, sigma=, std=)``."""
    return make_world


@pytest.fixture(scope="session")
def operator_of():
    return make_operator


@pytest.fixture(scope="session")
def exact_prediction():
    return posterior_given_xt


@pytest.fixture(scope="session")
def x_t():
    return jax.random.normal(jax.random.key(9), SHAPE)
