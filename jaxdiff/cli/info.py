"""``jaxdiff info``: what is here."""

import argparse
import math
import platform

import jax
from rich.console import Console
from rich.table import Table

import jaxdiff as jd
from jaxdiff import checkpoints
from jaxdiff.models import PRESETS, PriorConfig, parameter_shapes

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
        (
            "embedded priors",
            [(name, _network(checkpoints.load_checkpoint(name).config)) for name in checkpoints.EMBEDDED],
        ),
        ("architecture presets", [(name, _network(config)) for name, config in PRESETS.items()]),
        (
            "tasks",
            [
                (name, f"{task.about}; σ = {task.noise_std:g}")
                for name in jd.tasks.names("default")
                for task in [jd.tasks.find(name)]
            ],
        ),
        ("methods", [(name, _first_line(method.__doc__)) for name, method in jd.samplers.METHODS.items()]),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, about in rows:
            table.add_row(f"  {name}", about)
        out.print(table)
    out.print("operators: " + ", ".join(name for name in jd.operators.__all__ if name[0].islower()), soft_wrap=True)


def _network(config: PriorConfig) -> str:
    """Such as: 64×64, 3.8 M parameters, eps, fixed_small variance, linear schedule of 1000 steps."""
    unet = config.unet
    millions = sum(math.prod(shape) for shape in parameter_shapes(unet).values()) / 1e6
    classes = f"{unet.num_classes} classes, " if unet.num_classes else ""
    return (
        f"{unet.image_size}×{unet.image_size}, {millions:.1f} M parameters, {classes}{config.prediction}, "
        f"{config.variance} variance, {config.schedule} schedule of {config.num_steps} steps"
    )


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
