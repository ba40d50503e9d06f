"""Checks for an operator, a sampler or a prior of your own.

Each check runs on small random input and raises an ``AssertionError`` whose sentence says what is wrong. Call them from your
tests::

    from jaxdiff import testing
    testing.check_operator(my_operator)
    testing.check_sampler(my_factory)
    testing.check_denoiser(my_prior)
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff import operators
from jaxdiff._checks import shown
from jaxdiff.denoisers import DenoiserLike, Prediction, gaussian_prior
from jaxdiff.diffusion import eps_from_x0
from jaxdiff.linalg import dot
from jaxdiff.operators.base import LinearOperator, Operator, SpectralOperator
from jaxdiff.problems import Problem, observe
from jaxdiff.samplers import Calls, Sampler, grid_for, sample
from jaxdiff.schedules import NoiseSchedule, linear
from jaxdiff.typing import Array, Key, Shape, static

__all__ = ["check_denoiser", "check_operator", "check_sampler", "count_calls"]

CLOSE = 1e-3
"""Relative error that float32 arithmetic is given."""
LEAST = {Operator: operators.from_function, LinearOperator: operators.from_linear_function}
"""What a method may need → how an operator is made that is no more than this."""


def _agree(found: Any, wanted: Any, what: str, tolerance: float = CLOSE) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape, f"{what}: the shapes are {found.shape} and {wanted.shape}."
    scale = max(float(np.abs(wanted).max(initial=0.0)), 1e-6)
    error = float(np.abs(found - wanted).max(initial=0.0)) / scale
    assert error <= tolerance, f"{what}: the two sides differ by {error:.2g} of their size."


def _finite(tree: Any, what: str) -> None:
    for leaf in jax.tree.leaves(tree):
        assert bool(jnp.all(jnp.isfinite(leaf))), f"{what} holds NaN or infinite values."


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """What fails inside is told in a sentence, with the error itself as its cause."""
    try:
        yield
    except AssertionError:
        raise
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise AssertionError(
            f"{what} needs the values of an array, but JAX compiles it before they are known; use jnp in place of numpy, and "
            "jnp.where in place of if."
        ) from error
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise AssertionError(f"{what} fails with {type(error).__name__}{': ' if first else ''}{first}") from error


def _check_kind(thing: Any, kind: Any, what: str, example: str) -> None:
    """See that it is an object of the right class, and that JAX can look into it."""
    assert not isinstance(thing, type), (
        f"{thing.__name__} is a class; give an object of it, as in {thing.__name__}{example}."
    )
    name = type(thing).__name__
    assert isinstance(thing, kind), f"{shown(thing)} is no {what}; derive its class from {kind.__name__}."
    leaves = jax.tree.leaves(thing)
    assert not any(leaf is thing for leaf in leaves), (
        f"{name} is no dataclass; write @struct.dataclass (of flax) above the class."
    )
    for field in dataclasses.fields(thing):
        value, static = getattr(thing, field.name), not field.metadata.get("pytree_node", True)
        array = isinstance(value, jax.Array | np.ndarray)
        assert not (static and array), f"{name}.{field.name} is an array and static; leave out pytree_node=False."
        text = isinstance(value, str) and not static
        assert not text, f"{name}.{field.name} is a text; make it static by struct.field(pytree_node=False)."


def check_operator(operator: Operator, key: Key | None = None) -> None:
    """Check an operator: shapes, ``jit``, linearity, adjoint, closed forms and singular values, as far as it has them.

    - any operator: A(x) is finite, has ``measurement_shape``, and is the same under ``jit``. Other image shapes are refused.
    - linear operator: A(x + 2z) = A(x) + 2 A(z), and ⟨A x, y⟩ = ⟨x, Aᵀ y⟩.
    - closed ``pinv``: A A⁺ A x = A x.
    - closed ``solve``: (AᵀA + ρ) solve(ρ, b) = b.
    - spectral operator: V is orthogonal, and ‖A x‖ = ‖S Vᵀ x‖.

    Args:
        operator: A.
        key: for the random images.

    Raises:
        AssertionError: if one of these does not hold.
    """
    _check_kind(operator, Operator, "operator", "(image_shape=(8, 8, 1))")
    name, shape = type(operator).__name__, operator.image_shape
    assert np.shape(shape) == (3,), f"{name}: image_shape must be (height, width, channels), got {shape}."
    keys = jax.random.split(jax.random.key(0) if key is None else key, 3)
    x, z = (jnp.tanh(jax.random.normal(k, shape)) for k in keys[:2])
    with _told(f"{name}: A(x)"):
        _check_apply(name, operator, x)
    if isinstance(operator, LinearOperator):
        with _told(f"{name}: its adjoint, pinv or solve"):
            _check_linear(name, operator, x, z, keys[2])
    if isinstance(operator, SpectralOperator):
        with _told(f"{name}: its singular values or basis"):
            _check_spectral(name, operator, x)


def _check_apply(name: str, operator: Operator, x: Array) -> None:
    y = operator(x)
    assert isinstance(y, jax.Array | np.ndarray), f"{name}: A(x) must be one array, got {type(y).__name__}."
    assert y.real.dtype == x.dtype, f"{name}: A(x) is {y.dtype}; compute in the type of the image, {x.dtype}."
    _finite(y, f"{name}: A(x)")
    assert y.shape == tuple(operator.measurement_shape), f"{name}: A(x) {y.shape} is not measurement_shape."
    _agree(jax.jit(lambda a, x: a(x))(operator, x), y, f"{name}: A(x) under jit and without")
    try:
        operator(jnp.zeros((*x.shape, 1)))
    except ValueError:
        pass
    else:
        raise AssertionError(f"{name} takes an image of another shape; write `apply`, and leave `__call__` as it is.")


def _check_linear(name: str, operator: LinearOperator, x: Array, z: Array, key: Key) -> None:
    y = operator(x)
    _agree(operator(x + 2 * z), y + 2 * operator(z), f"{name}: A(x + 2z) = A(x) + 2 A(z)")
    u = jax.random.normal(key, y.shape).astype(y.dtype)
    size = jnp.linalg.norm(jnp.ravel(y)) * jnp.linalg.norm(jnp.ravel(u))
    back = operator.adjoint(u)
    assert back.shape == x.shape, f"{name}: Aᵀ y has the shape {back.shape}, but an image has {x.shape}."
    gap = jnp.abs(dot(y, u) - dot(x, back)) / size
    assert gap <= CLOSE, f"{name}: ⟨A x, y⟩ and ⟨x, Aᵀ y⟩ differ by {float(gap):.2g}; the adjoint is wrong."
    if operator.closed_pinv:
        _agree(operator(operator.pinv(y)), y, f"{name}: A A⁺ A x = A x")
    if operator.closed_solve:
        solved = operator.solve(0.5, z)
        _agree(operator.gram(solved) + 0.5 * solved, z, f"{name}: (AᵀA + ρ) solve(ρ, b) = b")


def _check_spectral(name: str, operator: SpectralOperator, x: Array) -> None:
    _agree(operator.from_spectral(operator.to_spectral(x)), x, f"{name}: V Vᵀ x = x")
    measured = jnp.linalg.norm(operator.singular_values * operator.to_spectral(x))
    _agree(measured, jnp.linalg.norm(jnp.ravel(operator(x))), f"{name}: ‖S Vᵀ x‖ = ‖A x‖")


def check_denoiser(denoiser: DenoiserLike, key: Key | None = None) -> None:
    """Check a prior: shapes, x̂₀ and ε̂ at several timesteps, ``vmap``, and that one program serves all timesteps.

    Args:
        denoiser: the prior.
        key: for the random image.

    Raises:
        AssertionError: if one of these does not hold.
    """
    name = type(denoiser).__name__
    ready = not isinstance(denoiser, type) and hasattr(denoiser, "schedule") and hasattr(denoiser, "image_shape")
    assert ready, f"{shown(denoiser)} is no prior; make one by jd.denoisers.from_function or jd.denoisers.from_module."
    shape = denoiser.image_shape
    assert np.shape(shape) == (3,), f"{name}: image_shape must be (height, width, channels), got {shape}."
    shape = tuple(shape)
    assert isinstance(denoiser.schedule, NoiseSchedule), f"{name}.schedule is no NoiseSchedule."
    x = jax.random.normal(jax.random.key(0) if key is None else key, shape)
    traces = []

    @jax.jit
    def denoise(x: Array, t: Array) -> Prediction:
        traces.append(1)
        return denoiser(x, t)

    for t in (0, denoiser.schedule.num_steps // 2, denoiser.schedule.num_steps - 1):
        with _told(f"{name}: the prediction"):
            prediction = denoise(x, jnp.asarray(t))
        made = type(prediction).__name__
        assert hasattr(prediction, "x0"), f"{name} must return jd.Prediction(x0, eps, log_variance), got {made}."
        _finite(prediction, f"{name}: the prediction at t = {t}")
        assert prediction.x0.shape == prediction.eps.shape == shape, f"{name}: x̂₀ and ε̂ must be images {shape}."
        if not getattr(denoiser, "clip", False):
            level = denoiser.schedule.at(jnp.asarray(t))
            _agree(level.signal * prediction.x0 + level.noise * prediction.eps, x, f"{name}: √ᾱ x̂₀ + √(1−ᾱ) ε̂ = x_t")
    assert len(traces) == 1, f"{name} is compiled anew for each timestep; take t as an array."
    batch = jax.vmap(lambda x: denoiser(x, jnp.asarray(t)).x0)(jnp.stack([x, -x]))
    _agree(batch[0], denoise(x, jnp.asarray(t)).x0, f"{name}: an image alone and in a batch")


def check_sampler(make: Callable[[], Sampler], problem: Problem | None = None) -> None:
    """Check a method: facts, shapes, one compilation, batches, keys, refusals, and the cost that it states.

    It runs two steps on a Gaussian prior of 8×8 images.

    Args:
        make: makes the sampler, as ``jd.samplers.dps`` does.
        problem: of an 8×8×1 image, for a method that needs a special operator; random inpainting by default.

    Raises:
        AssertionError: if something does not hold.
    """
    assert callable(make), f"give the function that makes the sampler, not {shown(make)}."
    with _told("making the sampler"):
        sampler = make()
    _check_kind(sampler, Sampler, "sampler", "()")
    name, shape, needs = sampler.title, (8, 8, 1), sampler.needs
    known = needs is None or (isinstance(needs, type) and issubclass(needs, Operator))
    assert known, f"{name}: needs must be None or a class such as jd.operators.LinearOperator, got {shown(needs)}."
    assert isinstance(sampler.calls, Calls), (
        f"{name}: calls must be Calls(forward, backward), got {shown(sampler.calls)}."
    )
    prior = gaussian_prior(jnp.zeros(shape), 0.3 * jnp.eye(64), linear(100))
    least = needs if problem is None and needs in LEAST else None
    if problem is None and needs is not None:
        operator = operators.inpaint_random(jax.random.key(1), image_shape=shape, fraction=0.5)
        problem = observe(jax.random.key(2), operator, 0.5 * jnp.ones(shape), 0.1)
    with _told(f"{name}: a step"):
        _check_step(name, sampler, prior, problem)
    if least is not None:
        _check_needs(name, sampler, least, prior)
    with _told(f"{name}: a run"):
        _check_runs(name, sampler, prior, problem)
    with _told(f"counting the network calls of {name}"):
        counted = count_calls(sampler)
    assert counted == sampler.calls, f"{name} states {sampler.calls} of a step, but its program has {counted}."


def _check_needs(name: str, sampler: Sampler, least: type[Operator], prior: DenoiserLike) -> None:
    """See that it can use an operator that is no more than ``needs`` says, or refuses this one by ``check``."""
    operator = LEAST[least](lambda x: x[:4] / 2, image_shape=prior.image_shape)
    problem = Problem.of(operator, jnp.zeros(operator.measurement_shape), 0.1)
    with contextlib.suppress(ValueError):
        sampler.check(problem)
        with _told(f"{name} says that it needs no more than {least.__name__}, but a step with such an operator"):
            _check_step(name, sampler, prior, problem)


def _check_step(name: str, sampler: Sampler, prior: DenoiserLike, problem: Problem | None) -> None:
    """What begin and advance return, without computing it."""
    key, grid = jax.random.key(0), grid_for(prior, sampler, 2)
    t, s = jnp.asarray(grid.t[0]), jnp.asarray(grid.s[0])
    state = jax.eval_shape(lambda: sampler.init(key, problem, prior, t))
    assert hasattr(state, "x"), f"{name}: begin must return a state with a field x, got {type(state).__name__}."
    made = jax.eval_shape(lambda state: sampler.step(key, state, t, s, problem, prior), state)
    pair = isinstance(made, tuple) and len(made) == 2 and not hasattr(made, "_fields")
    assert pair, f"{name}: advance must return two things, the new state and an Info, got {type(made).__name__}."
    before, after = (str(jax.tree.map(lambda leaf: f"{leaf.dtype}{leaf.shape}", tree)) for tree in (state, made[0]))
    assert before == after, f"{name}: advance must return a state like the one it is given, {before}, got {after}."
    fields = getattr(made[1], "_fields", ())
    assert "residual" in fields, f"{name}: what a step reports must have a field `residual`, as Info has."


def _check_runs(name: str, sampler: Sampler, prior: DenoiserLike, problem: Problem | None) -> None:
    """Runs of two steps: finite, compiled once, the same in a batch, and refused without a measurement."""
    traces = []

    @jax.jit
    def run(key: Key, problem: Problem | None, sampler: Sampler) -> Any:
        traces.append(1)
        return sample(key, prior, problem, sampler, steps=2)

    key = jax.random.key(0)
    image, info = run(key, problem, sampler)
    _finite((image, info), f"{name}: the run")
    shape = tuple(prior.image_shape)
    assert image.shape == shape, f"{name}: the image has shape {image.shape}, and {shape} was measured."
    run(key, problem, jax.tree.map(lambda leaf: 0.9 * leaf, sampler))
    assert len(traces) == 1, f"{name} is compiled anew for other hyper-parameters; make them arrays, not numbers."
    pair = jax.vmap(lambda key: sample(key, prior, problem, sampler, steps=2)[0])(jnp.stack([key, jax.random.key(1)]))
    _agree(pair[0], image, f"{name}: an image alone and in a batch")
    if sampler.needs is not None:
        try:
            sample(key, prior, None, sampler, steps=2)
        except ValueError:
            pass
        else:
            raise AssertionError(f"{name} runs without a measurement; say needs = None if it draws from the prior.")


def count_calls(sampler: Sampler) -> Calls:
    """Passes through the network of one step, counted in the program itself: loops by their length, particles one by one.

    ``lax.cond`` branches count at their minimum, and at their maximum in the last step of a run.
    """
    shape = (2, 2, 1)
    problem = None
    if sampler.needs is not None:
        problem = Problem(operators.denoise(image_shape=shape), jnp.zeros(shape), jnp.asarray(0.1, jnp.float32))
    marked = _Marked(linear(100), image_shape=shape)

    def step(sampler: Sampler, t: Array, s: Array) -> Any:
        state = sampler.init(jax.random.key(0), problem, marked, t)
        return sampler.step(jax.random.key(1), state, t, s, problem, marked)

    moment = jax.ShapeDtypeStruct((), jnp.float32)
    program = jax.make_jaxpr(step)(sampler, moment, moment).jaxpr
    forward, backward = (_occurrences(program, mark, min) for mark in ("digamma", "lgamma"))
    return Calls(forward, backward, _occurrences(program, "digamma", max) - forward)


@jax.custom_vjp
def _mark(x: Array) -> Array:
    """``x`` itself. It leaves one digamma in the program on the way forward, and one lgamma on the way back."""
    return x + jax.lax.digamma(jnp.reshape(x, -1)[:1]).reshape((1,) * x.ndim)


def _mark_forward(x: Array) -> tuple[Array, None]:
    return _mark(x), None


def _mark_backward(_: None, cotangent: Array) -> tuple[Array]:
    return (cotangent + jax.lax.lgamma(jnp.reshape(cotangent, -1)[:1]).reshape((1,) * cotangent.ndim),)


_mark.defvjp(_mark_forward, _mark_backward)


@struct.dataclass
class _Marked:
    """A denoiser whose passes can be found in a program."""

    schedule: NoiseSchedule
    image_shape: Shape = static(default=())

    def __call__(self, x_t: Array, t: Array, s: Array | None = None) -> Prediction:
        x0 = _mark(x_t)
        return Prediction(x0, eps_from_x0(x_t, x0, self.schedule.at(t)), None)


def _occurrences(program: Any, name: str, of_branches: Callable[[list[int]], int]) -> int:
    """How often a primitive on one number runs: a batch of N counts N times, a loop's body as often as it is gone through.

    ``of_branches`` says which branch of a condition counts.
    """
    total = 0
    for equation in program.eqns:
        kind, params = equation.primitive.name, equation.params
        if kind == name:
            total += int(equation.outvars[0].aval.size)
            continue
        bodies = [params["call_jaxpr"]] if kind == "custom_vjp_call" else _programs(tuple(params.values()))
        counts = [_occurrences(getattr(body, "jaxpr", body), name, of_branches) for body in bodies]
        inside = of_branches(counts) if kind == "cond" else sum(counts)
        total += inside * (params.get("length", 1) if kind == "scan" else 1)
    return total


def _programs(value: Any) -> list[Any]:
    if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        return [value]
    return [program for item in value for program in _programs(item)] if isinstance(value, tuple | list) else []
