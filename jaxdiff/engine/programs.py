"""The two compiled programs of a batch, for one device or many."""

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.engine.placement import Placement
from jaxdiff.samplers.loop import run
from jaxdiff.typing import Array

__all__ = ["Program", "compiled", "forget", "initial", "memory"]

Program = Any
"""What ``jax.jit(…).lower(…).compile()`` returns."""

_PROGRAMS: OrderedDict[Any, Program] = OrderedDict()
MOST = 32
"""Programs kept in memory, those used last. A CPU's take 100 MB and hundreds of memory maps each, of which a process has a
limited number."""


def _first(axis: int | None) -> Callable:
    def first(keys: Array, problem: Any, denoiser: Any, sampler: Any, t: Array) -> Any:
        one = jax.vmap(lambda key, problem: sampler.init(key, problem, denoiser, t), in_axes=(0, axis))
        return one(keys, problem)

    return first


def _advance(axis: int | None) -> Callable:
    def advance(keys: Array, state: Any, problem: Any, denoiser: Any, sampler: Any, steps: Any) -> Any:
        # All arguments are given, as ``sample`` does: JAX then uses a trace of ``sample`` again.
        one = jax.vmap(lambda k, x, p: run(k, x, denoiser, p, sampler, steps, None, None), in_axes=(0, 0, axis))
        state, info = one(keys, state, problem)
        return state, info.residual

    return advance


def initial(placement: Placement, batched: bool, *arguments: Any) -> Any:
    """The states that a batch starts from; ``arguments``: keys, problem, denoiser, sampler, first timestep."""
    return _initial(placement, batched)(*arguments)


@functools.cache
def _initial(placement: Placement, batched: bool) -> Callable:
    return jax.jit(placement.shard(_first(0 if batched else None), (True, True, False, False, False)))


def compiled(placement: Placement, batched: bool, *arguments: Any) -> Program:
    """A chunk's program, compiled ahead of time so that a clock around its call sees the run alone.

    The state that goes in is used up: its memory becomes that of the state that comes out.

    Args:
        placement: the devices.
        batched: whether there is a problem.
        *arguments: keys, state, problem, denoiser, sampler, (index, t, s); arrays or their shapes.
    """
    leaves, structure = jax.tree.flatten(arguments)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    key = (placement, structure, shapes)
    if key not in _PROGRAMS:
        function = placement.shard(_advance(0 if batched else None), (True, True, True, False, False, False))
        _PROGRAMS[key] = jax.jit(function, donate_argnums=1).lower(*arguments).compile()
        if len(_PROGRAMS) > MOST:
            _PROGRAMS.popitem(last=False)
    _PROGRAMS.move_to_end(key)
    return _PROGRAMS[key]


def forget() -> None:
    """Drop every compiled program of this process, those of other ``jax.jit`` functions too; what is needed is made again.

    For jobs of many programs, each needed for a while: without it they fill the memory. With JAX's cache on disk
    (``jaxdiff.compilation_cache``) making one again is reading a file.
    """
    _PROGRAMS.clear()
    _initial.cache_clear()
    jax.clear_caches()


def memory(program: Program) -> float:
    """Bytes that a program takes on each device while it runs: arguments, results, and what is in between."""
    try:
        found = program.memory_analysis()
    except (NotImplementedError, RuntimeError):  # some backends do not tell
        return 0.0
    if found is None:
        return 0.0
    sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes", "generated_code_size_in_bytes")
    return float(sum(getattr(found, size, 0) for size in sizes) - getattr(found, "alias_size_in_bytes", 0))
