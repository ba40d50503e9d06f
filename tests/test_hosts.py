import os
import socket
import subprocess
import sys

import jax
import pytest

from jaxdiff import hosts

SCRIPT = """
import jax
from jaxdiff import hosts
hosts.join()
print(jax.process_count(), *hosts.share(range(5)))
"""


@pytest.mark.slow
def test_two_processes_meet_and_share():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    base = os.environ | {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PLATFORMS": "cpu",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=base | {"JAX_PROCESS_ID": str(i)}, stdout=subprocess.PIPE, text=True
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=120)[0].split() for process in started]
    assert said == [["2", "0", "2", "4"], ["2", "1", "3"]]


def test_without_others_it_says_how_to_name_them(monkeypatch):
    def alone(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", alone)
    with pytest.raises(ValueError, match="JAX_COORDINATOR_ADDRESS=host:port"):
        hosts.join()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match="leave --distributed out"):
        hosts.join()


CORES = """
import os, sys
os.sched_getaffinity = lambda pid: range(3)
import jax
from jaxdiff import hosts
hosts.use_all_cores()
print(jax.device_count())
hosts.use_all_cores()  # after JAX has started: nothing happens
"""


@pytest.mark.parametrize(
    ("said", "devices"),
    [
        ({}, "3"),
        pytest.param({"JAX_NUM_CPU_DEVICES": "2"}, "2", marks=pytest.mark.slow),
        pytest.param({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, "5", marks=pytest.mark.slow),
    ],
)
def test_a_cpu_is_one_device_a_core_unless_said_otherwise(said, devices):
    plain = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    done = subprocess.run(
        [sys.executable, "-c", CORES], env=plain | {"JAX_PLATFORMS": "cpu"} | said, capture_output=True, text=True
    )
    assert done.stdout.strip() == devices, done.stderr
