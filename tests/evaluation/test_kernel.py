"""The kernel distance against its double sum, a case in closed form, and the scatter of many draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.evaluation import kernel_distance


def double_sum(a, b):
    def k(x, y):
        return (np.dot(x, y) / len(x) + 1) ** 3

    def within(x):
        return np.mean([k(p, q) for i, p in enumerate(x) for j, q in enumerate(x) if i != j])

    return within(a) + within(b) - 2 * np.mean([k(p, q) for p in a for q in b])


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, 5)), 0.5 + 1.5 * rng.standard_normal((4, 5))


def test_it_is_the_double_sum(sets):
    a, b = sets
    value = kernel_distance(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)).value
    np.testing.assert_allclose(value, double_sum(a, b), rtol=1e-5)


def test_standard_error_is_the_jackknife_of_the_double_sum(sets):
    a, b = sets
    parts = (
        [double_sum(np.delete(a, i, 0), b) for i in range(len(a))],
        [double_sum(a, np.delete(b, i, 0)) for i in range(len(b))],
    )
    variance = sum((len(part) - 1) * np.var(part) for part in parts)
    found = kernel_distance(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)).standard_error
    np.testing.assert_allclose(found, np.sqrt(variance), rtol=1e-4)


def test_two_points_have_a_known_distance():
    # All vectors of a set alike, D = 1: (x² + 1)³ + (y² + 1)³ − 2 (xy + 1)³, with x = 1 and y = 2.
    found = kernel_distance(jnp.ones((3, 1)), jnp.full((4, 1), 2.0))
    assert float(found.value) == pytest.approx(2**3 + 5**3 - 2 * 3**3)
    assert float(found.standard_error) == pytest.approx(0, abs=1e-3)


def test_it_is_unbiased_and_its_error_is_that_of_new_draws():
    # Of N(0, 1) and N(μ, 1), D = 1: E k = Σ_r C(3, r) E[x^r] E[y^r] with moments 1, μ, 1 + μ², 3μ + μ³.
    mu = 0.8
    binomials, zero = np.array([1, 3, 3, 1]), np.array([1, 0, 1, 0])
    moved = np.array([1, mu, 1 + mu**2, 3 * mu + mu**3])
    truth = float(np.sum(binomials * (zero - moved) ** 2))

    def one(key):
        a, b = jax.random.split(key)
        return kernel_distance(jax.random.normal(a, (24, 1)), mu + jax.random.normal(b, (16, 1)))

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 2000))
    scatter = float(jnp.std(found.value))
    assert float(jnp.mean(found.value)) == pytest.approx(truth, abs=4 * scatter / np.sqrt(2000))
    # The jackknife errs on the safe side for sets so small.
    assert 0.9 * scatter < float(jnp.sqrt(jnp.mean(found.standard_error**2))) < 1.5 * scatter


@pytest.mark.parametrize(("n", "m"), [((2, 4), (5, 4)), ((5, 4), (5, 3)), ((5,), (5, 3))])
def test_sets_that_cannot_be_compared(n, m):
    with pytest.raises(ValueError, match="at least 3 vectors of one length"):
        kernel_distance(jnp.zeros(n), jnp.zeros(m))
