"""Freed memory is kept for the next array, but never so much that the machine runs short."""

import ctypes
import math
import os
import platform
import subprocess
import sys

import pytest

from jaxdiff import memory

ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAXDIFF_FAST")} | {"JAX_PLATFORMS": "cpu"}
GLIBC = platform.libc_ver()[0] == "glibc" and hasattr(ctypes.CDLL(None), "mallinfo2")
needs_glibc = pytest.mark.skipif(not GLIBC, reason="only glibc 2.33 and later keep memory")

BLOCKS = """
import ctypes, resource, threading, time
from jaxdiff import memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.aligned_alloc.restype, libc.aligned_alloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
SIZE, GIGABYTE = 2**28, 2.0**30
def machine(free): memory._rooms = lambda: [memory.Room(free * GIGABYTE, GIGABYTE)]
machine(0.5)
"""

KEPT = """
faults, memory.LOOK = [], 1000
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
assert memory.keep()
block = libc.malloc(SIZE)
ctypes.memset(block, 1, SIZE)
time.sleep(1)
libc.free(block)
time.sleep(1)
before = memory._held()
machine(0.01)
while memory._held() > before - SIZE * 0.9: time.sleep(0.05)
print("given back")
"""

GROWING = """
assert memory.keep()
libc.mallinfo2.restype = memory._Heap
ours, largest = 0, 0
for _ in range(12):
    block = libc.aligned_alloc(64, SIZE)
    pins = [libc.malloc(n) for n in (16, 32, 48, 64, 80) for _ in range(20)]  # take what alignment left over
    ctypes.memset(block, 1, SIZE)
    time.sleep(0.25)
    ours = max(ours, libc.mallinfo2().uordblks)
    libc.free(block)
    time.sleep(0.25)
    largest = max(largest, memory._held())
print(largest / ours)
"""


def answer(script):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS + script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_glibc
def test_a_large_array_of_any_thread_is_kept_until_somebody_asks_what_is_free():
    assert answer(KEPT) == ["True", "True"]


@needs_glibc
def test_it_goes_back_where_the_machine_runs_short():
    assert answer(SHORT) == ["given", "back"]


@needs_glibc
def test_a_process_does_not_grow():
    """A block that was freed is too short for an aligned one of its size. Without bounds, every round would add one."""
    (ratio,) = answer(GROWING)
    assert float(ratio) < 2 * memory.MOST  # a busy computer looks late


@pytest.mark.parametrize(("needed", "times"), [(100.0, 0), (101.0, 1)])
def test_room_is_made_where_more_is_needed_than_is_free(monkeypatch, needed, times):
    asked = []
    monkeypatch.setattr(memory, "_rooms", lambda: [memory.Room(100.0, 200.0), memory.Room(300.0, 400.0)])
    monkeypatch.setattr(memory, "give_back", lambda: asked.append(True))
    memory.make_room(needed)
    assert len(asked) == times


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_kept", False)
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", None)  # on Windows it has no library without a name
    assert not memory.keep()
    assert not memory.kept()


FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
SECOND = ("memory.max", "memory.current", "inactive_file")


@pytest.mark.parametrize(("line", "top", "names"), [("0::/a/b", "", SECOND), ("7:cpu,memory:/a/b", "memory", FIRST)])
def test_a_container_has_its_own_limit(monkeypatch, tmp_path, line, top, names):
    """A limit of a group around this one holds, too. A group without a limit, or without a folder here, says nothing."""
    limit, used, copies = names
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(f"1:name=systemd:/\n{line}\n")
    (tmp_path / "meminfo").write_text("MemTotal: 8 kB\nMemFree: 1 kB\nMemAvailable: 3 kB\nHugePages_Total: 0\nodd\n")
    group = tmp_path / top / "a"
    group.mkdir(parents=True)
    (group / limit).write_text("4096\n")
    (group / used).write_text("4000\n")
    (group / "memory.stat").write_text(f"anon 2500\nfile 1500\n{copies} 1000\nactive_file 500\n")
    (tmp_path / top / limit).write_text("max\n")
    (tmp_path / top / used).write_text("5000\n")
    monkeypatch.setattr(memory, "SYSTEM", tmp_path)
    monkeypatch.setattr(memory, "CONTROL", tmp_path)
    assert list(memory._rooms()) == [(3 * 1024, 8 * 1024), (1096, 4096)]
    assert memory.free() == 1096


def test_without_files_of_the_system_there_is_still_a_number(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "SYSTEM", tmp_path)
    assert 2**28 < memory.free() <= math.inf
