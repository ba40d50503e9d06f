"""Restoration tasks by name, settings of each method for them, and the best method for each.

A *task* is a forward model with its noise. *Settings* are a method's hyper-parameters for a task.

>>> setup = get("inpaint_box", (64, 64, 3))
>>> settings("dps", "inpaint_box")
{'zeta': 0.5}
"""

from jaxdiff.tasks.catalogue import TASKS, get, get_task, names
from jaxdiff.tasks.choice import Best, best
from jaxdiff.tasks.measurement import measure
from jaxdiff.tasks.recorded import factory, sampler, settings
from jaxdiff.tasks.task import Noise, Setup, Task

__all__ = [
    "TASKS",
    "Best",
    "Noise",
    "Setup",
    "Task",
    "best",
    "factory",
    "get",
    "get_task",
    "measure",
    "names",
    "sampler",
    "settings",
]
