"""For all tests: programs are compiled fast and shared between workers and runs, and a prior small enough for experiments.

Nearly all the time of the tests is the compiler's, of programs that then run for milliseconds. So LLVM is asked for little:
the graph that XLA makes (products, fusions, memory) stays the same, the machine code is slower. JAXDIFF_TESTS_OPTIMIZED=1
compiles as users do, in more than twice the time.
"""

import ctypes
import gc
import os
import pathlib
import signal

import jax
import jaxlib
import pytest

from jaxdiff import runtime
from tests.support.networks import tiny_denoiser

if not os.environ.get("JAXDIFF_TESTS_OPTIMIZED"):
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the processes that tests start, too
    if jaxlib.__version__.startswith("0.10."):  # XLA stops at a flag that it does not know
        # One module a program: splitting them for parallel code generation costs more than it gains with a worker a core.
        cheap = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {cheap}".strip()

if not hasattr(jax, "enable_x64"):  # its old name, in the oldest JAX that is allowed
    jax.enable_x64 = jax.experimental.enable_x64

# A test that runs a command changes nothing of its process, unless JAXDIFF_FAST=on asks for the tests with faster kernels.
if os.environ.setdefault("JAXDIFF_FAST", "off") != "off":
    runtime.fast_cpu()

# The same small networks are compiled by many tests, by every worker of pytest-xdist, and by the next run.
CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax" / jaxlib.__version__
jax.config.update("jax_compilation_cache_dir", str(CACHE))
# Storing the short ones too gained nothing when measured. JAX writes an entry in place: another worker may read half of it.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
# Tracing makes millions of objects, few of them garbage in a circle: looking for such took a tenth of the time.
gc.set_threshold(100_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker runs all tests of a file, which share compiled programs and fixtures; in contracts/ all of one name.

    ``--dist loadgroup`` would do the same, but from pytest 9.2 on its groups are lost without a word.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return together(nodeid)

    return Together(config, log)


def together(nodeid):
    """The file, and in contracts/ the first word of the row, which is a method's or an operator's name.

    >>> together("tests/contracts/test_pairs.py::test_a_pair[dps-blur]")
    'tests/contracts/test_pairs.py:dps'
    """
    file, _, test = nodeid.partition("::")
    row = test.partition("[")[2].rstrip("]").partition("-")[0]
    return f"{file}:{row}" if file.startswith("tests/contracts/") else file


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    """All workers together hold half of the machine's memory: above it, compiled programs are dropped (Linux tells).

    What was compiled is found again in the cache on disk.
    """
    yield
    pages = pathlib.Path("/proc/self/statm")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if pages.exists() and int(pages.read_text().split()[1]) > os.sysconf("SC_PHYS_PAGES") // (2 * workers):
        jax.clear_caches()
        gc.collect()
        # Free memory goes back to the system. Otherwise the next module is above the limit again, and drops its programs.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@pytest.fixture(scope="session")
def tiny():
    """A ``Denoiser`` for 32×32 colour images with a schedule of 50 steps."""
    return tiny_denoiser((32, 32, 3))


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
