"""The convolution primitive and its resampling forms against XLA's own convolution, with all derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdiff.models.convolution import convolve, convolve_by_two, convolve_upsampled


def plain(x, kernel, stride=1, padding=((1, 1), (1, 1))):
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


CASES = {
    "same": (lambda x, k: convolve(x, k, ((1, 1), (1, 1))), plain, 3),
    "lopsided": (lambda x, k: convolve(x, k, ((1, 0), (0, 1))), lambda x, k: plain(x, k, padding=((1, 0), (0, 1))), 2),
    "valid": (lambda x, k: convolve(x, k, ((0, 0), (0, 0))), lambda x, k: plain(x, k, padding="VALID"), 3),
    "pointwise": (lambda x, k: convolve(x, k, ((0, 0), (0, 0))), lambda x, k: plain(x, k, padding="VALID"), 1),
    "by two": (convolve_by_two, lambda x, k: plain(x, k, stride=2), 3),
    "upsampled": (convolve_upsampled, lambda x, k: plain(jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), k), 3),
}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=CASES)
def case(request, float64):
    ours, theirs, size = CASES[request.param]
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.standard_normal((2, 4, 6, 3)))
    return ours, theirs, x, jnp.asarray(generator.standard_normal((size, size, 3, 5)))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_values_and_first_derivatives(case):
    ours, theirs, x, kernel = case
    close(ours(x, kernel), theirs(x, kernel))
    v = jnp.cos(theirs(x, kernel))
    for a, b in zip(jax.vjp(ours, x, kernel)[1](v), jax.vjp(theirs, x, kernel)[1](v), strict=True):
        close(a, b)
    close(*(jax.jvp(f, (x, kernel), (2 * x, kernel - 1))[1] for f in (ours, theirs)))


def test_second_derivatives(case):
    ours, theirs, x, kernel = case

    def hessian_products(f):
        gradient = jax.grad(lambda x, k: jnp.sum(f(x, k) ** 3), (0, 1))
        return jax.jvp(gradient, (x, kernel), (x + 1, kernel * 2))[1]

    for a, b in zip(hessian_products(ours), hessian_products(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, None)])
def test_vmap(case, axes):
    ours, theirs, x, kernel = case
    xs = x if axes[0] is None else jnp.stack([x, 2 * x, x - 1], axes[0])
    kernels = kernel if axes[1] is None else jnp.stack([kernel, -kernel, kernel + 1], axes[1])
    close(jax.vmap(ours, axes)(xs, kernels), jax.vmap(theirs, axes)(xs, kernels))


def test_it_lowers_for_every_platform():
    x, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 5))
    exported = jax.export.export(
        jax.jit(jax.grad(lambda x: convolve_upsampled(x, kernel).sum())), platforms=("cpu", "cuda", "tpu")
    )(x)
    assert exported.platforms == ("cpu", "cuda", "tpu")
