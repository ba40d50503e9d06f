"""Values and gradients of the code of DPS, on one 64x64 image."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "operators" / "dps_64.npz"
SHAPE = (64, 64, 3)
MAKE = {
    "gblur": lambda golden: ops.gaussian_blur(image_shape=SHAPE),
    "gblur_any_kernel": lambda golden: ops.blur(image_shape=SHAPE, kernel=golden["gblur_kernel"]),
    "sr2": lambda golden: ops.super_resolution(image_shape=SHAPE, factor=2),
    "sr4": lambda golden: ops.super_resolution(image_shape=SHAPE, factor=4),
    "sr8": lambda golden: ops.super_resolution(image_shape=SHAPE, factor=8),
    "inp_random": lambda golden: ops.inpaint_mask(image_shape=SHAPE, mask=golden["inp_random_mask"]),
    "inp_box": lambda golden: ops.inpaint_mask(image_shape=SHAPE, mask=golden["inp_box_mask"]),
    "phase_os0.5": lambda golden: ops.phase_retrieval(image_shape=SHAPE, padding=16),
}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as data:
        return dict(data)


def _error(found, expected):
    return np.linalg.norm(np.asarray(found, np.float64) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", MAKE)
def test_equals_the_reference_code(name, golden):
    operator = MAKE[name](golden)
    key = name.removesuffix("_any_kernel")
    y, pull_back = jax.vjp(operator, jnp.asarray(golden["x"]))
    assert f"{key}_y" in golden or f"{key}_vjp" in golden
    if f"{key}_y" in golden:
        assert _error(y, golden[f"{key}_y"]) < 1e-5
    if f"{key}_vjp" in golden:
        u = jnp.asarray(golden[f"{key}_u"])
        assert _error(pull_back(u)[0], golden[f"{key}_vjp"]) < 1e-5
        if isinstance(operator, ops.LinearOperator):
            assert _error(operator.adjoint(u), golden[f"{key}_vjp"]) < 1e-5
