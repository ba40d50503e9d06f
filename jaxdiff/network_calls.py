"""How each method is meant to be run: its grid of times, whether x̂₀ is clipped, and what a run costs in network calls."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.denoisers import DenoiserLike, Prediction
from jaxdiff.diffusion import eps_from_x0
from jaxdiff.operators import denoise
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.grids import karras_grid
from jaxdiff.samplers.loop import grid_for
from jaxdiff.schedules import NoiseSchedule, RepeatedTimestepError, TimeGrid, linear
from jaxdiff.typing import Array, Shape, static

__all__ = ["Calls", "calls_of", "grid_of", "grid_within", "prior_for", "spacing_of", "steps_within"]

SPACINGS = {"diffpir": "quad", "fast_dips": "karras", "annealed_langevin": "log_snr"}
"""How steps are spread, where a method's paper asks for something else than "dps"."""
RANGES = {"daps": (0.1, 100.0), "pnp_dm": (0.02, 10.0)}
"""σ_min and σ_max of a Karras grid, for methods that neither begin at pure noise nor end at the clean image. PnP-DM's
reaches below every floor of ρ that it may have, since it stays there and draws."""
UNCLIPPED = ("mmps", "tmpd")
"""Methods that solve with the derivative of x̂₀ as its covariance: where it is clipped that would be 0."""


def spacing_of(method: str) -> str:
    """How the method's steps are spread by default."""
    return "karras" if method in RANGES else SPACINGS.get(method, "dps")


def prior_for(method: str, denoiser: Any) -> Any:
    """The denoiser as the method needs it: x̂₀ not clipped for those that take its derivatives for a covariance."""
    return denoiser.replace(clip=False) if method in UNCLIPPED and hasattr(denoiser, "clip") else denoiser


def grid_of(method: str, sampler: Sampler, denoiser: DenoiserLike, steps: int, spacing: str | None = None) -> TimeGrid:
    """The timesteps of a run of ``steps``, spread as the method asks for unless ``spacing`` is given.

    Raises:
        ValueError: if the spacing has no grid of so many steps, or none lies below the sampler's start.
    """
    if spacing is None and method in RANGES:
        low, high = RANGES[method]
        return grid_for(denoiser, sampler, karras_grid(denoiser.schedule, steps, sigma_min=low, sigma_max=high))
    try:
        return grid_for(denoiser, sampler, steps, spacing or spacing_of(method))
    except RepeatedTimestepError as error:
        raise RepeatedTimestepError(f"{method} cannot run so long: {error}") from None


def grid_within(
    method: str, sampler: Sampler, denoiser: DenoiserLike, calls: int, spacing: str | None = None
) -> TimeGrid:
    """The timesteps of the longest run of at most ``calls`` forward passes of the network; see ``steps_within``."""
    return grid_of(method, sampler, denoiser, steps_within(method, sampler, denoiser, calls, spacing), spacing)


def steps_within(method: str, sampler: Sampler, denoiser: DenoiserLike, calls: int, spacing: str | None = None) -> int:
    """The largest ``steps`` whose run makes at most ``calls`` forward passes of the network.

    Raises:
        ValueError: if a single step needs more.
    """
    step, last = _cost(sampler, denoiser)
    allowed = max(0, 1 + (calls - last.forward) // step.forward)
    total = denoiser.schedule.num_steps

    def length(steps: int) -> int:
        try:
            return len(grid_of(method, sampler, denoiser, steps, spacing).t)
        except RepeatedTimestepError:
            return allowed + 1
        except ValueError:  # so few steps that none lies below the sampler's start
            if steps == total:
                raise  # not for want of steps
            return 0

    length(total)  # refuses what no number of steps can mend
    low, high = 0, total
    while low < high:  # the length grows with the number of steps
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(middle) <= allowed else (low, middle - 1)
    if low == 0 or length(low) == 0:
        raise ValueError(f"{method} with these settings needs more than {calls} network calls.")
    return low


class Calls(NamedTuple):
    """Passes through the network, forward and backward."""

    forward: int
    backward: int


def calls_of(sampler: Sampler, denoiser: DenoiserLike, steps: int) -> Calls:
    """What a run of so many steps costs, counted in the program itself: loops by their length, particles one by one.

    A step with branches is counted by its cheapest, but the last of a run by its dearest: a method that ends otherwise than
    it goes on does more there.
    """
    step, last = _cost(sampler, denoiser)
    return Calls(*((steps - 1) * each + final for each, final in zip(step, last, strict=True)))


def _cost(sampler: Sampler, denoiser: DenoiserLike) -> tuple[Calls, Calls]:
    """Of a step, and of the last."""
    leaves, structure = jax.tree.flatten(sampler)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    return _count(structure, shapes, denoiser.schedule.num_steps)


@cache
def _count(structure: Any, shapes: tuple, num_train_steps: int) -> tuple[Calls, Calls]:
    sampler = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    schedule = linear(num_train_steps)
    shape = (2, 2, 1)
    problem = Problem(denoise(image_shape=shape), jnp.zeros(shape), jnp.asarray(0.1, jnp.float32))
    marked = _Marked(schedule, image_shape=shape)
    key = jax.random.key(0)

    def step(sampler: Sampler, t: Array, s: Array) -> Any:
        state = sampler.init(key, problem, marked, t)
        return sampler.step(key, state, t, s, problem, marked)

    moment = jax.ShapeDtypeStruct((), jnp.float32)
    program = jax.make_jaxpr(step)(sampler, moment, moment).jaxpr
    each, last = (Calls(*(_occurrences(program, name, of) for name in ("digamma", "lgamma"))) for of in (min, max))
    return each, last


@jax.custom_vjp
def _mark(x: Array) -> Array:
    """The identity; it leaves one digamma in the program on the way forward and one lgamma on the way back."""
    return x + jax.lax.digamma(jnp.reshape(x, -1)[:1]).reshape((1,) * x.ndim)


def _mark_forward(x: Array) -> tuple[Array, None]:
    return _mark(x), None


def _mark_backward(_: None, cotangent: Array) -> tuple[Array]:
    return (cotangent + jax.lax.lgamma(jnp.reshape(cotangent, -1)[:1]).reshape((1,) * cotangent.ndim),)


_mark.defvjp(_mark_forward, _mark_backward)


@struct.dataclass
class _Marked:
    """A denoiser whose passes can be found in a program."""

    schedule: NoiseSchedule
    image_shape: Shape = static(default=())

    def __call__(self, x_t: Array, t: Array, s: Array | None = None) -> Prediction:
        x0 = _mark(x_t)
        return Prediction(x0, eps_from_x0(x_t, x0, self.schedule.at(t)), None)


def _occurrences(program: Any, name: str, of_branches: Callable[[list[int]], int]) -> int:
    """How often a primitive on one number runs: a batch of N counts N times, a loop's body as often as it is gone through.

    ``of_branches`` says which branch of a condition counts.
    """
    total = 0
    for equation in program.eqns:
        kind, params = equation.primitive.name, equation.params
        if kind == name:
            total += int(equation.outvars[0].aval.size)
            continue
        bodies = [params["call_jaxpr"]] if kind == "custom_vjp_call" else _programs(tuple(params.values()))
        counts = [_occurrences(getattr(body, "jaxpr", body), name, of_branches) for body in bodies]
        inside = of_branches(counts) if kind == "cond" else sum(counts)
        total += inside * (params.get("length", 1) if kind == "scan" else 1)
    return total


def _programs(value: Any) -> list[Any]:
    if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        return [value]
    return [program for item in value for program in _programs(item)] if isinstance(value, tuple | list) else []
