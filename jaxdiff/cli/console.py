"""What the commands share: checks of numbers, the progress bar, both noise scales."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from jaxdiff.checkpoints import load_denoiser
from jaxdiff.denoisers import Denoiser
from jaxdiff.files import check_folder
from jaxdiff.samplers.grids import NOISE_SPACINGS
from jaxdiff.schedules import SPACINGS

__all__ = [
    "add_batch_size",
    "add_network",
    "add_prior",
    "add_run",
    "check_picture_path",
    "both_scales",
    "check_batch_size",
    "check_noise",
    "check_steps",
    "console",
    "load_prior",
    "progress",
]

console = Console(stderr=True, highlight=False, markup=False)  # paths may hold brackets


def add_prior(parser: argparse.ArgumentParser) -> None:
    """``--prior``, ``--dtype`` and ``--seed``."""
    parser.add_argument(
        "--prior", default="faces64", help="an embedded prior's name, or the path of a converted checkpoint"
    )
    add_network(parser)
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")


def add_network(parser: argparse.ArgumentParser) -> None:
    """``--dtype`` and ``--label``."""
    parser.add_argument("--dtype", default="float32", help="of the network: float32, or bfloat16 for GPUs and TPUs")
    parser.add_argument("--label", type=int, default=None, help="class of a class-conditional prior")


def add_run(parser: argparse.ArgumentParser, *, steps: int) -> None:
    """``--steps``, ``--spacing``, ``--batch_size``."""
    parser.add_argument("--steps", type=int, default=steps, help=f"steps of a whole run (default {steps})")
    spacings = ", ".join((*SPACINGS, *NOISE_SPACINGS))
    parser.add_argument("--spacing", default="dps", help=f"how the steps are spread: {spacings}")
    add_batch_size(parser)


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """``--batch_size``."""
    parser.add_argument("--batch_size", default="auto", help="runs at a time; auto: as many as memory allows (default)")


def check_batch_size(text: str) -> int | str:
    """``--batch_size`` as a number, or "auto".

    Raises:
        ValueError: if it is neither.
    """
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError(f"--batch_size {text} is not possible: a positive whole number, or auto.")
    return int(text)


def check_picture_path(text: str, example: str) -> Path:
    """``--out`` as the path of a picture that can be written.

    Raises:
        ValueError: if it names none, or a folder.
    """
    out = Path(text)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"--out {out} must name a picture such as {example}.")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a picture in it, such as {out / example}.")
    check_folder(out.parent)
    return out


def load_prior(args: argparse.Namespace) -> Denoiser:
    """The denoiser that ``--prior``, ``--dtype`` and ``--label`` name.

    Raises:
        ValueError: if it cannot be loaded, or is class-conditional and there is no label.
    """
    denoiser = load_denoiser(args.prior, dtype=args.dtype, label=args.label)
    classes = denoiser.module.config.num_classes
    if classes is not None and args.label is None:
        raise ValueError(f"{args.prior} is class-conditional; choose a class with --label 0 … {classes - 1}.")
    return denoiser


def check_noise(noise_std: float | None) -> None:
    """``--noise_std``, if it is given.

    Raises:
        ValueError: if it is negative or more than float32 holds.
    """
    if noise_std is not None and not 0 <= noise_std < 1e38:
        raise ValueError(f"--noise_std {noise_std:g} is not possible: σ is zero or positive, and finite.")


def check_steps(denoiser: Denoiser, steps: int) -> int:
    """``steps`` if the prior's schedule can take as many.

    Raises:
        ValueError: if not.
    """
    total = denoiser.schedule.num_steps
    if not 1 <= steps <= total:
        raise ValueError(f"--steps {steps} is not possible with this prior: choose between 1 and {total}.")
    return steps


def both_scales(noise_std: float) -> str:
    """σ on both scales in use, since papers differ."""
    return f"σ = {noise_std:g} on [-1, 1] ({noise_std / 2:g} on [0, 1])"


class _Rate(ProgressColumn):
    """Images (whole runs) per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        per_image = task.fields.get("per_image", 1)
        return Text("" if speed is None else f"{speed / per_image:.2f} images/s", style="progress.data.speed")


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], Callable[[int], None]]]:
    """A progress bar on standard error; yields ``add(name, total, per_image)``, which gives the callback to advance it.

    ``total`` and the callback count (image × network call)s, of which one image takes ``per_image``.
    """
    columns = (
        TextColumn("{task.description:<26}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as bar:

        def add(name: str, total: int, per_image: int) -> Callable[[int], None]:
            task = bar.add_task(name, total=total, per_image=max(1, per_image), start=False)

            def advance(count: int) -> None:
                bar.start_task(task)  # does nothing after the first time: a stage's clock starts with the stage
                bar.advance(task, count)

            return advance

        yield add
