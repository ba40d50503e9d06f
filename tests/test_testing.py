"""The public checks pass on what is right, and say what is wrong with what is not."""

import jax
import jax.numpy as jnp
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


@pytest.mark.parametrize(("wrong", "words"), [(Shifted, r"A\(x\) \+ 2 A\(z\)"), (Transposed, "the adjoint is wrong")])
def test_a_wrong_operator_is_found(wrong, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_operator(wrong(image_shape=SHAPE))


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
    with pytest.raises(AssertionError, match="derive its class"):
        testing.check_sampler(object)
