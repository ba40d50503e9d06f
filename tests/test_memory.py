"""Freed memory is kept for the next array, but never so much that the machine runs short."""

import math
import os
import platform
import subprocess
import sys

import pytest

from jaxdiff import memory

ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAXDIFF_FAST")} | {"JAX_PLATFORMS": "cpu"}
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides this by itself")

BLOCKS = """
import ctypes, resource, threading, time
from jaxdiff import memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.aligned_alloc.restype, libc.aligned_alloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
SIZE = 2**28
"""

KEPT = """
faults = []
assert memory.keep()
def use():
    block = libc.malloc(SIZE)
    libc.malloc(2**20)  # a smaller array, which stays
    ctypes.memset(block, 1, SIZE)
    libc.free(block)
    libc.malloc(2**22)  # one that would cut the block
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    worker = threading.Thread(target=use)
    worker.start(); worker.join()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
before = memory._held()
memory.free()
print(faults[-1] * resource.getpagesize() < SIZE / 50, before - memory._held() > SIZE * 0.9)
"""

SHORT = """
machine = [0.5, 1.0]
memory._machine = lambda: machine
assert memory.keep()
block = libc.malloc(SIZE)
ctypes.memset(block, 1, SIZE)
libc.free(block)
time.sleep(0.5)
before = memory._held()
machine[0] = 0.05
while memory._held() > before - SIZE * 0.9: time.sleep(0.05)
print("given back")
"""

GROWING = """
memory._machine = lambda: (0.5, 1.0)
assert memory.keep()
libc.mallinfo2.restype = memory._Heap
ours, largest = 0, 0
for _ in range(12):
    block = libc.aligned_alloc(64, SIZE)
    pins = [libc.malloc(n) for n in (16, 32, 48, 64, 80) for _ in range(20)]  # take what alignment left over
    ctypes.memset(block, 1, SIZE)
    time.sleep(0.15)
    ours = max(ours, libc.mallinfo2().uordblks)
    libc.free(block)
    time.sleep(0.15)
    largest = max(largest, memory._held())
print(largest / ours)
"""


def answer(script):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS + script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@GLIBC
def test_a_large_array_of_any_thread_is_kept_until_somebody_asks_what_is_free():
    assert answer(KEPT) == ["True", "True"]


@GLIBC
def test_it_goes_back_where_the_machine_runs_short():
    assert answer(SHORT) == ["given", "back"]


@GLIBC
def test_a_process_does_not_grow():
    """A block that was freed is too short for an aligned one of its size. Without bounds, every round would add one."""
    (ratio,) = answer(GROWING)
    assert float(ratio) < 2 * memory.MOST  # a busy computer looks late


@pytest.mark.parametrize(
    ("limit", "used", "free", "whole"), [("max", "5", 3 * 1024, 8 * 1024), ("4096", "4000", 1096, 4096)]
)
def test_a_container_has_its_own_limit(monkeypatch, tmp_path, limit, used, free, whole):
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(used + "\n")
    (tmp_path / "memory.stat").write_text("anon 2500\nfile 1500\ninactive_file 1000\nactive_file 500\n")
    (tmp_path / "meminfo").write_text("MemTotal: 8 kB\nMemFree: 1 kB\nMemAvailable: 3 kB\n")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    assert memory._machine() == (free, whole)
    assert memory.free() == free


def test_without_files_of_the_system_there_is_still_a_number(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    assert 2**28 < memory.free() <= math.inf
