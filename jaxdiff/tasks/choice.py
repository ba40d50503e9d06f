"""The default method: the best one known for a task and a number of network calls.

``best.json`` has, by prior and task, the best entry of each budget: {"calls", "method", "options", "network_calls"}.
``python -m benchmarks.leaderboard --settle`` writes it. "published" has the best methods with published settings, by task and
by kind of operator. They serve priors and operators that have no record. "noise models" has methods for noise that is not
Gaussian.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import jax

from jaxdiff._checks import count, number
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.network_calls import calls_of, steps_within
from jaxdiff.noise import Gaussian, NoiseModel
from jaxdiff.operators.base import LinearOperator, Operator, SpectralOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for
from jaxdiff.tasks.catalogue import get_task
from jaxdiff.tasks.recorded import factory
from jaxdiff.typing import Shape

__all__ = ["KINDS", "Best", "Default", "best", "default_for", "kind_of"]

KINDS: dict[type[Operator], str] = {
    SpectralOperator: "operators whose singular values are known",
    LinearOperator: "linear operators",
    Operator: "non-linear operators",
}
"""The kinds of operators in words, beginning with the kind that can do most."""
NO_RECORD = "; its settings are the published ones, since this prior has none on record for this task"


class Default(NamedTuple):
    """A method to use.

    Attributes:
        method: its name.
        options: all its settings, or None for those recorded for the task.
        why: a description for the user.
        calls: the network calls to make, or None for all that are allowed. For some methods, more are not better.
    """

    method: str
    options: dict[str, Any] | None
    why: str
    calls: int | None = None


class Best(NamedTuple):
    """The best method known, ready to run: ``jd.sample(key, denoiser, problem, best.sampler, steps=best.steps)``.

    Attributes:
        method: its name.
        sampler: the method, with its settings.
        steps: the number of steps of a run.
        calls: the network calls (forward passes) of a run.
        why: one sentence.
    """

    method: str
    sampler: Sampler
    steps: int
    calls: int
    why: str


def best(
    task: str | Operator | Problem,
    denoiser: DenoiserLike,
    *,
    calls: int = 100,
    noise: float | NoiseModel | None = None,
) -> Best:
    """The best method known for a task, within a number of network calls.

    ``jaxdiff restore`` uses this method if you do not name one.

    Args:
        task: its name. It can also be your own operator or a problem. Then the kind of the operator decides.
        denoiser: the prior. Its name decides which record is used.
        calls: network calls (forward passes) that are allowed for an image. The method makes fewer if more do not help.
        noise: noise of the measurement, by default that of the problem or the task. The chosen method can use it.

    Raises:
        ValueError: if the task is unknown, or if the calls are not enough for one step.
    """
    count("calls", calls)
    if noise is not None and not isinstance(noise, NoiseModel):
        number("noise", noise)
    name, shape = getattr(denoiser, "name", ""), tuple(denoiser.image_shape)
    chosen = default_for(task, name, calls, image_shape=shape, noise=noise)
    sampler = factory(chosen.method)(**(chosen.options or {}))
    steps = steps_within(sampler, denoiser, chosen.calls or calls)
    made = calls_of(sampler, len(grid_for(denoiser, sampler, steps).t)).forward
    return Best(chosen.method, sampler, steps, made, f"{chosen.method} is {chosen.why}.")


@cache
def _recorded() -> dict[str, Any]:
    return json.loads(resources.files("jaxdiff.tasks").joinpath("best.json").read_text("utf-8"))


def default_for(
    task: str | Operator | Problem,
    prior: str,
    calls: int,
    table: Mapping[str, Any] | None = None,
    image_shape: Shape = (64, 64, 3),
    noise: float | NoiseModel | None = None,
) -> Default:
    """The best method for a task within a number of network calls.

    The record of the prior and the task, or of the task's family, is used if there is one. If not, it is the method that was
    best with published settings: for the task or its family, or on average for operators of its kind. A record has an entry
    for each budget. The entry with the largest budget within ``calls`` is used, or the one with the smallest budget.

    Args:
        task: its name, an operator or a problem.
        prior: its name.
        calls: network calls that are allowed for an image.
        table: a table that replaces the recorded one.
        image_shape: (H, W, C). If the kind of a task is not known, its operator is made for this shape.
        noise: noise of the measurement, by default that of the problem or the task. For a noise model, the method is one
            that follows its likelihood, for any operator.

    Raises:
        ValueError: if the task is unknown.
    """
    table = _recorded() if table is None else table
    if noise is None:
        noise = _noise_of(task)
    if isinstance(noise, NoiseModel) and not isinstance(noise, Gaussian):  # which is a σ
        return _within(
            table["noise models"], calls, f"a method that follows the likelihood of {noise.title}", NO_RECORD
        )
    named = (task, get_task(task).family) if isinstance(task, str) else ()
    own, published = table.get(prior, {}), table.get("published", {})
    for entry in named:
        if own.get(entry):
            return _within(own[entry], calls, f"the best known for {entry} with {prior}")
    for entry in named:
        if published.get(entry):
            return _within(published[entry], calls, f"the best known for {entry}", NO_RECORD)
    kind = kind_of(task, image_shape)
    return _within(published[kind.__name__], calls, f"the best on average for {KINDS[kind]}", NO_RECORD)


def _within(entries: list[dict[str, Any]], calls: int, what: str, note: str = "") -> Default:
    entries = sorted(entries, key=lambda entry: entry["calls"])
    chosen = next((entry for entry in reversed(entries) if entry["calls"] <= calls), entries[0])
    spent = min(calls, chosen["network_calls"])
    why = f"{what} within {chosen['calls']} network calls, using {spent}{note}"
    return Default(chosen["method"], chosen["options"], why, spent)


def _noise_of(task: str | Operator | Problem) -> float | NoiseModel | None:
    """The noise of a task or a problem, or None."""
    if isinstance(task, str):
        return get_task(task).measured_with()
    return task.noise if isinstance(task, Problem) else None


def kind_of(task: str | Operator | Problem, image_shape: Shape = (64, 64, 3)) -> type[Operator]:
    """The kind of a task's operator: the first of ``KINDS`` that fits.

    Raises:
        ValueError: if it is not a task.
    """
    operator: Any = task
    if isinstance(task, str):
        operator = get_task(task).make(jax.random.key(0), image_shape)
    elif isinstance(task, Problem):
        operator = task.operator
    if not isinstance(operator, Operator):
        raise ValueError(f"{operator!r} is no task: give a name, an operator or a problem.")
    return next(kind for kind in KINDS if isinstance(operator, kind))
