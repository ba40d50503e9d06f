"""The one console and the one progress bar: messages on standard error, results on standard output."""

import contextlib
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from jaxdiff.noise import NoiseModel

__all__ = ["Stage", "both_scales", "console", "open_first", "progress", "results", "say", "show"]

console = Console(stderr=True, highlight=False, markup=False)  # paths may hold brackets
results = Console(highlight=False)

EVERY = 30.0
"""Seconds between two lines of a stage, where no terminal shows a bar."""


def say(text: str) -> None:
    """A message on standard error, on one line however long it is."""
    console.print(text, soft_wrap=True)


def show(table: Table) -> None:
    """A table on standard output, at its natural width: cells are not cut on a narrow terminal."""
    wide = results.options.update(max_width=10_000)
    Console(highlight=False, width=Measurement.get(results, wide, table).maximum).print(table)


def open_first(path: str | Path, *, browser: bool = False) -> None:
    """The last line of a command: the file to look at first; ``browser`` shows it, too."""
    say(f"open {path}")
    if browser:
        webbrowser.open(Path(path).resolve().as_uri())


def both_scales(noise_std: float, model: NoiseModel | None = None) -> str:
    """The noise: σ on both scales in use, since papers differ, after the numbers of a noise model."""
    std = f"σ = {noise_std:.4g} on [-1, 1] ({noise_std / 2:.4g} on [0, 1])"
    if model is None:
        return std
    numbers = ", ".join(f"{field.name} {float(getattr(model, field.name)):g}" for field in fields(model))  # type: ignore[arg-type]
    return f"{model.title} ({numbers}), about {std}"


class _Note(ProgressColumn):
    """A stage's note, or else its images (whole runs) per second."""

    def render(self, task: Task) -> Text:
        speed, note = task.finished_speed or task.speed, task.fields["note"]
        rate = "" if speed is None else f"{speed / task.fields['per_image']:.2f} images/s"
        return Text(note or rate, style="progress.data.speed")


class Stage:
    """One line of the progress bar. On a terminal it moves; elsewhere it prints a line when a part is done.

    Args:
        bar: that it belongs to.
        clock: when any stage of the bar last moved.
        name: of the stage.
        total: what it counts to.
        per_image: how much of it one image takes.
        parts: counts at which a part ends; the whole stage is one part by default.
    """

    def __init__(
        self, bar: Progress, clock: list[float], name: str, total: int, per_image: int = 1, parts: Sequence[int] = ()
    ) -> None:
        self._bar, self._clock, self._name, self._total, self._done = bar, clock, name, total, 0
        self._parts = list(parts) or [total]
        self._begun: tuple[float, int] | None = None
        self._printed = time.monotonic()
        self._task = bar.add_task(name, total=total, per_image=max(1, per_image), note="", start=False)

    def __call__(self, count: int) -> None:
        """Advance by ``count``."""
        if self._begun is None:
            self._begun = (self._clock[0], 0)  # it began when the stage before it last moved
        done = self._done + count
        ended = any(self._done < end <= done for end in self._parts)
        self.at(done, line=ended or time.monotonic() - self._printed > EVERY)

    def at(self, done: int, *, total: int | None = None, note: str = "", line: bool = False) -> None:
        """Show that ``done`` of ``total`` are done; ``line`` asks for a printed line where there is no terminal."""
        self._bar.start_task(self._task)  # does nothing after the first time: a stage's clock starts with the stage
        self._clock[0] = time.monotonic()
        if self._begun is None:
            self._begun = (self._clock[0], done)
        self._done, self._total = done, self._total if total is None else total
        self._bar.update(self._task, completed=done, total=self._total, note=note)
        if line and not console.is_terminal:
            self._print(note)

    def _print(self, note: str) -> None:
        assert self._begun is not None
        self._printed, (begun, first) = time.monotonic(), self._begun
        text = f"{self._name} {self._done}/{self._total}"
        if len(self._parts) > 1:
            text = f"{self._name} part {sum(end <= self._done for end in self._parts)}/{len(self._parts)}"
        spent, counted = self._printed - begun, self._done - first
        if self._done >= self._total:
            left = f"done in {_duration(spent)}"
        else:
            left = f"{_duration(spent * (self._total - self._done) / counted)} left" if counted > 0 else ""
        say(": ".join([text, ", ".join(filter(None, (note, left)))]))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


@contextlib.contextmanager
def progress() -> Iterator[Callable[..., Stage]]:
    """A progress bar on standard error; yields ``add(name, total, per_image, parts)``, which gives a :class:`Stage`.

    Totals and calls count (image × network call)s, of which one image takes ``per_image``.
    """
    columns = (
        TextColumn("{task.description:<26}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Note(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        clock = [time.monotonic()]

        def add(name: str, total: int, per_image: int = 1, parts: Sequence[int] = ()) -> Stage:
            return Stage(bar, clock, name, total, per_image, parts)

        yield add
