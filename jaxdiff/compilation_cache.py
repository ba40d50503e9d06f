"""Compiled programs kept on disk, so that the second start of the same command compiles nothing.

The command line turns this on. The folder is ``JAX_COMPILATION_CACHE_DIR`` if that is set (JAX's own setting), else
``JAXDIFF_CACHE``, else ``jaxdiff/xla`` in the user's cache folder. ``JAXDIFF_CACHE=off`` turns the cache off. A program
compiled for one processor may not run on another, so each kind of processor has a folder of its own. Small programs are kept
too, unlike with JAX's default: a restoration has about sixty, and they take seconds together. When all programs take more
than 2 GiB, the oldest are dropped. Where ``runtime.fast_cpu`` has turned JAX's cache off, none is kept.
"""

import contextlib
import hashlib
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from jaxdiff.assets import OFF

__all__ = ["LIMIT", "enabled", "folder_for", "trim"]

LIMIT = 2 * 2**30
"""Bytes that the kept programs may take."""

JAX_DEFAULT = 1.0
"""Seconds of compiling below which JAX does not keep a program, if the user says nothing."""

OURS = re.compile(r"\w+-[0-9a-f]{12}")
"""Names of the folders, one a kind of processor."""


def folder_for(environment: Mapping[str, str]) -> Path | None:
    """The folder that the environment asks for; None for no cache.

    >>> str(folder_for({"XDG_CACHE_HOME": "/c"}))
    '/c/jaxdiff/xla'
    >>> str(folder_for({"XDG_CACHE_HOME": "/c", "JAXDIFF_CACHE": "/d"}))
    '/d'
    >>> folder_for({"JAXDIFF_CACHE": "off"})
    """
    wish = environment.get("JAXDIFF_CACHE", "").strip()
    if wish.lower() in OFF:
        return None
    if wish:
        return Path(os.path.expanduser(wish))
    home = environment.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(home):  # as the XDG rules have it
        home = os.path.expanduser("~/.cache")
        if not os.path.isabs(home):
            return None
    return Path(home) / "jaxdiff" / "xla"


@contextlib.contextmanager
def enabled(environment: Mapping[str, str] = os.environ) -> Iterator[Path | None]:
    """Keep compiled programs on disk within the block; yields the folder, or None if there is no cache."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    folder = folder_for(environment)
    off = not getattr(jax.config, "jax_enable_compilation_cache", True)
    if off or folder is None or getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        yield None
        return
    folder = folder / _processor()
    if not _writable(folder):
        yield None
        return
    trim(folder.parent)
    before = getattr(jax.config, "jax_persistent_cache_min_compile_time_secs", JAX_DEFAULT)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if before == JAX_DEFAULT:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()  # JAX asks for the folder once, and there was none before
    try:
        yield folder
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
        compilation_cache.reset_cache()


def trim(folder: Path, limit: int = LIMIT) -> None:
    """Drop the programs that were used least recently until the rest take at most ``limit`` bytes.

    It looks only at files that this cache wrote: the user may keep other things in the folder.
    """
    found = []
    for path in folder.glob("*/*-cache"):
        if OURS.fullmatch(path.parent.name):
            with contextlib.suppress(OSError):  # another process may have dropped it
                facts = path.lstat()
                found.append((max(facts.st_atime, facts.st_mtime), facts.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _processor() -> str:
    """A name for this kind of processor: XLA compiles for exactly the instructions that it has."""
    facts = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        facts += sorted({line for line in file if line.startswith(("flags", "Features", "model name"))})
    return f"{platform.machine() or 'any'}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"
