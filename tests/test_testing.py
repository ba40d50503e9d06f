"""The public checks pass on what is right, and say what is wrong with what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxdiff import operators, schedules, testing
from jaxdiff.operators import LinearOperator
from jaxdiff.samplers import METHODS, UNCONDITIONAL, Calls, Info, Sampler, State, residual_norm
from tests.support.networks import tiny_denoiser
from tests.support.operators import Cubic, Dense
from tests.support.tiers import fast_only

SHAPE = (8, 8, 1)
RIGHT = [*METHODS, *UNCONDITIONAL]
OPTIONS = {"sdedit": {"start": 80}, "sitcom": {"iterations": 3}, "tds": {"particles": 3}, "fps": {"particles": 3}}


@pytest.mark.parametrize("name", fast_only(["heun"], RIGHT))
def test_our_methods_pass(name):
    method = (METHODS | UNCONDITIONAL)[name]
    testing.check_sampler(lambda: method(**OPTIONS.get(name, {})))


@pytest.mark.parametrize(
    "operator",
    [
        operators.inpaint_box(image_shape=SHAPE, size=4),
        operators.mri(
            image_shape=(8, 8, 2), mask=operators.cartesian_mask(jax.random.key(0), shape=(8, 8), acceleration=2)
        ),
        Dense(jnp.arange(128.0).reshape(2, 64) / 64, image_shape=SHAPE),
        Cubic(jnp.asarray(0.3), image_shape=SHAPE),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_our_operators_pass(operator):
    testing.check_operator(operator)


def test_our_priors_pass():
    testing.check_denoiser(tiny_denoiser(SHAPE, schedules.linear(100), clip=False))


@struct.dataclass(eq=False)
class Shifted(LinearOperator):
    """Says that it is linear, and is not."""

    def apply(self, x):
        return x + 1


@struct.dataclass(eq=False)
class Transposed(LinearOperator):
    """Its adjoint is another operator's."""

    def apply(self, x):
        return 2 * x

    def adjoint(self, y):
        return 3 * y


@struct.dataclass(eq=False)
class Own(operators.Operator):
    """What it measures is told by the test."""

    measure: object = struct.field(pytree_node=False, default=None)

    def apply(self, x):
        return self.measure(x)


@struct.dataclass(eq=False)
class Frozen(LinearOperator):
    """Its weights are an array, but static."""

    weights: jax.Array = struct.field(pytree_node=False, default=None)

    def apply(self, x):
        return self.weights * x


class Bare(LinearOperator):
    """No dataclass."""

    def apply(self, x):
        return x


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Shifted(image_shape=SHAPE), r"A\(x\) \+ 2 A\(z\)"),
        (Transposed(image_shape=SHAPE), "the adjoint is wrong"),
        (jnp.tanh, "is no operator; derive its class from Operator"),
        (Shifted, r"Shifted is a class; give an object of it, as in Shifted\(image_shape"),
        (Bare(image_shape=SHAPE), r"Bare is no dataclass; write @struct\.dataclass"),
        (Shifted(image_shape=(8, 8)), r"image_shape must be \(height, width, channels\), got \(8, 8\)"),
        (Frozen(jnp.ones(SHAPE), image_shape=SHAPE), "Frozen.weights is an array and static"),
        (Own(np.asarray, image_shape=SHAPE), "use jnp in place of numpy"),
        (Own(lambda x: x if x.sum() > 0 else -x, image_shape=SHAPE), "jnp.where in place of if"),
        (Own(lambda x: (100 * x).astype(int), image_shape=SHAPE), r"A\(x\) is int32; compute in the type of the image"),
        (Own(lambda x: (x, x), image_shape=SHAPE), r"A\(x\) must be one array, got tuple"),
        (Own(lambda x: x.reshape(7), image_shape=SHAPE), r"A\(x\) fails with TypeError: cannot reshape"),
    ],
    ids=lambda value: value.replace(" ", "-")[:30] if isinstance(value, str) else "",
)
def test_a_wrong_operator_is_found(wrong, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_operator(wrong)


@struct.dataclass
class Told(Sampler):
    """Its step is told by the test."""

    title = "told"
    move: object = struct.field(pytree_node=False, default=None)

    def advance(self, state, at):
        return self.move(at.predict(state.x).x0, at)


@pytest.mark.parametrize(
    ("move", "words"),
    [
        (lambda x0, at: State(x0), "told: advance must return two things, the new state and an Info, got State"),
        (
            lambda x0, at: (x0, Info(x0[0, 0, 0])),
            r"a state like the one it is given, State\(x='float32\(8, 8, 1\)'\), got f",
        ),
        (lambda x0, at: (State(x0[:4]), Info(x0[0, 0, 0])), r"got State\(x='float32\(4, 8, 1\)'\)"),
        (lambda x0, at: (State(x0), None), "must have a field `residual`, as Info has"),
        (lambda x0, at: (State(np.asarray(x0)), Info(x0[0, 0, 0])), "use jnp in place of numpy"),
        (
            lambda x0, at: at.denoise(x0),
            "told: a step fails with AttributeError: 'Step' object has no attribute 'denoise'",
        ),
        (
            lambda x0, at: (State(x0 + at.operator.pinv(at.problem.y)), Info(x0[0, 0, 0])),
            "told says that it needs no more than Operator, but .* has no attribute 'pinv'",
        ),
    ],
)
def test_a_wrong_step_is_found(move, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_sampler(lambda: Told(move))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("faces64", "'faces64' is no prior; make one by jd.denoisers.from_function"),
        (lambda x, t: x, "is no prior"),
        (tiny_denoiser, "is no prior"),
    ],
)
def test_what_is_no_prior_is_found(wrong, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_denoiser(wrong)


@struct.dataclass
class Twice(Sampler):
    """It calls the network twice and states once."""

    title = "twice"
    rate: jax.Array

    def advance(self, state, at):
        x = at.predict(at.predict(state.x).x0).x0 + self.rate * at.normal(state.x)
        return State(x), Info(residual_norm(at.problem, x))


def test_a_wrong_sampler_is_found():
    with pytest.raises(AssertionError, match=r"states Calls\(forward=1.*has Calls\(forward=2"):
        testing.check_sampler(lambda: Twice(jnp.asarray(0.1)))

    class Honest(Twice):
        calls = Calls(2)

    testing.check_sampler(lambda: struct.dataclass(Honest)(jnp.asarray(0.1)))
    for wrong, words in (
        (object, "derive its class"),
        ("dps", "give the function that makes the sampler, not 'dps'"),
        (lambda rate: Twice(rate), "making the sampler fails with TypeError"),
    ):
        with pytest.raises(AssertionError, match=words):
            testing.check_sampler(wrong)
