"""What a task is: how its operator is built, its noise as printed, and under which name settings for it are recorded."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from jaxdiff.noise import NoiseModel
from jaxdiff.operators.base import Operator
from jaxdiff.typing import Array, Key, Shape

__all__ = ["CLEAN", "DOUBLED", "LIGHT", "Make", "Noise", "Rows", "Setup", "Task", "table"]

Make = Callable[[Key, Shape], Operator]
"""(key, image_shape) → operator; the key places what is random."""


class Noise(NamedTuple):
    """A noise level as its source prints it.

    The same "σ = 0.05" is a standard deviation on [-1, 1] in some codes and on [0, 1], half as strong, in others.

    Attributes:
        std: the number.
        scale: the range of the images it is added to: "[-1, 1]", or "[0, 1]", where it is doubled.
    """

    std: float
    scale: Literal["[-1, 1]", "[0, 1]"] = "[-1, 1]"

    @property
    def on_symmetric_scale(self) -> float:
        """The standard deviation on [-1, 1]."""
        return self.std * (2 if self.scale == "[0, 1]" else 1)


LIGHT = Noise(0.05)
DOUBLED = Noise(0.05, "[0, 1]")
CLEAN = Noise(0.0)


class Task(NamedTuple):
    """A forward model by name.

    Attributes:
        make: (key, image_shape) → operator; the key places what is random.
        noise: as printed.
        about: one line.
        family: the task under whose name settings are recorded, where there are none under its own.
        origin: "default" for the short names, else the code that the task is from.
        seed: that the source's code sets, or 0 where it sets none; the draws themselves are ours.
        poisson: photons per grey level, where the noise is Poisson's.
    """

    make: Make
    noise: Noise
    about: str
    family: str = ""
    origin: str = "own"
    seed: int = 0
    poisson: float | None = None

    @property
    def noise_std(self) -> float:
        """σ on [-1, 1]."""
        return self.noise.on_symmetric_scale


class Setup(NamedTuple):
    """A task ready to run.

    Attributes:
        name: of the task.
        operator: A.
        noise_std: σ on [-1, 1] (0 for Poisson noise, which ``observe`` does not draw: ``noise.sample`` does).
        noise: the model to draw from and to take the likelihood of; None where there is no noise. Samplers know one σ: for
            Poisson noise give ``Problem`` one near its spread, √(2 (y + 1)/(255 rate)).
        published: the noise level as the source prints it.
        about: one line.
    """

    name: str
    operator: Operator
    noise_std: Array
    noise: NoiseModel | None
    published: Noise
    about: str


Rows = Mapping[str, tuple[Make, Noise, str] | tuple[Make, Noise, str, str]]
"""Name → how to build it, noise, one line, and the family if that is not the name itself."""


def table(origin: str, rows: Rows, seed: int = 0) -> dict[str, Task]:
    """The tasks of an origin by their full names, "origin/name", or the name alone for origin "default"."""
    prefix = "" if origin == "default" else f"{origin}/"
    return {
        prefix + name: Task(row[0], row[1], row[2], row[3] if len(row) == 4 else name, origin, seed)
        for name, row in rows.items()
    }
