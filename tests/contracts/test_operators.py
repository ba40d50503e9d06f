"""One table over every operator: what each promises, on tiny images, non-square and of one and three channels."""

from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops
from jaxdiff.operators import LinearOperator, SpectralOperator
from tests.support.tiers import fast_only

KEY = jax.random.key(7)
TILTED = ops.gaussian_kernel(5, (1.0, 2.0), angle=30)


def _random(*shape):
    """Weights in [0.2, 1], the same whatever was built before."""
    return np.random.default_rng(7).uniform(0.2, 1, shape)


def _normal(*shape):
    return np.random.default_rng(7).standard_normal(shape)


# Each table states what its operators are, so that collecting the tests builds none of them.
SPECTRAL = {
    "denoise": lambda: ops.denoise(image_shape=(6, 8, 3)),
    "inpaint_box": lambda: ops.inpaint_box(image_shape=(6, 8, 3), size=(3, 4)),
    "inpaint_box_random": lambda: ops.inpaint_box(image_shape=(8, 8, 1), size=3, key=KEY, margin=1),
    "inpaint_random": lambda: ops.inpaint_random(KEY, image_shape=(6, 8, 3), fraction=0.7),
    "inpaint_random_range": lambda: ops.inpaint_random(KEY, image_shape=(6, 8, 3), min_fraction=0.3, max_fraction=0.7),
    "inpaint_mask_soft": lambda: ops.inpaint_mask(image_shape=(6, 8, 3), mask=_random(6, 8, 3)),
    "gaussian_blur": lambda: ops.gaussian_blur(image_shape=(8, 10, 3), std=0.8),
    "gaussian_blur_zero": lambda: ops.gaussian_blur(image_shape=(8, 10, 1), std=(0.6, 0.9), padding="zero"),
    "gaussian_blur_circular": lambda: ops.gaussian_blur(image_shape=(8, 10, 3), std=0.7, padding="circular"),
    "motion_blur_circular": lambda: ops.motion_blur(KEY, image_shape=(8, 9, 3), size=13, padding="circular"),
    "outpaint": lambda: ops.outpaint(image_shape=(6, 8, 3), side="left"),
    "outpaint_border": lambda: ops.outpaint(image_shape=(6, 8, 1), side="border"),
    "inpaint_strokes": lambda: ops.inpaint_strokes(KEY, image_shape=(10, 8, 3)),
    "inpaint_text": lambda: ops.inpaint_text(image_shape=(10, 12, 3)),
    "block_average": lambda: ops.block_average(image_shape=(4, 8, 3), factor=2),
    "super_resolution": lambda: ops.super_resolution(image_shape=(8, 12, 3), factor=4),
    "resize_up": lambda: ops.resize(image_shape=(4, 5, 1), size=(7, 9), method="lanczos3"),
    "nearest_downsample": lambda: ops.nearest_downsample(image_shape=(6, 9, 3), factor=3, offset=1),
    "grayscale": lambda: ops.grayscale(image_shape=(4, 5, 3)),
    "color_matrix": lambda: ops.color_matrix(image_shape=(4, 5, 2), matrix=_normal(4, 2)),
    "bayer_mosaic": lambda: ops.bayer_mosaic(image_shape=(5, 6, 3), pattern="grbg"),
    "mri_cartesian": lambda: ops.mri(image_shape=(6, 8, 3), mask=ops.cartesian_mask(KEY, shape=(6, 8), acceleration=2)),
    "mri_radial_complex": lambda: ops.mri(
        image_shape=(7, 8, 2), mask=ops.radial_mask(shape=(7, 8), spokes=3), complex_image=True
    ),
    "compressed_sensing": lambda: ops.compressed_sensing(KEY, image_shape=(4, 32, 3), ratio=0.3),
    "single_pixel_camera": lambda: ops.single_pixel_camera(image_shape=(8, 16, 1), samples=20),
    "gaussian_sensing": lambda: ops.gaussian_sensing(KEY, image_shape=(5, 6, 2), ratio=0.4),
    "from_matrix": lambda: ops.from_matrix(_normal(9, 24), image_shape=(2, 4, 3)),
    "separable": lambda: ops.separable(image_shape=(4, 5, 3), rows=_normal(6, 4), columns=_normal(3, 5)),
    "crop": lambda: ops.crop(image_shape=(6, 8, 3), size=(3, 4)),
    "pad": lambda: ops.pad(image_shape=(4, 5, 3), width=(1, 2)),
}
CLOSED = {
    "blur_downsample": lambda: ops.blur_downsample(image_shape=(8, 12, 3), kernel=TILTED, factor=2),
    "scale": lambda: -2.0 * ops.bayer_mosaic(image_shape=(4, 6, 3)),
}
ITERATIVE = {
    "gaussian_blur_tilted": lambda: ops.blur(image_shape=(8, 10, 3), kernel=TILTED),
    "motion_blur": lambda: ops.motion_blur(KEY, image_shape=(8, 10, 3), size=5),
    "motion_blur_zero": lambda: ops.motion_blur(KEY, image_shape=(8, 10, 1), size=5, padding="zero"),
    "defocus_blur": lambda: ops.defocus_blur(image_shape=(8, 10, 3), radius=1.7),
    "varying_blur": lambda: ops.varying_blur(image_shape=(8, 10, 3), kernels=_random(2, 3, 5)),
    "varying_blur_circular": lambda: ops.varying_blur(
        image_shape=(6, 8, 1),
        kernels=_random(4, 3, 3),
        weights=ops.blend_weights((6, 8), (2, 2)),
        padding="circular",
    ),
    "blur_downsample_reflect": lambda: ops.blur_downsample(
        image_shape=(8, 12, 1), kernel=TILTED, factor=4, offset=2, padding="reflect"
    ),
    "mri_multicoil": lambda: ops.multicoil_mri(
        image_shape=(6, 8, 1),
        mask=ops.equispaced_mask(shape=(6, 8), acceleration=2),
        sensitivities=ops.coil_sensitivities(shape=(6, 8), coils=3),
    ),
    "mri_multicoil_complex": lambda: ops.multicoil_mri(
        image_shape=(8, 8, 2),
        mask=ops.spiral_mask(shape=(8, 8), turns=2),
        sensitivities=ops.coil_sensitivities(shape=(8, 8), coils=2),
        complex_image=True,
    ),
    "ct": lambda: ops.ct(image_shape=(8, 6, 3), angles=5, normalize=True),
    "ct_circle": lambda: ops.ct(
        image_shape=(8, 8, 1), angles=np.array([3.0, 40.0, 90.0, 120.0]), circle=True, normalize=True
    ),
    "compose": lambda: ops.super_resolution(image_shape=(8, 8, 3), factor=2) @ ops.outpaint(image_shape=(8, 8, 3)),
    "sum": lambda: ops.denoise(image_shape=(6, 8, 1)) + ops.gaussian_blur(image_shape=(6, 8, 1), std=0.5),
    "stack": lambda: ops.stack(
        ops.grayscale(image_shape=(4, 6, 3)), ops.block_average(image_shape=(4, 6, 3), factor=2)
    ),
    "from_linear_function": lambda: ops.from_linear_function(
        lambda w, x: jnp.cumsum(x, axis=0) * w.astype(x.dtype),
        image_shape=(4, 5, 3),
        params=jnp.full((1, 1, 1), 0.5, jnp.float32),
    ),
}
NONLINEAR = {
    "phase_retrieval": lambda: ops.phase_retrieval(image_shape=(8, 12, 3)),
    "phase_retrieval_unit": lambda: ops.phase_retrieval(image_shape=(8, 8, 1), padding=2, value_range=(0, 1)),
    "coded_phase_retrieval": lambda: ops.coded_phase_retrieval(KEY, image_shape=(6, 8, 1), masks=3),
    "high_dynamic_range": lambda: ops.high_dynamic_range(image_shape=(6, 8, 3)),
    "quantize": lambda: ops.quantize(image_shape=(6, 8, 3), levels=4),
    "jpeg": lambda: ops.jpeg(image_shape=(10, 17, 3), quality=30),
    "jpeg_grey": lambda: ops.jpeg(image_shape=(8, 9, 1), quality=70),
    "gamma_curve": lambda: ops.gamma_curve(image_shape=(6, 8, 3)),
    "tone_curve": lambda: ops.tone_curve(image_shape=(6, 8, 3), values=[-1, -0.6, 0.3, 1]),
    "camera_blur": lambda: ops.camera_blur(KEY, image_shape=(8, 10, 3), size=5),
    "from_function": lambda: ops.from_function(lambda x: jnp.tanh(2 * x[::2]), image_shape=(6, 4, 3)),
    "compose_nonlinear": lambda: (
        ops.high_dynamic_range(image_shape=(4, 4, 3)) @ ops.block_average(image_shape=(8, 8, 3), factor=2)
    ),
    "stack_nonlinear": lambda: ops.stack(ops.denoise(image_shape=(4, 6, 1)), ops.gamma_curve(image_shape=(4, 6, 1))),
    "sum_nonlinear": lambda: ops.denoise(image_shape=(4, 6, 1)) + ops.gamma_curve(image_shape=(4, 6, 1)),
    "scale_nonlinear": lambda: 0.5 * ops.gamma_curve(image_shape=(4, 6, 1), gamma=0.6),
}

CASES = SPECTRAL | CLOSED | ITERATIVE | NONLINEAR
LINEAR = SPECTRAL | CLOSED | ITERATIVE
ONE_OF_A_KIND = {
    "inpaint_mask_soft",
    "gaussian_blur",
    "grayscale",
    "mri_cartesian",
    "compressed_sensing",
    "defocus_blur",
    "super_resolution",
    "compose",
    "from_matrix",
    "phase_retrieval",
    "jpeg_grey",
    "quantize",
}
"""What the fast tier asks where all operators of a class share the code."""
FORMS = ("_circular", "_reflect", "_zero", "_circle", "_random", "_complex")
"""Endings of other forms of an operator that has a row of its own."""


@cache
def _build(name):
    return CASES[name]()


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def _image(operator, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).uniform(-0.9, 0.9, operator.image_shape).astype(dtype))


def _measurement(operator, seed=1, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(operator.measurement_shape).astype(dtype))


def _flat(x):
    return np.asarray(x, np.float64).ravel()


def _close(a, b, tolerance):
    a, b = _flat(a), _flat(b)
    assert np.linalg.norm(a - b) <= tolerance * max(np.linalg.norm(b), 1e-12), np.linalg.norm(a - b)


def _other(operator):
    """The same kind of operator with other leaves: masks and kernels flipped, numbers a little larger."""

    def change(leaf):
        a = np.asarray(leaf)  # numpy, because each operation of JAX by itself would be compiled
        return np.flip(a) if a.ndim else (a * 1.01).astype(a.dtype) if np.issubdtype(a.dtype, np.floating) else a

    return jax.tree.map(change, operator)


def _pull_back(operator, x, u):
    """Aᵀ u, or Jᵀ u at x."""
    if isinstance(operator, LinearOperator):
        return operator.adjoint(u)
    return jax.vjp(operator, x)[1](u)[0]


RHO, TINY = 0.3, 1e-7


def _everything(operator, x, u):
    """All that an operator can do, as one program: compiling is what costs."""
    out = {"y": operator(x), "back": _pull_back(operator, x, u), "observed": operator.keep_observed(u)}
    out["picture"] = operator.view(out["y"])
    if not isinstance(operator, LinearOperator):
        return out
    if operator.closed_solve:
        out["solve"], out["pinv"] = operator.solve(jnp.float32(RHO), x), operator.pinv(u)
        out["ridge"] = operator.ridge(jnp.float32(TINY), u)
    else:
        out["solve"], out["residual"] = operator.solve_by_cg(RHO, x)
    if isinstance(operator, SpectralOperator):
        z = operator.to_spectral(x)
        out["spectral"] = (z, operator.singular_values, operator.from_spectral(z), operator.measurement_to_spectral(u))
        out["measured"] = operator.measurement_to_spectral(out["y"])
    return out


# Without jit every step compiles by itself, which is slow, and the same code runs: a few stand for all.
WITHOUT_JIT = ("inpaint_box", "gaussian_blur", "super_resolution", "mri_cartesian", "compressed_sensing", "quantize")
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@cache
def _run(name):
    """What an operator gives alone, under jit, and beside another of its kind, under jit and vmap."""
    first = _build(name)
    second, x, u, traces = _other(first), _image(first), _measurement(first), []
    basis = np.eye(x.size, dtype=np.float32).reshape(x.size, *x.shape)
    xs, us = np.stack([x, 0.5 * np.asarray(x)]), np.stack([u, -np.asarray(u)])

    def single(operator, x, u):
        traces.append(1)
        matrix = isinstance(operator, LinearOperator) and jax.vmap(lambda e: jnp.ravel(operator(e)))(basis)
        return operator(x), _pull_back(operator, x, u), matrix

    single = jax.jit(single, compiler_options=QUICK)
    alone = [single(first, xs[0], us[0]), single(second, xs[1], us[1])]
    pair = jax.tree.map(lambda *a: np.stack(a), first, second)
    both = jax.jit(jax.vmap(_everything), compiler_options=QUICK)(pair, xs, us)
    both = jax.tree.map(np.asarray, both)
    out = jax.tree.map(lambda a: a[0], both)
    matrix = np.asarray(alone[0][2], np.float64).T
    return SimpleNamespace(x=x, u=u, out=out, alone=alone, both=both, traces=len(traces), matrix=matrix)


@pytest.mark.parametrize("name", CASES)
def test_is_what_its_table_says(name):
    operator = _build(name)
    assert isinstance(operator, LinearOperator) == (name in LINEAR)
    assert isinstance(operator, SpectralOperator) == (name in SPECTRAL)
    if name in LINEAR:
        assert operator.closed_solve == operator.closed_pinv == (name not in ITERATIVE)


@pytest.mark.parametrize("name", fast_only([name for name in LINEAR if not name.endswith(FORMS)], LINEAR))
def test_adjoint_is_the_transpose(name):
    operator, run = _build(name), _run(name)
    y, back = run.out["y"], run.out["back"]
    assert back.shape == operator.image_shape
    assert y.shape == operator.measurement_shape
    scale = np.linalg.norm(_flat(y)) * np.linalg.norm(_flat(run.u))
    assert abs(_flat(y) @ _flat(run.u) - _flat(run.x) @ _flat(back)) <= 1e-5 * scale
    _close(back, run.matrix.T @ _flat(run.u), 1e-5)


@pytest.mark.parametrize("name", fast_only(set(LINEAR) & ONE_OF_A_KIND | set(CLOSED), LINEAR))
def test_pinv_and_solve_equal_dense_algebra(name):
    operator, run = _build(name), _run(name)
    system = run.matrix.T @ run.matrix + RHO * np.eye(run.matrix.shape[1])
    expected = np.linalg.solve(system, _flat(run.x))
    _close(run.out["solve"], expected, 2e-5 if operator.closed_solve else 1e-4)
    if not operator.closed_solve:
        assert run.out["residual"] < 1e-5
    if operator.closed_pinv:
        rcond = float(getattr(operator, "rcond", 1e-6))
        dense = np.linalg.pinv(run.matrix, rcond=rcond) @ _flat(run.u)
        _close(run.out["pinv"], dense, 1e-3 if rcond > 1e-6 else 2e-5)


@pytest.mark.parametrize("name", fast_only(ONE_OF_A_KIND & set(SPECTRAL), SPECTRAL | CLOSED))
def test_ridge_divides_no_rounding_by_a_tiny_rho(name):
    run = _run(name)
    u, s, vt = np.linalg.svd(run.matrix, full_matrices=False)
    gain = np.where(s > 1e-6 * s[0], s / (s**2 + TINY), 0)  # what is left of a zero in float32 is not a singular value
    _close(run.out["ridge"], vt.T @ (gain * (u.T @ _flat(run.u))), 1e-5)


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_form_is_a_singular_value_decomposition(name):
    run = _run(name)
    z, s, back, measured = run.out["spectral"]
    assert s.shape == z.shape == measured.shape
    assert s.min() >= 0
    _close(np.linalg.norm(_flat(z)), np.linalg.norm(_flat(run.x)), 1e-5)  # V is orthogonal
    _close(back, run.x, 1e-5)
    _close(run.out["measured"], s * z, 1e-4)  # Uᵀ A x = S Vᵀ x
    assert np.linalg.norm(_flat(measured)) <= np.linalg.norm(_flat(run.u)) * (1 + 1e-4)
    assert not np.any(measured[s == 0])
    expected = np.linalg.svd(run.matrix, compute_uv=False)
    expected = np.pad(expected, (0, s.size - expected.size))
    found = np.sort(_flat(s))[::-1]
    kept = int((found > 0).sum())
    np.testing.assert_allclose(found[:kept], expected[:kept], rtol=1e-3, atol=1e-5)
    assert np.all(expected[kept:] <= 1.01e-3 * expected[0])


@pytest.mark.parametrize("name", NONLINEAR)
def test_gradient_equals_finite_differences(name):
    operator = _build(name)
    if getattr(operator, "straight_through", False):
        pytest.skip("its gradient is defined, not derived")
    with jax.enable_x64(True):
        x, u, step = _image(operator, dtype=np.float64), _measurement(operator, dtype=np.float64), 1e-6
        direction = _image(operator, seed=3, dtype=np.float64)

        @partial(jax.jit, compiler_options=QUICK)
        def value(x, u):
            y, pull_back = jax.vjp(operator, x)
            return y, pull_back(u)[0]

        slope = np.vdot((value(x + step * direction, u)[0] - value(x - step * direction, u)[0]) / (2 * step), u)
        np.testing.assert_allclose(np.vdot(value(x, u)[1], direction), slope, rtol=2e-5)


@pytest.mark.parametrize("name", fast_only(ONE_OF_A_KIND, CASES))
def test_jit_vmap_over_leaves_and_no_retrace(name):
    operator, run = _build(name), _run(name)
    assert run.traces == 1, "new leaves must not compile anew"
    for i, (y, back, _) in enumerate(run.alone):
        _close(run.both["y"][i], y, 1e-5)
        _close(run.both["back"][i], back, 1e-5)
    if name in WITHOUT_JIT:
        _close(operator(run.x), run.out["y"], 1e-5)


@pytest.mark.parametrize("name", fast_only(ONE_OF_A_KIND, CASES))
def test_computes_in_the_dtype_of_the_image(name):
    operator = _build(name)
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct(operator.image_shape, np.float64)
        y = jax.eval_shape(operator, x)
        outputs = [
            y,
            jax.eval_shape(lambda x, u: _pull_back(operator, x, u), x, y),
            jax.eval_shape(operator.initial, y),
        ]
        assert [out.shape for out in outputs] == [
            operator.measurement_shape,
            operator.image_shape,
            operator.image_shape,
        ]
        if isinstance(operator, LinearOperator):
            outputs += [jax.eval_shape(operator.pinv, y), jax.eval_shape(operator.ridge, 0.1, y)]
            outputs.append(jax.eval_shape(operator.solve, 0.1, x))
        assert {out.dtype for out in outputs} == {np.dtype(np.float64)}
    assert {run.dtype for run in jax.tree.leaves(_run(name).out)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", fast_only(ONE_OF_A_KIND, CASES))
def test_lowers_for_cpu_cuda_and_tpu(name):
    operator = _build(name)

    def run(operator, x, u):
        out = (operator(x), _pull_back(operator, x, u))
        return (*out, operator.solve(0.1, x), operator.ridge(0.1, u)) if isinstance(operator, LinearOperator) else out

    platforms = ("cpu", "cuda", "tpu")
    exported = jax.export.export(jax.jit(run), platforms=platforms)(operator, _image(operator), _measurement(operator))
    assert exported.platforms == platforms


@pytest.mark.parametrize("name", fast_only(ONE_OF_A_KIND, CASES))
def test_every_measurement_has_a_picture(name):
    run = _run(name)
    picture = run.out["picture"]
    assert picture.ndim == 3
    assert picture.shape[-1] in (1, 3)
    assert np.isfinite(picture).all()
    assert np.abs(picture).max() <= 1 + 1e-6
    observed = run.out["observed"]
    assert observed.shape == run.u.shape
    assert np.all((observed == run.u) | (observed == 0))
