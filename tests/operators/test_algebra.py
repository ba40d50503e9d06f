"""Operators made of operators and of functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxdiff import operators as ops
from jaxdiff.operators import LinearOperator
from tests.support.tiers import fast_only

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


def _dense(operator):
    """The matrix of an operator, column by column."""
    size = int(np.prod(operator.image_shape))
    units = np.eye(size, dtype=np.float32).reshape(size, *operator.image_shape)
    return np.stack([np.asarray(operator(jnp.asarray(unit))).ravel() for unit in units], axis=1)


SMALL = (4, 4, 1)
A = ops.from_matrix(np.random.default_rng(1).standard_normal((5, 16)), image_shape=SMALL)
B = ops.from_matrix(np.random.default_rng(2).standard_normal((5, 16)), image_shape=SMALL)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (-A, lambda a, b: -a),
        (A - B, lambda a, b: a - b),
        (A * 3, lambda a, b: 3 * a),
        (3 * A, lambda a, b: 3 * a),
        (np.float32(3) * A, lambda a, b: 3 * a),
        (A * jnp.float32(0.5), lambda a, b: a / 2),
        (A / 4, lambda a, b: a / 4),
        (A.T, lambda a, b: a.T),
        (A.T @ B, lambda a, b: a.T @ b),
        (A @ B.T, lambda a, b: a @ b.T),
        ((A - 2 * B).T / 4, lambda a, b: (a - 2 * b).T / 4),
    ],
    ids=["-A", "A-B", "A*3", "3*A", "numpy*A", "A*jax", "A/4", "A.T", "A.T@B", "A@B.T", "(A-2B).T/4"],
)
def test_the_algebra_equals_that_of_matrices(operator, expected):
    matrix = expected(_dense(A), _dense(B))
    assert isinstance(operator, LinearOperator)
    np.testing.assert_allclose(operator.as_matrix(), matrix, atol=1e-4)
    x, y = (np.random.default_rng(i).standard_normal(n).astype(np.float32) for i, n in enumerate(matrix.shape[::-1]))
    image, measurement = x.reshape(operator.image_shape), y.reshape(operator.measurement_shape)
    np.testing.assert_allclose(jnp.ravel(operator(image)), matrix @ x, atol=1e-4)
    np.testing.assert_allclose(jnp.ravel(operator.adjoint(measurement)), matrix.T @ y, atol=1e-4)
    ridge = np.linalg.solve(matrix.T @ matrix + np.eye(matrix.shape[1]), matrix.T @ y)
    np.testing.assert_allclose(jnp.ravel(operator.ridge(1.0, measurement)), ridge, atol=1e-4)


@pytest.mark.parametrize("operator", [A, ops.grayscale(image_shape=(2, 3, 3)), ops.pad(image_shape=(2, 2, 1), width=1)])
def test_as_matrix_holds_a_column_for_each_pixel(operator):
    np.testing.assert_array_equal(operator.as_matrix(), _dense(operator))


def test_a_transpose_acts_on_measurements_and_goes_back():
    mask = ops.inpaint_box(2, image_shape=SMALL)
    for operator in (A, mask, ops.stack(mask, mask)):
        u = jnp.ones(operator.measurement_shape)
        assert operator.T.T is operator
        assert operator.T.image_shape == operator.measurement_shape
        np.testing.assert_array_equal(operator.T(u), operator.adjoint(u))
    traces = []

    @jax.jit
    def run(transpose, y):
        traces.append(1)
        return transpose(y)

    run(A.T, jnp.ones(5)), run(B.T, jnp.ones(5))
    assert len(traces) == 1


def test_the_matrix_of_complex_measurements_is_complex_and_has_no_transpose_on_images():
    small = ops.from_linear_function(_spectrum, image_shape=SMALL)
    matrix, u = small.as_matrix(), jax.random.normal(jax.random.key(0), SMALL) * (1 - 2j)
    assert matrix.dtype == jnp.complex64
    np.testing.assert_allclose((matrix.conj().T @ u.ravel()).real, small.adjoint(u).ravel(), atol=1e-5)
    with pytest.raises(ValueError, match=r"complex numbers.*call its adjoint"):
        _ = small.T


def test_an_operator_is_added_to_and_multiplied_by_nothing_else():
    for mix in (lambda: A + 1, lambda: A - X, lambda: A @ X, lambda: A * B, lambda: A / B, lambda: 1 / A):
        with pytest.raises(TypeError, match=r"unsupported operand|got .*Matrix"):
            mix()


@struct.dataclass(eq=False)
class Half(LinearOperator):
    """Written as users do, with nothing but what it measures."""

    def apply(self, x):
        return x[::2]


@struct.dataclass(eq=False)
class Unchecked(LinearOperator):
    """Overrides the call itself."""

    def __call__(self, x):
        return x[::2]


def test_an_operator_is_its_apply_with_the_image_checked():
    half, unchecked = Half(image_shape=SMALL), Unchecked(image_shape=SMALL)
    u = jnp.ones((2, 4, 1))
    for operator in (half, unchecked):
        assert operator.measurement_shape == (2, 4, 1)
        np.testing.assert_array_equal(operator.adjoint(u)[::2], u)
        assert not operator.adjoint(u)[1::2].any()
    with pytest.raises(ValueError, match=r"this Half measures one image \(4, 4, 1\)"):
        half(X)
    assert unchecked(X).shape == (4, 8, 3)
    with pytest.raises(NotImplementedError, match=r"define its apply\(x\)"):
        ops.Operator(image_shape=SMALL)(jnp.zeros(SMALL))


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "operator",
    fast_only(
        ["sum", "blocks"],
        [
            2.0 * COMPLEX,
            COMPLEX + COMPLEX,
            ops.stack(COMPLEX, 0.5 * COMPLEX),
            ops.denoise(image_shape=SHAPE) @ COMPLEX,
            ops.from_linear_function(lambda z: z[::2] - z[1::2], image_shape=SHAPE) @ COMPLEX,
            ops.block_average(image_shape=SHAPE, factor=2) @ COMPLEX,
            2.0 * (COMPLEX @ ops.denoise(image_shape=SHAPE)),
        ],
        ["scaled", "sum", "stack", "denoise", "function", "blocks", "inner"],
    ),
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


def _without_every_other_row(shape):
    return ops.from_linear_function(lambda x: x[::2], image_shape=shape)


def _hidden_parts(shape):
    return ops.inpaint_box(image_shape=shape, size=2) + ops.inpaint_box(image_shape=shape, size=2)


def _seen_twice(shape):
    corner = ops.crop((4, 4), image_shape=shape)
    return ops.stack(corner, corner)


def _hidden_and_blurred(shape):
    return ops.inpaint_box(image_shape=shape, size=2) @ ops.gaussian_blur(image_shape=shape, std=0.6)


@pytest.mark.parametrize("make", [_without_every_other_row, _hidden_parts, _hidden_and_blurred, _seen_twice])
def test_the_gradient_of_pinv_is_that_of_the_dense_pseudo_inverse(make):
    operator = make((8, 8, 1))
    generator = np.random.default_rng(3)
    y = jnp.asarray(generator.standard_normal(operator.measurement_shape).astype(np.float32))
    along = generator.standard_normal(operator.image_shape).astype(np.float32)
    gradient = jax.grad(lambda y: jnp.sum(operator.pinv_by_cg(y, maxiter=300, tol=1e-7).x * along))(y)
    dense = np.linalg.pinv(np.asarray(operator.as_matrix(), np.float64), rcond=1e-6)
    expected = dense.T @ along.ravel()
    np.testing.assert_allclose(np.ravel(gradient), expected, atol=2e-3 * np.abs(expected).max())


def test_the_gradient_of_a_complex_pinv_is_that_of_its_real_rows():
    weights = jnp.asarray([1 + 2j, 0.5j, 0.0, 3.0])[:, None, None]
    operator = ops.from_linear_function(lambda x: weights * x, image_shape=(4, 1, 1))
    y = jnp.asarray(np.random.default_rng(0).standard_normal((4, 1, 1)) + 1j, jnp.complex64)
    real, imaginary = jax.grad(lambda u, v: jnp.sum(operator.pinv(jax.lax.complex(u, v))), (0, 1))(y.real, y.imag)
    w = np.asarray(weights).ravel()
    expected = np.divide(w, np.abs(w) ** 2, out=np.zeros_like(w), where=w != 0)
    np.testing.assert_allclose(np.ravel(real) + 1j * np.ravel(imaginary), expected, atol=1e-5)


@pytest.mark.parametrize(
    "make", [ops.grayscale, ops.denoise, lambda image_shape: ops.super_resolution(2, image_shape=image_shape)]
)
def test_whole_numbers_are_refused(make):
    with pytest.raises(ValueError, match=r"floating-point numbers on \[-1, 1\], got uint8"):
        make(image_shape=SHAPE)(np.full(SHAPE, 200, np.uint8))


def test_the_picture_of_complex_numbers_is_their_magnitude():
    turned = ops.from_linear_function(lambda x: 0.5j * x, image_shape=SHAPE)
    np.testing.assert_allclose(turned.view(turned(X)), np.abs(X) / 2, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda shape: ops.motion_blur(jax.random.key(0), image_shape=shape, size=5),
        lambda shape: ops.gaussian_blur(image_shape=shape, std=1.0, padding="circular"),
        lambda shape: ops.mri(np.ones(shape[:2]), image_shape=shape),
        lambda shape: ops.phase_retrieval(image_shape=shape),
        lambda shape: ops.ct(4, image_shape=shape),
    ],
)
@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16])
def test_operators_with_ffts_refuse_half_precision_in_a_sentence(make, kind):
    operator = make((8, 8, 1))
    with pytest.raises(ValueError, match=r"needs float32 or float64, got b?float16; give x.astype"):
        operator(jnp.zeros((8, 8, 1), kind))
    assert ops.denoise(image_shape=(8, 8, 1))(jnp.zeros((8, 8, 1), kind)).dtype == kind
