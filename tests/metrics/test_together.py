"""All measures at once: each is its own function's, of one image and of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import metrics
from tests.support.networks import random_lpips


def pair(side, count=2):
    x, truth = jax.random.uniform(jax.random.key(0), (2, count, side, side, 3), minval=-1)
    return x, truth


@pytest.mark.slow
def test_each_measure_is_that_of_its_own_function():
    x, truth = pair(32)
    together = metrics.evaluate(x, truth)
    assert set(together) == {"psnr", "ssim", "lpips"}
    for name, values in together.items():
        alone = [getattr(metrics, name)(*images) for images in zip(x, truth, strict=True)]
        np.testing.assert_allclose(values, jnp.stack(alone), rtol=1e-5)
        np.testing.assert_allclose(metrics.evaluate(x[1], truth[1])[name], alone[1], rtol=1e-5)


def test_lpips_is_by_the_network_that_is_named():
    x, truth = pair(16)
    params = random_lpips("vgg")
    found = metrics.evaluate(x, truth, net="vgg", params=params)["lpips"]
    alone = [metrics.lpips(*images, net="vgg", params=params) for images in zip(x, truth, strict=True)]
    np.testing.assert_allclose(found, jnp.stack(alone), rtol=1e-5)


@pytest.mark.parametrize(("side", "missing"), [(10, {"ssim", "lpips"}), (30, {"lpips"})])
def test_what_is_too_small_for_a_measure_has_the_others(side, missing):
    found = metrics.evaluate(*pair(side))
    assert {name for name, values in found.items() if np.isnan(values).all()} == missing


def test_shapes_that_cannot_be_compared_are_refused():
    x, truth = pair(16)
    for wrong in ((x, truth[0]), (x[0, 0], truth[0, 0])):
        with pytest.raises(ValueError, match=r"two images \[H, W, C\] or two batches"):
            metrics.evaluate(*wrong)
