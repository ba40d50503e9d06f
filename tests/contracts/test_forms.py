"""Every sampler on priors that are told σ: one behind EDM's form, and a variance-exploding one on [0, 1]."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import schedules
from jaxdiff.denoisers import Preconditioning, from_function
from jaxdiff.samplers.loop import sample
from tests.contracts.test_samplers import SHAPE, STEPS, TABLE, UNCONDITIONAL, problem
from tests.support.networks import TinyNet
from tests.support.tiers import fast_only

FORMS = {
    "edm": (Preconditioning("edm", "edm"), schedules.karras(100)),
    "ve": (Preconditioning("ve", "log_sigma", (0.0, 1.0)), schedules.geometric(100, sigma_min=0.02, sigma_max=696.0)),
}
FAST = [("dps", "edm"), ("ddrm", "ve"), ("daps", "edm"), ("heun", "ve")]


@dataclasses.dataclass(frozen=True)
class Apply:
    """A network that a run does not compile anew."""

    module: TinyNet

    def __call__(self, params, x, t):
        return self.module.apply({"params": params}, x, t)


@functools.cache
def prior(form):
    module = TinyNet()
    params = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), jnp.zeros(1))["params"]
    outside, schedule = FORMS[form]
    return from_function(
        Apply(module), params, schedule=schedule, image_shape=SHAPE, preconditioning=outside, clip=True
    )


@pytest.mark.parametrize(("name", "form"), fast_only(FAST, [(name, form) for name in TABLE for form in FORMS]))
def test_runs_without_change(name, form):
    where = None if name in UNCONDITIONAL else problem("mask")
    image, _ = sample(jax.random.key(5), prior(form), where, TABLE[name](), steps=STEPS)
    assert image.shape == SHAPE
    assert np.isfinite(image).all(), name
    assert np.abs(image).max() < 20
