"""A task: how its operator is made, its noise as the paper prints it, and the name under which its settings are recorded."""

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

    In some codes, "σ = 0.05" is a standard deviation on [-1, 1]. In others, it is on [0, 1], which is twice as much noise.

    Attributes:
        std: the number.
        scale: the range of the images to which it is added, "[-1, 1]" or "[0, 1]". For "[0, 1]", it is doubled.
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
        make: (key, image_shape) → operator. The key is for random parts.
        noise: the noise, as the paper prints it.
        about: one line.
        family: the task whose settings are used if this task has none.
        origin: "default" for the short names, else the code that the task is from.
        seed: the seed of the original code, or 0 if it has none. Our random numbers differ from theirs.
        model: the noise model for ``jd.noise.named``, such as "poisson:1". It is empty for Gaussian noise.
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
            name: name of the noise, "gaussian" or a name for ``jd.noise.named``. By default, it is the task's noise.
            std: σ of Gaussian noise. By default, it is the task's σ.

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
        name: name of the task.
        operator: A.
        noise_std: σ on [-1, 1]. It is 0 if the noise is a model.
        noise: the model for ``jd.observe``. It is None if there is no noise. Then give ``noise_std``.
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
