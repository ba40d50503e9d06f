"""The memory of this process on a CPU: freed arrays are kept for the next ones, within bounds.

glibc returns each freed array above 32 MiB to the system, and every new array then costs page faults. `keep` changes that. But
a freed block is a few bytes too short for an aligned array of the same size. So a process would grow with each run. A thread
watches it, and gives back what is too much.
"""

import contextlib
import ctypes
import math
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["free", "give_back", "keep", "kept", "make_room"]

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Names of ``mallopt``'s settings in glibc's malloc.h."""
SMALL_ARRAYS = 2**30
"""Address space for small arrays, in bytes; memory is taken only where it is used."""
MOST = 3.0
"""Memory goes back above so many times the most that was in use."""
SPARE = 0.05
"""Memory also goes back where a smaller part of the machine or container is free."""
LOOK, REST = 0.2, 1.0
"""Seconds between two looks, and in addition where there was little to give back."""

SYSTEM, CONTROL = Path("/proc"), Path("/sys/fs/cgroup")

_kept = False


class Room(NamedTuple):
    """Memory of a machine, or of a container on it, in bytes.

    Attributes:
        free: what nobody uses, and copies of files, which make room when asked.
        whole: all of it.
    """

    free: float
    whole: float


class _Heap(ctypes.Structure):
    """``struct mallinfo2`` of glibc's malloc.h."""

    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def keep() -> bool:
    """Keep freed memory from now on; False where the C library is not glibc 2.33 or later.

    Only the main arena keeps large blocks: the others map an array above 64 MiB anew. So all threads share the main arena.
    """
    global _kept
    if _kept or platform.libc_ver()[0] != "glibc":
        return _kept
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
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


def make_room(needed: float) -> None:
    """Return unused memory to the system if fewer than ``needed`` bytes are free."""
    if _free_now() < needed:
        give_back()


def free() -> float:
    """Return unused memory, then tell how many bytes of this machine, or of its container, are free."""
    give_back()
    return _free_now()


def _free_now() -> float:
    return min(room.free for room in _rooms())


def _watch() -> None:
    """Give back what is too much, for as long as the process lives."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Heap
    most, expected = 0, 0.0
    while True:
        time.sleep(LOOK)
        with contextlib.suppress(OSError):  # no file can be opened at the moment
            short = any(room.free < SPARE * room.whole for room in _rooms())
            if not short and _held() < expected:
                continue
            heap = libc.mallinfo2()  # takes milliseconds, in which no other thread can allocate
            most = max(most, heap.uordblks + heap.hblkhd)
            if short or _held() > MOST * most:
                before = _held()
                give_back()
                if _held() > 0.9 * before:  # little came back, so there is no need to look again soon
                    time.sleep(REST)
            expected = 1.1 * _held()


def _held() -> int:
    """Bytes of memory that this process holds, without files and libraries."""
    _, resident, shared, *_ = (SYSTEM / "self" / "statm").read_text("ascii").split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _rooms() -> Iterator[Room]:
    """This machine, and the containers around this process that have a limit."""
    try:
        rows = _rows(SYSTEM / "meminfo")
        yield Room(1024 * rows["MemAvailable:"], 1024 * rows["MemTotal:"])
    except (OSError, KeyError):
        known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
        size = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if known else math.inf
        yield Room(size, size)
    try:
        groups = (SYSTEM / "self" / "cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers:  # version 2 of Linux's control groups
            yield from _containers(CONTROL, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _containers(CONTROL / "memory", path, *names)


def _containers(top: Path, path: str, limit: str, used: str, copies: str) -> Iterator[Room]:
    """A control group and those around it; inside a container, the path may be one of the host, which is not there."""
    group = top / path.lstrip("/")
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
            whole, taken = (float((folder / name).read_text("ascii")) for name in (limit, used))
            yield Room(whole - taken + _rows(folder / "memory.stat").get(copies, 0.0), whole)
        if folder == top:
            return


def _rows(path: Path) -> dict[str, float]:
    """The first number of each line, by the word before it."""
    words = (line.split() for line in path.read_text("ascii").splitlines())
    return {row[0]: float(row[1]) for row in words if len(row) > 1 and row[1].isdigit()}
