"""Operators made of operators and of functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops
from jaxdiff.operators import LinearOperator

SHAPE = (8, 8, 3)
X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32))


def test_signs_of_the_algebra():
    mask, grey = ops.inpaint_box(image_shape=SHAPE, size=4), ops.grayscale(image_shape=SHAPE)
    curve = ops.gamma_curve(image_shape=SHAPE)
    np.testing.assert_allclose((grey @ mask)(X), grey(mask(X)), atol=1e-6)
    np.testing.assert_allclose((mask + curve)(X), mask(X) + curve(X), atol=1e-6)
    np.testing.assert_allclose((3 * curve)(X), 3 * curve(X), atol=1e-6)
    np.testing.assert_allclose((jnp.float32(-0.5) * grey)(X), -0.5 * grey(X), atol=1e-6)
    assert isinstance(grey @ mask, LinearOperator)
    assert isinstance(2 * mask + mask, LinearOperator)
    assert not isinstance(curve @ mask, LinearOperator)
    assert (2 * mask).closed_solve
    assert not (grey @ mask).closed_solve


def test_stack_splits_into_its_parts():
    parts = ops.grayscale(image_shape=SHAPE), ops.block_average(image_shape=SHAPE, factor=4)
    both = ops.stack(*parts)
    assert both.measurement_shape == (64 + 12,)
    for part, y in zip(parts, both.split(both(X)), strict=True):
        np.testing.assert_allclose(y, part(X), atol=1e-6)


def test_operators_compile_once_for_new_leaves_and_compose_under_jit():
    traces = []

    @jax.jit
    def run(operator, x):
        traces.append(1)
        return (2 * operator)(x)

    for size in (2, 4):
        run(ops.inpaint_box(image_shape=SHAPE, size=size) @ ops.inpaint_box(image_shape=SHAPE, size=2), X)
    assert len(traces) == 1


def test_functions_with_parameters():
    operator = ops.from_function(lambda p, x: p["gain"] * x**2, image_shape=SHAPE, params={"gain": jnp.float32(3)})
    np.testing.assert_allclose(operator(X), 3 * X**2, atol=1e-6)
    gradient = jax.grad(lambda o: o(X).sum())(operator).params["gain"]
    np.testing.assert_allclose(gradient, (X**2).sum(), rtol=1e-5)


def test_functions_may_be_complex_or_in_float64():
    def spectrum(x):
        return jnp.fft.fft2(x, axes=(0, 1), norm="ortho")

    operator = ops.from_linear_function(spectrum, image_shape=SHAPE)
    x, y = (jax.random.normal(jax.random.key(i), SHAPE) for i in range(2))
    found = operator.adjoint(spectrum(y) * (1 + 0.5j))  # the real part of Aᴴ A (1 + i/2) y
    np.testing.assert_allclose(found, y, atol=1e-5)
    with jax.enable_x64(True):
        weights = jnp.asarray(np.full((1, 1, 1), 0.5))
        double = ops.from_linear_function(lambda w, x: w * x, image_shape=SHAPE, params=weights)
        np.testing.assert_allclose(double(x), 0.5 * x)


def _spectrum(x):
    return jnp.fft.fft2(x, axes=(0, 1), norm="ortho") * jnp.complex64(1 + 0.5j)


COMPLEX = ops.from_linear_function(_spectrum, image_shape=SHAPE)


@pytest.mark.parametrize(
    "operator",
    [
        2.0 * COMPLEX,
        COMPLEX + COMPLEX,
        ops.stack(COMPLEX, 0.5 * COMPLEX),
        ops.denoise(image_shape=SHAPE) @ COMPLEX,
        ops.from_linear_function(lambda z: z[::2] - z[1::2], image_shape=SHAPE) @ COMPLEX,
        ops.block_average(image_shape=SHAPE, factor=2) @ COMPLEX,
        2.0 * (COMPLEX @ ops.denoise(image_shape=SHAPE)),
    ],
    ids=["scaled", "sum", "stack", "denoise", "function", "blocks", "inner"],
)
def test_what_is_made_of_complex_operators_goes_back_to_real_images(operator):
    x, u = (
        jax.random.normal(jax.random.key(0), SHAPE),
        jax.random.normal(jax.random.key(1), (2, *operator.measurement_shape)),
    )
    y, u = operator(x), u[0] + 1j * u[1]
    assert y.dtype == jnp.complex64
    for image in (operator.adjoint(u), operator.pinv(y), operator.ridge(0.1, y), operator.solve(0.1, x)):
        assert image.dtype == jnp.float32
    np.testing.assert_allclose(jnp.vdot(operator.adjoint(u), x), jnp.vdot(u, y).real, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(operator(operator.pinv(y)), y, atol=1e-3)
    wanted = operator.adjoint(y)
    back = operator.adjoint(operator(operator.ridge(0.1, y))) + 0.1 * operator.ridge(0.1, y)
    np.testing.assert_allclose(back, wanted, atol=1e-3)


def test_complex_and_real_measurements_do_not_mix():
    for mix in (
        lambda: ops.stack(COMPLEX, ops.denoise(image_shape=SHAPE)),
        lambda: COMPLEX + ops.denoise(image_shape=SHAPE),
    ):
        with pytest.raises(ValueError, match="operators that measure complex numbers and ones that do not"):
            mix()


def test_linear_function_has_its_adjoint_and_inverse():
    operator = ops.from_linear_function(lambda x: x[::2] - 2 * x[1::2], image_shape=SHAPE)
    u = jnp.ones(operator.measurement_shape)
    expected = np.stack([np.ones((4, 8, 3)), -2 * np.ones((4, 8, 3))], axis=1).reshape(SHAPE)
    np.testing.assert_allclose(operator.adjoint(u), expected, atol=1e-6)
    report = operator.pinv_by_cg(u)
    assert report.residual < 1e-5
    np.testing.assert_allclose(report.x, expected / 5, atol=1e-5)
    np.testing.assert_allclose(operator.pinv(u), expected / 5, atol=1e-5)


def test_crop_and_pad_are_each_others_adjoint():
    crop = ops.crop(image_shape=(10, 12, 3), size=8, corner=(1, 2))
    pad = ops.pad(image_shape=(8, 8, 3), width=(1, 2))
    np.testing.assert_array_equal(crop.adjoint(X), pad(X))
    np.testing.assert_array_equal(pad.adjoint(crop.adjoint(X)), X)


def test_operators_hash_and_jit_by_identity():
    operator = ops.grayscale(image_shape=SHAPE)
    assert operator == operator
    assert operator != ops.grayscale(image_shape=SHAPE)
    np.testing.assert_allclose(jax.jit(operator)(X), operator(X), atol=1e-6)
    np.testing.assert_allclose(jax.jit(operator.adjoint)(operator(X)), operator.gram(X), atol=1e-6)


def test_not_linear_is_noticed():
    for function in (jnp.square, lambda x: x + 1, jnp.abs):
        with pytest.raises(ValueError, match="not linear"):
            ops.from_linear_function(function, image_shape=SHAPE)
