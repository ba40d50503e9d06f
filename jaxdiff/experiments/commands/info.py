"""``jaxdiff info``: what is here."""

import argparse
import platform

import jax
from rich.console import Console
from rich.table import Table

import jaxdiff as jd
from jaxdiff import checkpoints
from jaxdiff.experiments.tasks import METHODS, TASKS
from jaxdiff.models import presets

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--verbose`` alone."""
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")


def run(args: argparse.Namespace) -> None:
    """Print versions, devices, priors, presets, tasks and methods."""
    out = Console(highlight=False)
    out.print(f"jaxdiff {jd.__version__}, jax {jax.__version__}, Python {platform.python_version()}")
    out.print("devices: " + ", ".join(f"{d.platform}:{d.id} ({d.device_kind})" for d in jax.devices()))
    for title, rows in (
        ("priors", checkpoints.describe_priors()),
        ("architecture presets", [(name, presets.describe(name)) for name in presets.PRESETS]),
        ("tasks", [(name, f"{task.about}; σ = {task.noise_std:g}") for name, task in TASKS.items()]),
        ("methods", [(name, _first_line(method.__doc__)) for name, method in METHODS.items()]),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, about in rows:
            table.add_row(f"  {name}", about)
        out.print(table)
    out.print("operators: " + ", ".join(name for name in jd.operators.__all__ if name[0].islower()), soft_wrap=True)


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
