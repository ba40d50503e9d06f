"""What makes a CPU fast is chosen before JAX starts, or not at all; it never breaks a run."""

import os
import subprocess
import sys

import jaxlib
import pytest

from jaxdiff import hosts, runtime
from jaxdiff.cli import options
from jaxdiff.cli.main import parse

PLAIN = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAXDIFF_FAST")}
NEW = runtime.KNOWN[0] <= tuple(map(int, jaxlib.__version__.split(".")[:2])) < runtime.KNOWN[1]


@pytest.fixture
def fresh(monkeypatch):
    """A process in which JAX has not started, on a plain x86 computer with the first jaxlib that knows the flags."""
    settings = {}
    monkeypatch.setattr(hosts, "started", lambda: False)
    monkeypatch.setattr(hosts, "use_all_cores", lambda: None)
    asked = []
    monkeypatch.setattr(runtime.memory, "keep", lambda: asked.append(True))
    monkeypatch.setattr(runtime.memory, "kept", lambda: bool(asked))
    monkeypatch.setattr(runtime, "_version", lambda: runtime.KNOWN[0])
    monkeypatch.setattr(runtime.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(runtime.jax.config, "update", settings.__setitem__)
    return settings


CPU = {"JAX_PLATFORMS": "cpu"}


def test_by_itself_it_takes_all(fresh):
    environment = dict(CPU)
    assert runtime.fast_cpu(environment=environment) == (True, True)
    assert environment["XLA_FLAGS"].split() == list(runtime.FLAGS)
    assert fresh == {"jax_enable_compilation_cache": False}


@pytest.mark.parametrize(
    "own", [{"XLA_FLAGS": "--xla_dump_to=x"}, {"JAXDIFF_FAST": "off"}, {"JAX_PLATFORMS": "cuda"}], ids=str
)
def test_it_keeps_out_of_what_you_chose(fresh, own):
    environment = CPU | own
    before = dict(environment)
    assert not runtime.fast_cpu(environment=environment).onednn
    assert environment == before
    assert fresh == {}, "the cache of compiled programs stays"


@pytest.mark.parametrize(("own", "kept"), [({"JAXDIFF_FAST": "off"}, False), ({"XLA_FLAGS": "--xla_dump_to=x"}, True)])
def test_only_off_leaves_the_memory_alone(fresh, own, kept):
    assert runtime.fast_cpu(environment=CPU | own) == (False, kept)


@pytest.mark.parametrize("version", [(0, 10), runtime.KNOWN[1]])
def test_flags_only_where_they_are_known(fresh, monkeypatch, version):
    monkeypatch.setattr(runtime, "_version", lambda: version)
    environment = dict(CPU)
    assert not runtime.fast_cpu(environment=environment).onednn
    assert "XLA_FLAGS" not in environment


@pytest.mark.parametrize(("wish", "onednn"), [({}, False), ({"JAXDIFF_FAST": "on"}, True)])
def test_a_short_run_keeps_the_cache_unless_told(fresh, wish, onednn):
    assert runtime.fast_cpu(kernels=False, environment=CPU | wish) == (onednn, True)
    assert bool(fresh) == onednn


def test_your_own_flags_turn_the_cache_off_too(fresh):
    assert runtime.fast_cpu(environment=CPU | {"XLA_FLAGS": f"--xla_cpu_experimental_{runtime.ONEDNN}"}).onednn
    assert fresh == {"jax_enable_compilation_cache": False}


def test_too_late_is_no_error(fresh, monkeypatch):
    monkeypatch.setattr(hosts, "started", lambda: True)
    environment = dict(CPU)
    assert runtime.fast_cpu(environment=environment) == (False, True)
    assert "XLA_FLAGS" not in environment
    assert fresh == {}


SCRIPT = """
import os, sys
import jax, jax.numpy as jnp
import jaxdiff as jd
from jaxdiff import hosts, runtime
assert not hosts.started() and "XLA_FLAGS" not in os.environ and runtime.in_use() == (False, False)
choice = jd.fast_cpu()
conv = lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
program = jax.jit(conv).lower(jnp.ones((2, 16, 16, 32)), jnp.ones((3, 3, 32, 32))).compile()
assert hosts.started() and runtime.in_use() == choice
print(choice.onednn, "onednn" in program.as_text(), len(os.listdir(sys.argv[1])) > 0)
"""


@pytest.mark.slow
def test_nothing_ends_the_process(tmp_path):
    """Importing changes nothing; kernels are in use or not as said; with them no program goes into your own cache."""
    environment = PLAIN | CPU | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    environment |= {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(NEW), str(NEW), str(not NEW)]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("flags", "onednn", "dtype"),
    [({"avx2"}, True, "float32"), ({"avx2", "amx_bf16"}, True, "bfloat16"), ({"amx_bf16"}, False, "float32")],
    ids=["no unit", "unit in use", "unit not in use"],
)
def test_the_fast_type_of_a_cpu(monkeypatch, capsys, flags, onednn, dtype):
    monkeypatch.setattr(runtime, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setenv("XLA_FLAGS", runtime.FLAGS[0] if onednn else "")
    args = parse(["jaxdiff", "sample", "--dtype", "auto", "--out", "x.png"])
    assert options.load_prior(args).module.dtype == dtype
    assert args.dtype == dtype
    assert f"--dtype auto is {dtype} here: " in capsys.readouterr().err
