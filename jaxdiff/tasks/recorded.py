"""The settings of each method for a task, from a search with this prior or as published, and a sampler by name."""

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from jaxdiff.names import load, unknown
from jaxdiff.noise import Gaussian, NoiseModel
from jaxdiff.samplers import METHODS
from jaxdiff.samplers.base import Sampler
from jaxdiff.tasks.catalogue import get_task
from jaxdiff.typing import Array

__all__ = ["defaults_of", "factory", "sampler", "settings"]


@cache
def _recorded() -> dict[str, Any]:
    return json.loads(resources.files("jaxdiff.tasks").joinpath("settings.json").read_text("utf-8"))


def settings(
    method: str,
    task: str | None = None,
    prior: str | None = None,
    table: Mapping[str, Any] | None = None,
    noise: float | NoiseModel | None = None,
) -> dict[str, Any]:
    """The settings of a method for a task: from our search with this prior, or the published ones.

    ``settings.json`` records both. ``benchmarks/search.py`` wrote the former, on images that are in no table. If a task has no
    settings, those of its family are used, and then the method's settings for all tasks.

    Args:
        method: its name.
        task: its name, or None for the method's settings for all tasks.
        prior: the name under which settings were recorded, or None for the published ones.
        table: settings from ``jaxdiff tune`` (``read_settings``), which replace the recorded ones.
        noise: noise of the measurement, by default that of the task. The searches had Gaussian noise, so they are not used
            for a noise model.

    Raises:
        ValueError: if the method or the task is unknown, or ``table`` does not have this method, task and prior.

    >>> settings("dps", "gaussian_blur")
    {'zeta': 0.3}
    """
    if ":" not in method and method not in METHODS:
        raise unknown("method", method, METHODS)
    known = None if task is None else get_task(task)
    noise = float(noise.std) if isinstance(noise, Gaussian) else noise
    entries = ("default",) if known is None else (task, known.family, "default")
    if table is not None:
        tables = [table.get(prior or "", {})]
    elif isinstance(noise, NoiseModel) or (noise is None and known is not None and known.model):
        tables = [_recorded()["noise models"], _recorded()["published"]]
    else:
        tables = [_recorded().get(prior or "", {}), _recorded()["published"]]
    for held in tables:
        for entry in entries:
            if method in held.get(entry, {}):
                return dict(held[entry][method])
    if table is None:
        return {}
    others = [
        f"{m} on {t} with {p}" for p, tasks in table.items() if p != "provenance" for t in tasks for m in tasks[t]
    ]
    raise ValueError(
        f"these settings say nothing of {method} on {task} with {prior}; they hold {'; '.join(others) or 'none'}."
    )


def defaults_of(method: str, prior: str) -> dict[str, Any]:
    """A table of settings with which a method uses its own defaults for all tasks."""
    return {prior: {"default": {method: {}}}}


def factory(method: str) -> Callable[..., Any]:
    """The function that makes a method's sampler.

    Args:
        method: its name, or ``package.module:factory`` for your own method.

    Raises:
        ValueError: if the method is unknown. The sentence suggests a similar name.
    """
    if ":" in method:
        found = load(method)
        if not callable(found):
            raise ValueError(f"{method!r} is no method; let it be a function that returns a sampler.")
        return found
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    return METHODS[method].make


def sampler(
    method: str,
    task: str,
    prior: str | None = None,
    *,
    table: Mapping[str, Any] | None = None,
    noise: float | NoiseModel | None = None,
    **options: float | int | str | Array,
) -> Sampler:
    """A sampler by name, with the settings recorded for the task.

    Args:
        method: its name, or ``package.module:factory``.
        task: its name.
        prior: the name under which settings were recorded, or None for the published ones.
        table: settings from ``jaxdiff tune``, which replace the recorded ones.
        noise: noise of the measurement, by default that of the task.
        options: replace some of the settings.

    Raises:
        ValueError: if a name is unknown, or the method does not have an option.

    >>> round(float(sampler("dps", "gaussian_blur").zeta), 3)
    0.3
    """
    make = factory(method)
    chosen = {**settings(method, task, prior, table, noise), **options}
    known = inspect.signature(make).parameters
    for name in chosen:
        if name not in known:
            raise ValueError(f"{method} does not take {name!r}; its options are {', '.join(known)}.")
    try:
        made = make(**chosen)
    except TypeError as error:
        raise ValueError(f"{method!r} must be a function that returns a sampler, but it fails: {error}.") from error
    if not isinstance(made, Sampler):
        raise ValueError(f"{method!r} returned {made!r}, which is no sampler: derive it from jd.samplers.Sampler.")
    return made
