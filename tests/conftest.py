"""For all tests: programs are compiled fast and shared between workers and runs, and a prior small enough for experiments.

Nearly all the time of the tests is the compiler's, of programs that then run for milliseconds. So LLVM is asked for little:
the graph that XLA makes (products, fusions, memory) stays the same, the machine code is slower. JAXDIFF_TESTS_OPTIMIZED=1
compiles as users do, in more than twice the time.
"""

import gc
import os
import pathlib
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxlib
import pytest

from jaxdiff import denoisers, schedules

if not os.environ.get("JAXDIFF_TESTS_OPTIMIZED"):
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the processes that tests start, too
    if jaxlib.__version__.startswith("0.10."):  # XLA stops at a flag that it does not know
        # One module a program: splitting them for parallel code generation costs more than it gains with a worker a core.
        cheap = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {cheap}".strip()

# The same small networks are compiled by many tests, and by every worker of pytest-xdist.
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
MOST_MEMORY = 3 * 2**30
"""Bytes a worker may hold after a module; compiled programs are dropped above it (Linux tells, others go on)."""


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    """Two workers fit into a small machine: what was compiled is found again in the cache on disk."""
    yield
    pages = pathlib.Path("/proc/self/statm")
    if pages.exists() and int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > MOST_MEMORY:
        jax.clear_caches()
        gc.collect()


class TinyNet(nn.Module):
    """Two convolutions that know their time."""

    @nn.compact
    def __call__(self, x, t, y=None):
        time = jnp.sin(t.astype(jnp.float32) / 30.0).reshape(-1, 1, 1, 1)
        return nn.Conv(x.shape[-1], (3, 3))(nn.tanh(nn.Conv(4, (3, 3))(x + time)))


@pytest.fixture(scope="session")
def tiny():
    """A ``Denoiser`` for 32×32 colour images with a schedule of 50 steps."""
    module = TinyNet()
    params = module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1))["params"]
    return denoisers.Denoiser(params, schedules.linear(50), module=module, image_shape=(32, 32, 3))


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that nobody writes to; whoever waits for it is stopped."""

    def stop(*_):
        raise TimeoutError("it waits for a pipe")

    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
