"""What the commands print: messages on standard error, results on standard output."""

import webbrowser
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from jaxdiff.noise import NoiseModel
from jaxdiff.progress import Stage, console, progress, say

__all__ = ["Stage", "both_scales", "console", "open_first", "progress", "results", "say", "show"]

results = Console(highlight=False)


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
