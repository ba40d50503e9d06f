"""What a task is: how its operator is built, its noise as printed, and under which name settings for it are recorded."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from jaxdiff.noise import NoiseModel, named
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
        model: the noise model as ``jd.noise.named`` takes it, such as "poisson:1"; empty for Gaussian noise.
    """

    make: Make
    noise: Noise
    about: str
    family: str = ""
    origin: str = "own"
    seed: int = 0
    model: str = ""

    @property
    def noise_std(self) -> float:
        """σ on [-1, 1]."""
        return self.noise.on_symmetric_scale

    @property
    def shown_noise(self) -> str:
        """The noise in a few words, for lists."""
        return self.model or f"σ = {self.noise.std:g} on {self.noise.scale}"

    def measured_with(self, name: str | None = None, std: float | None = None) -> float | NoiseModel:
        """The noise of a measurement, as ``jd.observe`` takes it.

        Args:
            name: of the noise, "gaussian" or what ``jd.noise.named`` takes; the task's own by default.
            std: σ of Gaussian noise; the task's own by default.

        Raises:
            ValueError: if the noise is unknown, or σ is given with a model or missing without one.
        """
        model = self.model if name is None else name
        if model not in ("", "gaussian"):
            if std is not None:
                raise ValueError(f"σ = {std:g} is of Gaussian noise, but this is {model}; name gaussian, or give no σ.")
            return named(model)
        if std is None and self.model:
            raise ValueError(f"the noise of this task is {self.model}; give σ for Gaussian noise.")
        return self.noise_std if std is None else std


class Setup(NamedTuple):
    """A task ready to run.

    Attributes:
        name: of the task.
        operator: A.
        noise_std: σ on [-1, 1]; 0 where the noise is a model's.
        noise: the model, for ``jd.observe``; None where there is no noise, so that ``noise_std`` has to be given.
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
