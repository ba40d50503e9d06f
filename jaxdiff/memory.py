"""The memory of this process on a CPU: freed arrays are kept for the next ones, within bounds.

glibc returns each freed array above 32 MiB to the system, and every new array then costs page faults. `keep` changes that. What
is kept is not always of use: an aligned array needs a few bytes more than a freed one of its size has. So a process would
grow. A thread gives back what is too much.
"""

import contextlib
import ctypes
import math
import os
import platform
import threading
import time
from pathlib import Path

__all__ = ["free", "give_back", "keep", "kept"]

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Names of ``mallopt``'s settings in glibc's malloc.h."""
SMALL_ARRAYS = 2**30
"""Bytes of addresses for them; memory is taken only where they are used."""
MOST = 3.0
"""The most memory that a process holds, in units of the most that was in use."""
SPARE = 0.1
"""Part of the machine's memory that stays free: below it, nothing is kept unused."""
LOOK, REST = 0.1, 1.0
"""Seconds between two looks, and after memory went back."""

MACHINE, CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")

_kept = False


class _Heap(ctypes.Structure):
    """``struct mallinfo2`` of glibc's malloc.h."""

    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def keep() -> bool:
    """Keep freed memory from now on; False where the C library is not glibc 2.33 or later.

    Only the main arena obeys: any other maps an array above 64 MiB afresh. So all threads share the main arena.
    """
    global _kept
    if _kept:
        return True
    libc = ctypes.CDLL(None)
    if platform.libc_ver()[0] != "glibc" or not hasattr(libc, "mallinfo2"):
        return False
    _kept = all([libc.mallopt(M_ARENA_MAX, 1), libc.mallopt(M_MMAP_MAX, 0), libc.mallopt(M_TRIM_THRESHOLD, -1)])
    # glibc takes the smallest free block that fits. With this one, small arrays do not cut the large blocks, which would then
    # be too short for the next large array. The second allocation keeps it apart from the end of the heap.
    allocate = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(("malloc", libc))
    block, _ = allocate(SMALL_ARRAYS), allocate(1)
    libc.free(ctypes.c_void_p(block))
    threading.Thread(target=_watch, name="jaxdiff memory", daemon=True).start()
    return _kept


def kept() -> bool:
    """Whether freed memory stays with this process."""
    return _kept


def give_back() -> None:
    """Return the memory that is kept and not in use to the system."""
    if _kept:
        ctypes.CDLL(None).malloc_trim(0)


def free() -> float:
    """Free memory of this machine in bytes, or of the container that limits it, after what is kept unused went back."""
    give_back()
    return _machine()[0]


def _watch() -> None:
    """Give back what is too much, for as long as the process lives."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Heap
    most, expected = 0, 0.0
    while True:
        time.sleep(LOOK)
        with contextlib.suppress(OSError):  # no file can be opened at the moment
            short = _short()
            if not short and _held() < expected:
                continue
            most = max(most, libc.mallinfo2().uordblks)  # takes milliseconds, in which no other thread can allocate
            if short or _held() > MOST * most:
                give_back()
                time.sleep(REST)
            expected = 1.1 * _held()


def _short() -> bool:
    available, whole = _machine()
    return available < SPARE * whole


def _held() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _machine() -> tuple[float, float]:
    """Free and whole memory in bytes, of this machine or of the container that limits it; infinite where nothing says so."""
    available = whole = math.inf
    try:
        rows = dict(line.split(":") for line in MACHINE.read_text("ascii").splitlines())
        available, whole = (1024.0 * int(rows[name].split()[0]) for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            available = whole = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit, used = (float((CONTAINER / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        rows = dict(line.split() for line in (CONTAINER / "memory.stat").read_text("ascii").splitlines())
        used -= float(rows["inactive_file"])  # copies of files, which make room when asked
    except (OSError, KeyError, ValueError):  # ValueError: "max", no limit
        return available, whole
    return min(available, limit - used), min(whole, limit)
