"""Where a run's numbers and pictures go besides its own files: TensorBoard, Weights & Biases, or a writer of your own."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.files import to_uint8

__all__ = ["WRITERS", "TensorBoard", "WandB", "Writer", "writer_named"]


class Writer:
    """Gets what a run reports; this one drops it. Subclass it to send a run's numbers elsewhere."""

    def begin(self, step: int, config: dict[str, Any]) -> None:
        """The run begins after ``step`` updates, with a configuration as plain values.

        Raises:
            ValueError: if nothing can be written.
        """

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Take scalars by name, and pictures [H, W, C] in [-1, 1] by name, of the state after ``step`` updates."""

    def close(self) -> None:
        """The run has ended, well or not."""


class TensorBoard(Writer):
    """Event files in a folder, by tensorboardX. A run that goes on drops what was written after its checkpoint."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ValueError(_missing("tensorboard", "tensorboardX")) from None
        self._make, self._folder, self._writer = SummaryWriter, Path(folder), None

    def begin(self, step: int, config: dict[str, Any]) -> None:
        """Open the event file."""
        del config
        self._writer = self._make(str(self._folder), purge_step=step + 1 if step else None)

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Append to the event file."""
        assert self._writer is not None
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        for name, pixels in images.items():
            self._writer.add_image(name, to_uint8(pixels), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


class WandB(Writer):
    """A run of Weights & Biases, in the project ``jaxdiff`` or that of ``WANDB_PROJECT``; ``WANDB_MODE`` is obeyed."""

    def __init__(self, folder: str | Path) -> None:
        try:
            import wandb
        except ImportError:
            raise ValueError(_missing("wandb", "wandb")) from None
        self._wandb, self._folder, self._run = wandb, Path(folder), None

    def begin(self, step: int, config: dict[str, Any]) -> None:
        """Begin the run, or go on with that of the same folder."""
        del step
        try:
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", "jaxdiff"),
                name=self._folder.name,
                id=hashlib.sha256(str(self._folder.resolve()).encode()).hexdigest()[:12],
                resume="allow",
                dir=str(self._folder),
                config=config,
                settings=self._wandb.Settings(silent=True),
            )
        except Exception as error:  # no key, no network, a server's refusal
            why = " ".join(str(error).split())[:200]
            raise ValueError(
                f"Weights & Biases cannot begin ({why}); run wandb login, or set WANDB_MODE=offline."
            ) from None

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Log under the update's number."""
        assert self._run is not None
        pictures = {name: self._wandb.Image(to_uint8(pixels)) for name, pixels in images.items()}
        self._run.log({**scalars, **pictures, "update": step})

    def close(self) -> None:
        """End the run; what is left is sent."""
        if self._run is not None:
            self._run.finish()


def _missing(extra: str, package: str) -> str:
    return f"--log-to {extra} needs {package}; install it with pip install 'jaxdiff[{extra}]'."


WRITERS: dict[str, Callable[[Path], Writer]] = {
    "tensorboard": lambda out: TensorBoard(out / "tensorboard"),
    "wandb": WandB,
}
"""Name → what makes the writer of a run's folder."""


def writer_named(name: str, out: str | Path) -> Writer:
    """The writer of that name for the run in ``out``.

    Raises:
        ValueError: if there is none, or its library is not installed.
    """
    if name not in WRITERS:
        raise ValueError(f"--log-to {name} is not possible: choose {' or '.join(WRITERS)}.")
    return WRITERS[name](Path(out))
