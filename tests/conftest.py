"""For all tests: compiled programs are shared between workers and runs."""

import pathlib

import jax

# The same small networks are compiled by many tests, and by every worker of pytest-xdist.
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
