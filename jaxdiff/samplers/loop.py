"""The only scan: any sampler over any grid of timesteps, whole or in chunks."""

import itertools
from functools import partial
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import check_key, concrete
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.problems import Problem
from jaxdiff.samplers.arguments import check_kinds, check_run
from jaxdiff.samplers.base import Sampler, image_shape_of
from jaxdiff.samplers.grids import NOISE_SPACINGS, karras_grid
from jaxdiff.samplers.remat import checkpoint_depth, checkpointed_scan
from jaxdiff.samplers.trajectory import Trajectory, keep, trajectory_of
from jaxdiff.schedules import SPACINGS, NoiseSchedule, RepeatedTimestepError, TimeGrid, timestep_grid
from jaxdiff.schedules.timesteps import longest_grid
from jaxdiff.typing import Array, Image, Key

__all__ = ["as_needed", "chunks", "grid_for", "run", "sample", "start", "whole"]


def grid_for(
    denoiser: DenoiserLike, sampler: Sampler, steps: int | str | TimeGrid | None, spacing: str | None = None
) -> TimeGrid:
    """The timesteps of a run: ``steps`` over the whole schedule, kept below the sampler's ``start``.

    Args:
        denoiser: the prior.
        sampler: the method.
        steps: their number, a string of guided-diffusion, or a grid. None takes as many as the spacing can place.
        spacing: how they are spread. None takes the method's own spacing.

    Raises:
        ValueError: if the spacing is unknown, or has no grid of so many steps.
    """
    check_kinds(denoiser, sampler)
    grid = steps if isinstance(steps, TimeGrid) else _spread(denoiser.schedule, sampler, steps, spacing)
    _check_grid(grid, denoiser.schedule.num_steps)
    return sampler.adapt_grid(grid.below(sampler.start))


def _spread(schedule: NoiseSchedule, sampler: Sampler, steps: int | str | None, spacing: str | None) -> TimeGrid:
    """``steps`` spread over the schedule."""
    total = schedule.num_steps
    if spacing is None:
        if isinstance(steps, str):  # such a name is of guided-diffusion's timesteps
            return timestep_grid(total, steps)
        spacing = sampler.spacing
        if sampler.sigma_range is not None:
            low, high = sampler.sigma_range
            return karras_grid(schedule, total if steps is None else steps, sigma_min=low, sigma_max=high)
    if spacing in NOISE_SPACINGS:
        if isinstance(steps, str):
            raise ValueError(
                f"steps={steps!r} names timesteps, which spacing={spacing!r} places itself; give a number."
            )
        return NOISE_SPACINGS[spacing](schedule, total if steps is None else steps)
    if spacing not in SPACINGS:
        raise ValueError(f"unknown spacing {spacing!r}; choose one of {', '.join((*SPACINGS, *NOISE_SPACINGS))}.")
    if steps is None:
        return longest_grid(total, spacing)
    try:
        return timestep_grid(total, steps, spacing)
    except RepeatedTimestepError as error:
        raise RepeatedTimestepError(f"{sampler.title} cannot run so long: {error}") from None


def as_needed(denoiser: DenoiserLike, sampler: Sampler | type[Sampler]) -> DenoiserLike:
    """The prior as the method needs it: x̂₀ not clipped where its derivatives stand for a covariance."""
    if sampler.clips or not getattr(denoiser, "clip", False):
        return denoiser
    return denoiser.replace(clip=False)  # type: ignore[attr-defined]


def _check_grid(grid: TimeGrid, total: int) -> None:
    if not (concrete(grid.t) and concrete(grid.s)):
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
    """The sampler's state at the first timestep of ``grid``, or at ``x_init`` if you give it.

    Raises:
        ValueError: if ``x_init`` does not have the image's shape, or y does not have the measurement's shape. Also if y is
            not finite, or has a higher precision than the prior.
    """
    check_run(denoiser, problem, sampler)
    if x_init is not None and np.shape(x_init) != image_shape_of(problem, denoiser):
        raise ValueError(f"x_init has shape {np.shape(x_init)}; this run needs {image_shape_of(problem, denoiser)}.")
    state = _begin(key, denoiser, problem, sampler, jnp.asarray(grid.t[0]))
    return state if x_init is None else sampler.restart(state, jnp.asarray(x_init, state.x.dtype))


@jax.jit  # not op by op: the state is that of a compiled run, to the bit
def _begin(key: Key, denoiser: DenoiserLike, problem: Problem | None, sampler: Sampler, t: Array) -> Any:
    return sampler.init(key, problem, as_needed(denoiser, sampler), t)


def whole(grid: TimeGrid) -> tuple[Array, Array, Array]:
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
    denoiser = as_needed(denoiser, sampler)

    def body(state: Any, inputs: tuple[Array, Array, Array, Array | None]) -> tuple[Any, Any]:
        index, t, s, recorded = inputs
        step_key = jax.random.fold_in(key, index) if recorded is None else recorded
        return sampler.step(step_key, state, t, s, problem, denoiser)

    count = steps[0].shape[0]
    return checkpointed_scan(body, state, (*steps, noise), count, checkpoint_depth(checkpoint, count))


@overload
def sample(
    key: Key,
    denoiser: DenoiserLike,
    problem: Problem | None,
    sampler: Sampler,
    *,
    steps: int | str | TimeGrid | None = ...,
    spacing: str | None = ...,
    x_init: Image | None = ...,
    noise: Array | None = ...,
    checkpoint: str | int | None = ...,
    trajectory: None = ...,
) -> tuple[Image, Any]: ...


@overload
def sample(
    key: Key,
    denoiser: DenoiserLike,
    problem: Problem | None,
    sampler: Sampler,
    *,
    steps: int | str | TimeGrid | None = ...,
    spacing: str | None = ...,
    x_init: Image | None = ...,
    noise: Array | None = ...,
    checkpoint: str | int | None = ...,
    trajectory: int,
) -> tuple[Image, Any, Trajectory]: ...


def sample(
    key: Key,
    denoiser: DenoiserLike,
    problem: Problem | None,
    sampler: Sampler,
    *,
    steps: int | str | TimeGrid | None = None,
    spacing: str | None = None,
    x_init: Image | None = None,
    noise: Array | None = None,
    checkpoint: str | int | None = None,
    trajectory: int | None = None,
) -> tuple[Image, Any] | tuple[Image, Any, Trajectory]:
    """Restore one image, or draw one from the prior with ``problem=None``.

    This is a pure function. You can ``jit`` it, ``vmap`` it over keys, measurements, masks or hyper-parameters, and
    differentiate it.

    Args:
        key: a random key. Step i uses ``fold_in(key, i)``.
        denoiser: the prior.
        problem: operator, measurement and noise level; None to draw from the prior.
        sampler: the method, for example ``jd.samplers.dps(zeta=1.0)``.
        steps: the number of steps (by default as many as the schedule allows), a string of guided-diffusion ("ddim50" or
            "10,15,20"), or a ``TimeGrid``. A step may make several network calls. A sampler with a ``start`` uses only the
            steps below it.
        spacing: how the steps are spread: a name of ``jd.schedules.timestep_grid``, "karras", "log_snr" or "flow". None takes
            the method's own way.
        x_init: x_T, if it should not be drawn.
        noise: recorded noise [number of steps, H, W, C], which repeats a run of another code.
        checkpoint: what a gradient through N steps keeps in memory. None keeps everything. "step" keeps one state for each
            step. "sqrt" keeps about 2√N states, and makes one more forward pass. "log" keeps about 2 log₂ N states, and
            makes log₂ N more. A number d keeps about d N^{1/d} states, and makes d − 1 more.
        trajectory: how many states of the run to keep, at equal distances.

    Returns:
        The image [H, W, C] after the last step, not clipped, and the infos of the sampler for all steps. With
        ``trajectory``, also the kept states: timesteps, x_t and x̂₀. Each makes one more network call.

    Raises:
        ValueError: if the steps are impossible or shapes do not fit.
    """
    check_key(key)
    grid = grid_for(denoiser, sampler, steps, spacing)
    init_key, run_key = jax.random.split(key)
    if noise is not None and noise.shape[0] != len(grid.t):
        raise ValueError(f"noise holds {noise.shape[0]} draws, but this run takes {len(grid.t)} steps.")
    state = start(init_key, denoiser, problem, sampler, grid, x_init)
    if trajectory is None:
        state, info = run(run_key, state, denoiser, problem, sampler, whole(grid), noise, checkpoint)
        return state.x, info
    keeping, state, kept = keep(sampler, state, grid, trajectory)
    state, info = run(run_key, state, denoiser, problem, keeping, whole(grid), noise, checkpoint)
    path = _trajectory(as_needed(denoiser, sampler), sampler, jnp.asarray(grid.s)[kept], state.states)
    return state.x, info, path


_trajectory = jax.jit(trajectory_of)


def chunks(grid: TimeGrid, size: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut a grid into (index, t, s) stretches of ``size``; a shorter one, if any, comes first."""
    count = len(grid.t)
    first = count % size
    edges = [0, *range(first, count + 1, size)] if first else list(range(0, count + 1, size))
    index = np.arange(count, dtype=np.int32)
    return [(index[a:b], grid.t[a:b], grid.s[a:b]) for a, b in itertools.pairwise(edges)]
