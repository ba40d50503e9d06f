"""The convolution primitive and its resampling forms against XLA's own convolution, with all derivatives."""

import os
import re
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.test_util import check_grads

from jaxdiff import runtime
from jaxdiff.models import convolution
from jaxdiff.models.convolution import convolve, convolve_by_two, convolve_upsampled
from tests.support.tiers import fast_only


def plain(x, kernel, stride=1, padding=((1, 1), (1, 1))):
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


CASES = {
    "same": (lambda x, k: convolve(x, k, ((1, 1), (1, 1))), plain, 3),
    "lopsided": (lambda x, k: convolve(x, k, ((1, 0), (0, 1))), lambda x, k: plain(x, k, padding=((1, 0), (0, 1))), 2),
    "valid": (lambda x, k: convolve(x, k, ((0, 0), (0, 0))), lambda x, k: plain(x, k, padding="VALID"), 3),
    "pointwise": (lambda x, k: convolve(x, k, ((0, 0), (0, 0))), lambda x, k: plain(x, k, padding="VALID"), 1),
    "by two": (convolve_by_two, lambda x, k: plain(x, k, stride=2), 3),
    "upsampled": (convolve_upsampled, lambda x, k: plain(jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), k), 3),
}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=CASES)
def case(request, float64):
    ours, theirs, size = CASES[request.param]
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.standard_normal((2, 4, 6, 3)))
    return ours, theirs, x, jnp.asarray(generator.standard_normal((size, size, 3, 5)))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_values_and_first_derivatives(case):
    ours, theirs, x, kernel = case
    close(ours(x, kernel), theirs(x, kernel))
    v = jnp.cos(theirs(x, kernel))
    for a, b in zip(jax.vjp(ours, x, kernel)[1](v), jax.vjp(theirs, x, kernel)[1](v), strict=True):
        close(a, b)
    close(*(jax.jvp(f, (x, kernel), (2 * x, kernel - 1))[1] for f in (ours, theirs)))


def test_second_derivatives(case):
    ours, theirs, x, kernel = case

    def hessian_products(f):
        gradient = jax.grad(lambda x, k: jnp.sum(f(x, k) ** 3), (0, 1))
        return jax.jvp(gradient, (x, kernel), (x + 1, kernel * 2))[1]

    for a, b in zip(hessian_products(ours), hessian_products(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, None)])
def test_vmap(case, axes):
    ours, theirs, x, kernel = case
    xs = x if axes[0] is None else jnp.stack([x, 2 * x, x - 1], axes[0])
    kernels = kernel if axes[1] is None else jnp.stack([kernel, -kernel, kernel + 1], axes[1])
    close(jax.vmap(ours, axes)(xs, kernels), jax.vmap(theirs, axes)(xs, kernels))


@pytest.mark.parametrize("several", [False, True])
def test_gradients_through_the_input_gradient(float64, several):
    """What a gradient through a guided step needs, for one kernel and for several."""
    generator = np.random.default_rng(3)
    x, kernel = (jnp.asarray(generator.standard_normal(shape)) for shape in ((1, 3, 4, 2), (3, 3, 2, 2)))
    kernel = jnp.stack([kernel, -2 * kernel], 2) if several else kernel

    def gradients(f):
        slope = jax.grad(lambda x, k: jnp.sum(f(x, k) ** 3))
        whole = jax.grad(lambda x, k: jnp.sum(slope(x, k) ** 2), (0, 1))
        return jax.jit(jax.vmap(whole, (None, 2)) if several else whole)(x, kernel)

    for a, b in zip(gradients(partial(convolve, padding=((1, 1), (1, 1)))), gradients(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_a_loop_turns_its_kernels_once():
    """The input gradient needs them turned, at each step the same: that is done before the loop begins."""
    same = partial(convolve, padding=((1, 1), (1, 1)))

    def loop(x, kernel):
        step = lambda x, _: (jax.grad(lambda x: jnp.sum(same(x, kernel) ** 2))(x), None)  # noqa: E731
        return lax.scan(step, x, length=5)[0]

    text = jax.jit(loop).lower(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))).compile().as_text()
    parts = {part.lstrip("ENTRY %").split(" ")[0]: part for part in re.split(r"\n(?=\S)", text)}
    assert " reverse(" in text
    inside = re.findall(r"body=%([\w.-]+)", text)
    assert inside
    for name in inside:  # grows by what is called
        assert " reverse(" not in parts[name], parts[name]
        inside += re.findall(r"(?:calls|to_apply|body)=%([\w.-]+)", parts[name])


@pytest.fixture(params=["by images", "by rows of images", "by convolution"])
def how(request, monkeypatch):
    """Each form of the kernel's gradient that a CPU may take."""
    monkeypatch.setattr(convolution, "CACHE", 0 if request.param == "by rows of images" else convolution.CACHE)
    monkeypatch.setattr(runtime, "in_use", lambda: runtime.Choice(onednn=request.param == "by convolution", kept=False))
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize(("size", "padding"), [(3, ((1, 1), (1, 1))), (2, ((1, 0), (0, 1))), (1, ((0, 0), (0, 0)))])
@pytest.mark.parametrize("height", fast_only([7], [8, 7]))
def test_the_gradient_of_the_kernel(float64, how, size, padding, height):
    """It is XLA's own, and by finite differences it has the right derivatives itself."""
    generator = np.random.default_rng(1)
    x, kernel = (jnp.asarray(generator.standard_normal(shape)) for shape in ((2, height, 5, 3), (size, size, 3, 4)))
    gradient = lambda f, x, v: jax.vjp(lambda k: f(x, k), kernel)[1](v)[0]  # noqa: E731
    theirs = partial(plain, padding=padding)
    ours = partial(convolve, padding=padding)
    v = jnp.asarray(generator.standard_normal(theirs(x, kernel).shape))
    close(gradient(ours, x, v), gradient(theirs, x, v))
    close(jax.jit(partial(gradient, ours))(x, v), gradient(theirs, x, v))
    check_grads(partial(gradient, ours), (x, v), order=1, modes=("fwd", "rev"))


def test_every_convolution_has_the_layout_of_fast_kernels(how):
    """In a loop XLA leaves layouts as they are. With another one, oneDNN takes minutes for what takes it seconds."""
    gradient = jax.grad(lambda k, x: jnp.sum(convolve(x, k, ((1, 1), (1, 1))) ** 2), (0, 1))
    text = jax.jit(gradient).lower(jnp.ones((3, 3, 3, 4)), jnp.ones((2, 8, 8, 3))).as_text()
    layouts = re.findall(r"stablehlo.convolution.*dim_numbers = (.*?), window", text)
    assert layouts
    assert set(layouts) == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


@pytest.mark.parametrize("size", [1, 3])
def test_the_gradient_of_a_bfloat16_kernel_is_summed_in_float32(how, size):
    """A sum of many images in bfloat16 stops growing: it has eight bits."""
    generator = np.random.default_rng(3)
    x, v = (jnp.asarray(generator.uniform(0, 1, (512, 4, 4, 2)), jnp.bfloat16) for _ in range(2))
    kernel, padding = jnp.zeros((size, size, 2, 2), jnp.bfloat16), ((size // 2, size // 2),) * 2
    ours = jax.jit(lambda x, v: jax.vjp(lambda k: convolve(x, k, padding), kernel)[1](v)[0])(x, v)
    assert ours.dtype == jnp.bfloat16
    x, v, kernel = (a.astype(jnp.float32) for a in (x, v, kernel))
    exact = jax.vjp(lambda k: plain(x, k, padding=padding), kernel)[1](v)[0]
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-7)


@pytest.mark.slow
def test_a_gradient_for_each_image(float64):
    """What per-example clipping needs."""
    generator = np.random.default_rng(2)
    xs, kernel = (jnp.asarray(generator.standard_normal(shape)) for shape in ((4, 1, 8, 5, 3), (3, 3, 3, 4)))
    loss = lambda f, k, x: jnp.sum(f(x, k) ** 2)  # noqa: E731
    same = partial(convolve, padding=((1, 1), (1, 1)))
    ours, theirs = (jax.vmap(jax.grad(partial(loss, f)), (None, 0))(kernel, xs) for f in (same, plain))
    close(ours, theirs)


SPLIT = """
import re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxdiff.models.convolution import convolve
mesh = Mesh(np.asarray(jax.devices()), ("data",))
whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
gradient = jax.grad(lambda k, x: jnp.sum(convolve(x, k, ((1, 1), (1, 1))) ** 2))
program = jax.jit(gradient, in_shardings=(whole, split), out_shardings=whole)
text = program.lower(jnp.ones((3, 3, 4, 4)), jnp.ones((4, 8, 8, 4))).compile().as_text()
print(jax.device_count(), len(re.findall(r"all-reduce\\(", text)), len(re.findall(r"all-gather|permute|all-to-all", text)))
"""


@pytest.mark.slow
def test_a_split_batch_needs_one_sum_between_devices():
    """No image goes to another device, and no sum is taken within the loop over images."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SPLIT], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "1", "0"], done.stderr


def test_it_lowers_for_every_platform():
    x, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 5))
    exported = export.export(
        jax.jit(jax.grad(lambda x, k: convolve_upsampled(convolve(x, k, ((1, 1), (1, 1))), kernel).sum(), (0, 1))),
        platforms=("cpu", "cuda", "tpu"),
    )(x, jnp.ones((3, 3, 3, 3)))
    assert exported.platforms == ("cpu", "cuda", "tpu")
