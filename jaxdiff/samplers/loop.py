"""The only scan: any sampler over any grid of timesteps, whole or in chunks."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler, image_shape_of
from jaxdiff.samplers.grids import NOISE_SPACINGS
from jaxdiff.samplers.options import check_arguments
from jaxdiff.schedules import SPACINGS, TimeGrid, timestep_grid
from jaxdiff.typing import Array, Image, Key

__all__ = ["grid_for", "run", "sample", "start"]


def grid_for(
    denoiser: DenoiserLike, sampler: Sampler, steps: int | str | TimeGrid | None, spacing: str = "dps"
) -> TimeGrid:
    """The timesteps of a run: ``steps`` over the whole schedule, kept below the sampler's ``start``.

    A sampler that visits times more than once (RePaint) has a method ``adapt_grid`` that rewrites the grid.
    """
    check_arguments(denoiser, None, sampler)
    total = denoiser.schedule.num_steps
    if spacing not in (*SPACINGS, *NOISE_SPACINGS):
        raise ValueError(f"unknown spacing {spacing!r}; choose one of {', '.join((*SPACINGS, *NOISE_SPACINGS))}.")
    if not isinstance(steps, TimeGrid):
        steps = total if steps is None else steps
        if spacing in SPACINGS:
            steps = timestep_grid(total, steps, spacing)
        elif isinstance(steps, str):
            raise ValueError(
                f"steps={steps!r} names timesteps, which spacing={spacing!r} places itself; give a number."
            )
        else:
            steps = NOISE_SPACINGS[spacing](denoiser.schedule, steps)
    _check_grid(steps, total)
    grid = steps.below(sampler.start)
    adapt = getattr(sampler, "adapt_grid", None)
    return grid if adapt is None else adapt(grid)


def _check_grid(grid: TimeGrid, total: int) -> None:
    if isinstance(grid.t, jax.core.Tracer) or isinstance(grid.s, jax.core.Tracer):
        return
    t, s = np.asarray(grid.t), np.asarray(grid.s)
    if t.ndim != 1 or t.shape != s.shape or len(t) == 0:
        raise ValueError(f"a TimeGrid needs as many t as s, and at least one; got shapes {t.shape} and {s.shape}.")
    if not ((t >= 0) & (t <= total - 1)).all() or not ((s >= -1) & (s <= total - 1)).all():
        raise ValueError(f"a TimeGrid for {total} timesteps has t in [0, {total - 1}] and s in [-1, {total - 1}].")


def start(
    key: Key,
    denoiser: DenoiserLike,
    problem: Problem | None,
    sampler: Sampler,
    grid: TimeGrid,
    x_init: Image | None = None,
) -> Any:
    """The sampler's state at the first timestep of ``grid``, at ``x_init`` where one is given.

    Raises:
        ValueError: if ``x_init`` has not the image's shape, or y is not as the operator measures, not finite, or of a
            higher precision than the prior.
    """
    check_arguments(denoiser, problem, sampler)
    if x_init is not None and x_init.shape != image_shape_of(problem, denoiser):
        raise ValueError(f"x_init has shape {x_init.shape}; this run needs {image_shape_of(problem, denoiser)}.")
    state = sampler.init(key, problem, denoiser, jnp.asarray(grid.t[0]))
    if x_init is None:
        return state
    x_init = x_init.astype(state.x.dtype)
    restart = getattr(sampler, "restart", None)  # samplers whose state holds more copies of x say how
    return state._replace(x=x_init) if restart is None else restart(state, x_init)


def stretch(grid: TimeGrid) -> tuple[Array, Array, Array]:
    """The whole of a grid as the (index, t, s) that ``run`` takes."""
    return jnp.arange(len(grid.t)), jnp.asarray(grid.t), jnp.asarray(grid.s)


@partial(jax.jit, static_argnames="checkpoint")
def run(
    key: Key,
    state: Any,
    denoiser: DenoiserLike,
    problem: Problem | None,
    sampler: Sampler,
    steps: tuple[Array, Array, Array],
    noise: Array | None = None,
    checkpoint: str | int | None = None,
) -> tuple[Any, Any]:
    """Advance ``state`` through a stretch of a grid.

    Step i of the whole run uses ``fold_in(key, i)``, so a run cut into chunks equals the unbroken one. Compiled on first
    use for each structure of its arguments, also where the caller does not ``jit``.

    Args:
        key: the run's key.
        state: from ``start`` or an earlier ``run``.
        denoiser: the prior.
        problem: what was measured, or None.
        sampler: the method.
        steps: (index, t, s) of the stretch, each [n].
        noise: recorded noise [n, H, W, C], in place of draws by key.
        checkpoint: what a gradient through the run keeps in memory, see ``sample``.

    Returns:
        The state after the stretch, and the infos of its steps stacked.
    """

    def body(state: Any, inputs: tuple[Array, Array, Array, Array | None]) -> tuple[Any, Any]:
        index, t, s, recorded = inputs
        step_key = jax.random.fold_in(key, index) if recorded is None else recorded
        return sampler.step(step_key, state, t, s, problem, denoiser)

    count = steps[0].shape[0]
    return _scan(body, state, (*steps, noise), count, _depth(checkpoint, count))


def _depth(checkpoint: str | int | None, count: int) -> int:
    depths = {None: 0, "step": 1, "sqrt": 2, "log": max(1, int(math.log2(max(count, 2))))}
    if isinstance(checkpoint, int | np.integer) and not isinstance(checkpoint, bool) and checkpoint >= 1:
        return min(int(checkpoint), depths["log"])  # deeper than that there is nothing left to cut
    if checkpoint not in depths:
        raise ValueError(
            f"unknown checkpoint {checkpoint!r}; choose None, 'step', 'sqrt', 'log' or a depth of at least 1."
        )
    return depths[checkpoint]


def _scan(body: Callable, state: Any, inputs: Any, count: int, depth: int) -> tuple[Any, Any]:
    """The scan, nested ``depth`` deep in stretches that a backward pass computes anew.

    The steps are cut into stretches of r^(depth−1), r = ⌊count^(1/depth)⌋, which nest evenly, so the whole nest holds
    ``body`` once; what is left over is nested one level less.
    """
    if depth == 0 or count == 0:
        return jax.lax.scan(body, state, inputs)
    radix = max(2, int(count ** (1 / depth) + 1e-9))
    size = radix ** (depth - 1)
    if depth == 1 or size >= count:
        return _nested(body, 1, radix)(state, inputs) if depth == 1 else _scan(body, state, inputs, count, depth - 1)
    whole = count // size * size
    first = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), inputs)
    stretch = jax.checkpoint(_nested(body, depth - 1, radix), prevent_cse=False)  # type: ignore[arg-type]
    state, infos = jax.lax.scan(stretch, state, first)
    infos = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), infos)
    if whole == count:
        return state, infos
    state, rest = _scan(body, state, jax.tree.map(lambda a: a[whole:], inputs), count - whole, depth - 1)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), infos, rest)


def _nested(body: Callable, depth: int, radix: int) -> Callable:
    """A scan over radix^depth steps (any number for depth 1), each level of which is computed anew going back."""
    if depth == 1:
        return lambda state, inputs: jax.lax.scan(jax.checkpoint(body, prevent_cse=False), state, inputs)  # type: ignore[arg-type]
    inner = jax.checkpoint(_nested(body, depth - 1, radix), prevent_cse=False)  # type: ignore[arg-type]

    def run_level(state: Any, inputs: Any) -> tuple[Any, Any]:
        cut = jax.tree.map(lambda a: a.reshape(radix, -1, *a.shape[1:]), inputs)
        state, infos = jax.lax.scan(inner, state, cut)
        return state, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), infos)

    return run_level


def sample(
    key: Key,
    denoiser: DenoiserLike,
    problem: Problem | None,
    sampler: Sampler,
    *,
    steps: int | str | TimeGrid | None = None,
    spacing: str = "dps",
    x_init: Image | None = None,
    noise: Array | None = None,
    checkpoint: str | int | None = None,
) -> tuple[Image, Any]:
    """Restore (or, with ``problem=None``, draw) one image.

    A pure function: ``jit`` it, ``vmap`` it over keys, measurements, masks or hyper-parameters, ``grad`` through it.

    Args:
        key: the run's key; step i draws from ``fold_in(key, i)``.
        denoiser: the prior.
        problem: operator, measurement and noise level; None to sample from the prior.
        sampler: e.g. ``jd.samplers.dps(zeta=1.0)``.
        steps: how many over the whole schedule (all of it by default; a step may be several network calls),
            guided-diffusion's strings ("ddim50", "10,15,20"), or a ``TimeGrid``. A sampler with a ``start`` goes
            through the part of the grid below it.
        spacing: how ``steps`` are spread, see ``jd.schedules.timestep_grid``; or "karras", "log_snr".
        x_init: start from this x_T instead of a draw.
        noise: recorded noise [number of steps, H, W, C], to replay a reference run.
        checkpoint: what a gradient through the run of N steps keeps: None everything; "step" one state a step; "sqrt"
            about 2√N states, for one more forward pass; "log" about 2 log₂ N, for log₂ N more; a number d in general,
            d N^{1/d} states for d − 1 more. The image is the same.

    Returns:
        The image [H, W, C] after the last step (not clipped), and the sampler's infos, stacked over steps.

    Raises:
        ValueError: if the steps are impossible or shapes do not fit.
    """
    grid = grid_for(denoiser, sampler, steps, spacing)
    init_key, run_key = jax.random.split(key)
    if noise is not None and noise.shape[0] != len(grid.t):
        raise ValueError(f"noise holds {noise.shape[0]} draws, but this run takes {len(grid.t)} steps.")
    state = start(init_key, denoiser, problem, sampler, grid, x_init)
    state, info = run(run_key, state, denoiser, problem, sampler, stretch(grid), noise, checkpoint)
    return state.x, info


def chunks(grid: TimeGrid, size: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut a grid into (index, t, s) stretches of ``size``; a shorter one, if any, comes first."""
    count = len(grid.t)
    first = count % size
    edges = [0, *range(first, count + 1, size)] if first else list(range(0, count + 1, size))
    index = np.arange(count, dtype=np.int32)
    return [(index[a:b], grid.t[a:b], grid.s[a:b]) for a, b in itertools.pairwise(edges)]
