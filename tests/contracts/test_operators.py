"""One table over every operator: what each promises, on tiny images, non-square and of one and three channels."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops
from jaxdiff.operators import LinearOperator, SpectralOperator

KEY = jax.random.key(7)
RNG = np.random.default_rng(7)
TILTED = ops.gaussian_kernel(5, (1.0, 2.0), angle=30)

CASES = {
    "denoise": lambda: ops.denoise(image_shape=(6, 8, 3)),
    "inpaint_box": lambda: ops.inpaint_box(image_shape=(6, 8, 3), size=(3, 4)),
    "inpaint_box_random": lambda: ops.inpaint_box(image_shape=(8, 8, 1), size=3, key=KEY, margin=1),
    "inpaint_random": lambda: ops.inpaint_random(KEY, image_shape=(6, 8, 3), fraction=0.7),
    "inpaint_random_range": lambda: ops.inpaint_random(KEY, image_shape=(6, 8, 3), min_fraction=0.3, max_fraction=0.7),
    "inpaint_mask_soft": lambda: ops.inpaint_mask(image_shape=(6, 8, 3), mask=RNG.uniform(0.2, 1, (6, 8, 3))),
    "gaussian_blur": lambda: ops.gaussian_blur(image_shape=(8, 10, 3), std=0.8),
    "gaussian_blur_zero": lambda: ops.gaussian_blur(image_shape=(8, 10, 1), std=(0.6, 0.9), padding="zero"),
    "gaussian_blur_circular": lambda: ops.gaussian_blur(image_shape=(8, 10, 3), std=0.7, padding="circular"),
    "gaussian_blur_tilted": lambda: ops.blur(image_shape=(8, 10, 3), kernel=TILTED),
    "motion_blur": lambda: ops.motion_blur(KEY, image_shape=(8, 10, 3), size=5),
    "motion_blur_zero": lambda: ops.motion_blur(KEY, image_shape=(8, 10, 1), size=5, padding="zero"),
    "motion_blur_circular": lambda: ops.motion_blur(KEY, image_shape=(8, 9, 3), size=13, padding="circular"),
    "defocus_blur": lambda: ops.defocus_blur(image_shape=(8, 10, 3), radius=1.7),
}

NAMES = list(CASES)


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
    return jax.tree.map(
        lambda a: jnp.flip(a) if a.ndim else (a * 1.01).astype(a.dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a,
        operator,
    )


def _pull_back(operator, x, u):
    """Aᵀ u, or Jᵀ u at x."""
    if isinstance(operator, LinearOperator):
        return operator.adjoint(u)
    return jax.vjp(operator, x)[1](u)[0]


RHO = 0.3
LINEAR = [name for name in NAMES if isinstance(_build(name), LinearOperator)]
NONLINEAR = [name for name in NAMES if name not in LINEAR]
SPECTRAL = [name for name in LINEAR if isinstance(_build(name), SpectralOperator)]


def _everything(operator, x, u):
    """All that an operator can do, as one program: compiling is what costs."""
    out = {"y": operator(x), "back": _pull_back(operator, x, u), "initial": operator.initial(u)}
    if not isinstance(operator, LinearOperator):
        return out
    out["solve"] = operator.solve(jnp.float32(RHO), x)
    out["pinv"] = operator.pinv(u)
    out["transpose"] = jax.linear_transpose(operator, x)(u)[0]
    if not operator.closed_solve:
        out["report"] = operator.solve_by_cg(RHO, x)
    if isinstance(operator, SpectralOperator):
        z = operator.to_spectral(x)
        out["spectral"] = (z, operator.singular_values, operator.from_spectral(z), operator.measurement_to_spectral(u))
        out["measured"] = operator.measurement_to_spectral(operator(x))
    basis = jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
    return out | {"matrix": jax.vmap(lambda e: jnp.ravel(operator(e)))(basis)}


@cache
def _run(name):
    """What an operator gives alone, under jit, and beside another of its kind, under jit and vmap."""
    first = _build(name)
    second, x, u, traces = _other(first), _image(first), _measurement(first), []

    @jax.jit
    def single(operator, x, u):
        traces.append(1)
        return _everything(operator, x, u)

    alone = [single(first, x, u), single(second, 0.5 * x, -u)]
    pair = jax.tree.map(lambda *a: jnp.stack(a), first, second)
    both = jax.jit(jax.vmap(lambda o, x, u: (o(x), _pull_back(o, x, u))))(
        pair, jnp.stack([x, 0.5 * x]), jnp.stack([u, -u])
    )
    out = jax.tree.map(np.asarray, alone[0])
    matrix = np.asarray(out["matrix"], np.float64).T if "matrix" in out else None
    return SimpleNamespace(x=x, u=u, out=out, alone=alone, both=both, traces=len(traces), matrix=matrix)


@pytest.mark.parametrize("name", LINEAR)
def test_adjoint_is_the_transpose(name):
    operator, run = _build(name), _run(name)
    y, back = run.out["y"], run.out["back"]
    assert back.shape == operator.image_shape
    assert y.shape == operator.measurement_shape
    scale = np.linalg.norm(_flat(y)) * np.linalg.norm(_flat(run.u))
    assert abs(_flat(y) @ _flat(run.u) - _flat(run.x) @ _flat(back)) <= 1e-5 * scale
    _close(back, run.out["transpose"], 1e-5)
    _close(back, run.matrix.T @ _flat(run.u), 1e-5)


@pytest.mark.parametrize("name", LINEAR)
def test_pinv_and_solve_equal_dense_algebra(name):
    operator, run = _build(name), _run(name)
    system = run.matrix.T @ run.matrix + RHO * np.eye(run.matrix.shape[1])
    expected = np.linalg.solve(system, _flat(run.x))
    _close(run.out["solve"], expected, 2e-5 if operator.closed_solve else 1e-4)
    if not operator.closed_solve:
        assert run.out["report"].residual < 1e-5
    if operator.closed_pinv:
        rcond = float(getattr(operator, "rcond", 1e-6))
        dense = np.linalg.pinv(run.matrix, rcond=rcond) @ _flat(run.u)
        _close(run.out["pinv"], dense, 1e-3 if rcond > 1e-6 else 2e-5)


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

        @jax.jit
        def value(x, u):
            y, pull_back = jax.vjp(operator, x)
            return y, pull_back(u)[0]

        slope = np.vdot((value(x + step * direction, u)[0] - value(x - step * direction, u)[0]) / (2 * step), u)
        np.testing.assert_allclose(np.vdot(value(x, u)[1], direction), slope, rtol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_jit_vmap_over_leaves_and_no_retrace(name):
    operator, run = _build(name), _run(name)
    assert run.traces == 1, "new leaves must not compile anew"
    for i, alone in enumerate(run.alone):
        _close(run.both[0][i], alone["y"], 1e-5)
        _close(run.both[1][i], alone["back"], 1e-5)
    _close(operator(run.x), run.out["y"], 1e-5)  # jit = no jit


@pytest.mark.parametrize("name", NAMES)
def test_computes_in_the_dtype_of_the_image(name):
    operator = _build(name)
    with jax.enable_x64(True):
        for dtype in (np.float32, np.float64):
            x = jax.ShapeDtypeStruct(operator.image_shape, dtype)
            y = jax.eval_shape(operator, x)
            assert y.dtype == dtype
            outputs = [
                jax.eval_shape(lambda x, u: _pull_back(operator, x, u), x, y),
                jax.eval_shape(operator.initial, y),
            ]
            if isinstance(operator, LinearOperator):
                outputs += [jax.eval_shape(operator.pinv, y), jax.eval_shape(operator.solve, 0.1, x)]
            assert {out.dtype for out in outputs} == {np.dtype(dtype)}


@pytest.mark.parametrize("name", NAMES)
def test_lowers_for_cpu_cuda_and_tpu(name):
    operator = _build(name)

    def run(operator, x, u):
        out = (operator(x), _pull_back(operator, x, u))
        return (*out, operator.solve(0.1, x), operator.pinv(u)) if isinstance(operator, LinearOperator) else out

    platforms = ("cpu", "cuda", "tpu")
    exported = jax.export.export(jax.jit(run), platforms=platforms)(operator, _image(operator), _measurement(operator))
    assert exported.platforms == platforms


@pytest.mark.parametrize("name", NAMES)
def test_every_measurement_has_a_picture(name):
    operator, run = _build(name), _run(name)
    picture = np.asarray(jax.jit(operator.view)(run.out["y"]))
    assert picture.ndim == 3
    assert picture.shape[-1] in (1, 3)
    assert np.isfinite(picture).all()
    assert np.abs(picture).max() <= 1 + 1e-6
    assert run.out["initial"].shape == operator.image_shape
    assert operator.keep_observed(run.u).shape == run.u.shape
