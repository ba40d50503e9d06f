"""The tasks by name. Each can be made for any image size.

``get("dps/gaussian_blur")`` is a row of a paper's table at 256x256. ``get("gaussian_blur")`` is our own task of this kind.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import noise
from jaxdiff._checks import check_image_shape, check_key, shown
from jaxdiff.names import load, nearest, unknown
from jaxdiff.operators.base import Operator
from jaxdiff.tasks.own import OWN, SHORT
from jaxdiff.tasks.published import POISSON, PUBLISHED
from jaxdiff.tasks.task import LIGHT, Setup, Task
from jaxdiff.typing import Key, Shape

__all__ = ["TASKS", "get", "get_task", "names"]

TASKS: dict[str, Task] = {**SHORT, **PUBLISHED, **OWN, **POISSON}
"""Name → task: the short names, then "origin/task"."""


def names(origin: str | None = None) -> list[str]:
    """The names of all tasks, or of those with one origin ("default", "dps", "daps", …)."""
    return [name for name, task in TASKS.items() if origin in (None, task.origin)]


def get(name: str, image_shape: Shape = (256, 256, 3), key: Key | None = None) -> Setup:
    """Make the operator and the noise of a task.

    Args:
        name: a short name, or "origin/task". See :func:`names`.
        image_shape: (H, W, C).
        key: for random parts. By default, the task's seed makes it.

    Raises:
        ValueError: if the task is unknown, or the image does not suit it. The sentence suggests a similar name.

    >>> setup = get("ddrm/sr4", (64, 64, 3))
    >>> setup.operator.measurement_shape, round(float(setup.noise_std), 3)
    ((16, 16, 3), 0.1)
    """
    task = get_task(name)
    if key is not None:
        check_key(key)
    operator = task.make(jax.random.key(task.seed) if key is None else key, check_image_shape(image_shape))
    model: noise.NoiseModel | None = noise.gaussian(task.noise_std) if task.noise_std > 0 else None
    if task.model:
        model = noise.named(task.model)
    return Setup(name, operator, jnp.asarray(task.noise_std, jnp.float32), model, task.noise, task.about)


def get_task(name: str) -> Task:
    """The task with this name.

    Args:
        name: a short name, "origin/task", or ``package.module:factory`` for your own task. The latter is a function
            (key, image_shape) → operator, or a :class:`Task`.

    Raises:
        ValueError: if the task is unknown. The sentence suggests a similar name.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"{shown(name)} is not the name of a task; give one such as 'inpaint_box', see jd.tasks.names()."
        )
    if ":" in name:
        return _own(name)
    if name in TASKS:
        return TASKS[name]
    if name.endswith("/nonlinear_blur"):
        raise ValueError(f"{name!r} needs a third party's network; jaxdiff has 'jaxdiff/camera_blur' instead.")
    if "/" in name:
        close = nearest(name, TASKS)
        hint = f" Did you mean {close!r}?" if close else ""
        raise ValueError(f"unknown task {name!r}; jaxdiff tasks lists the published ones.{hint}")
    raise unknown("task", name, names("default"))


def _own(name: str) -> Task:
    found = load(name)
    if isinstance(found, Task):
        return found
    if not callable(found) or isinstance(found, Operator):
        raise ValueError(f"{name!r} is no task; let it be a function (key, image_shape) → operator.")
    about = (found.__doc__ or name).strip().split("\n")[0]
    return Task(partial(_made, name, found), LIGHT, about)


def _made(name: str, make: Callable[..., Any], key: Key, shape: Shape) -> Operator:
    """The operator of a task of one's own."""
    try:
        operator = make(key, shape)
    except TypeError as error:
        raise ValueError(
            f"{name!r} must be a function (key, image_shape) → operator, but it fails: {error}."
        ) from error
    if not isinstance(operator, Operator):
        raise ValueError(
            f"{name!r} returned {shown(operator)}, which is no operator: derive it from jd.operators.LinearOperator or "
            "jd.operators.Operator."
        )
    return operator
