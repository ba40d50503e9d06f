"""The UNet against the original's outputs and gradients on the same weights (all of them: benchmarks.parity)."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import parity_unet as parity
from jaxdiff.models import timestep_embedding
from tests.support.tiers import fast_only

WITH_GRADIENT = ("ru1_ss1_ls1_na0", "ddpm_conv_resample", "classcond10")


@pytest.mark.parametrize("name", fast_only(["ru1_ss1_ls0_na1"], list(parity.variants())))
def test_small_networks(name):
    variant = parity.variants()[name]
    errors = parity.compare(name, variant, gradient=name in WITH_GRADIENT)
    assert max(errors.values()) < parity.LIMIT, errors


@pytest.mark.slow
def test_a_wrong_attention_order_would_be_seen():
    variants = parity.variants()
    wrong = variants["ru1_ss1_ls0_na1"]
    wrong["kwargs"]["use_new_attention_order"] = False
    assert parity.compare("ru1_ss1_ls0_na1", wrong, gradient=False)["output"] > 0.01


def test_features_of_t():
    assert parity.compare_embedding() < 5e-5


@pytest.mark.parametrize("dim", [2, 7, 32, 33])
def test_features_of_t_in_closed_form(dim):
    t = np.array([0.0, 0.5, 3.0, 20.25])
    half = dim // 2
    phase = t[:, None] * 10_000.0 ** (-np.arange(half) / half)
    expected = np.concatenate([np.cos(phase), np.sin(phase), np.zeros((4, dim % 2))], axis=1)
    np.testing.assert_allclose(timestep_embedding(jnp.asarray(t, jnp.float32), dim), expected, atol=5e-6)
