"""The Fréchet distance against closed forms, SciPy's matrix square root, and pytorch-fid."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from benchmarks.record_inception import vectors
from jaxdiff.evaluation import frechet_distance, moments_from, moments_of

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "inception.npz"


def dense(a, b):
    """The textbook's formula, in float64."""
    root = scipy.linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    traces = np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + traces


def test_it_is_that_of_pytorch_fid():
    a, b = (jnp.asarray(each, jnp.float32) for each in vectors())
    with np.load(GOLDEN) as recorded:
        np.testing.assert_allclose(frechet_distance(moments_of(a), moments_of(b)), recorded["fid"], rtol=1e-5)


@pytest.mark.parametrize("counts", [(50, 40), (50, 8), (7, 8)], ids=str)
def test_it_is_the_textbooks_with_more_and_with_fewer_vectors_than_numbers(counts):
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((n, 12)) @ rng.standard_normal((12, 12)) for n in counts)
    found = jax.jit(lambda a, b: frechet_distance(moments_of(a), moments_of(b)))(a, b)
    np.testing.assert_allclose(found, dense(a, b), rtol=1e-4)


def test_of_independent_numbers_it_is_the_difference_of_the_deviations():
    s, t = np.array([1.0, 2.0, 0.0]), np.array([0.5, 3.0, 1.0])
    a, b = moments_from(np.zeros(3), np.diag(s**2)), moments_from(np.ones(3), np.diag(t**2))
    np.testing.assert_allclose(frechet_distance(a, b), 3 + ((s - t) ** 2).sum(), rtol=1e-6)


def test_a_set_has_no_distance_from_its_own_moments():
    a = np.random.default_rng(2).standard_normal((200, 30))
    known = moments_from(a.mean(0), np.cov(a, rowvar=False))
    assert abs(frechet_distance(moments_of(jnp.asarray(a, jnp.float32)), known)) < 1e-4


def test_what_does_not_fit_is_refused():
    one = moments_of(jnp.eye(4))
    with pytest.raises(ValueError, match="one length"):
        frechet_distance(one, moments_of(jnp.eye(5)))
    with pytest.raises(ValueError, match="at least two"):
        moments_of(jnp.ones((1, 4)))
    with pytest.raises(ValueError, match="covariance"):
        moments_from(np.zeros(3), np.eye(4))
