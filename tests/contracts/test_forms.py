"""Every sampler on priors that are told σ: one behind EDM's form, and a variance-exploding one on [0, 1]."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import schedules
from jaxdiff.denoisers import Preconditioning, from_function
from jaxdiff.samplers.loop import sample
from tests.contracts.test_samplers import SHAPE, STEPS, TABLE, UNCONDITIONAL, problem
from tests.support.tiers import fast_only

FORMS = {
    "edm": (Preconditioning("edm", "edm"), schedules.karras(100)),
    "ve": (Preconditioning("ve", "log_sigma", (0.0, 1.0)), schedules.geometric(100, sigma_min=0.02, sigma_max=696.0)),
}
FAST = [("dps", "edm"), ("ddrm", "ve"), ("daps", "edm"), ("heun", "ve")]


def edm_network(params, x, label):
    """F of N(0, 0.16) behind EDM's form."""
    sigma = jnp.exp(4 * label).reshape(-1, 1, 1, 1)
    skip, root = 0.25 / (sigma**2 + 0.25), jnp.sqrt(sigma**2 + 0.25)
    x = x * root
    return params * (0.16 * x / (0.16 + sigma**2) - skip * x) / (sigma * 0.5 / root)


def ve_network(params, x, label):
    """−noise of N(½, 1/16) on [0, 1]."""
    sigma = jnp.exp(label).reshape(-1, 1, 1, 1)
    return params * ((x / 16 + 0.5 * sigma**2) / (1 / 16 + sigma**2) - x) / sigma


NETWORKS = {"edm": edm_network, "ve": ve_network}


@functools.cache
def prior(form):
    outside, schedule = FORMS[form]
    return from_function(
        NETWORKS[form], jnp.float32(1), schedule=schedule, image_shape=SHAPE, preconditioning=outside, clip=True
    )


@pytest.mark.parametrize(("name", "form"), fast_only(FAST, [(name, form) for name in TABLE for form in FORMS]))
def test_runs_without_change(name, form):
    where = None if name in UNCONDITIONAL else problem("mask")
    image, _ = sample(jax.random.key(5), prior(form), where, TABLE[name](), steps=STEPS)
    assert image.shape == SHAPE
    assert np.isfinite(image).all(), name
    assert np.abs(image).max() < 20
