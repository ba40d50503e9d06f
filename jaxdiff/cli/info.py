"""``jaxdiff info``: what is here."""

import argparse
import math

import jax
from rich.table import Table

import jaxdiff as jd
from jaxdiff import checkpoints, runtime
from jaxdiff.cli import inventory
from jaxdiff.cli.console import results, show
from jaxdiff.cli.measurement import MASK
from jaxdiff.cli.options import add_general
from jaxdiff.models import PRESETS, PriorConfig, parameter_shapes
from jaxdiff.models.summary import summary
from jaxdiff.samplers import METHODS, UNCONDITIONAL

__all__ = ["ABOUT", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "[CHECKPOINT] [options]"
ABOUT = (
    "List what is here: versions, devices, priors, and the names that --task, --method and --sampler take. Or say what a "
    "prior is."
)
EXAMPLES = (
    "jaxdiff info",
    "jaxdiff info checkpoints/edm-ffhq64",
    "jaxdiff info --verbose",
    "jaxdiff tasks",
    "jaxdiff doctor",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``CHECKPOINT`` and ``--verbose``."""
    parser.add_argument("checkpoint", nargs="?", help="an embedded prior, or the path of a converted one")
    add_general(parser, seed=False)


def run(args: argparse.Namespace) -> None:
    """Print versions, devices, priors, presets, tasks and methods; or what one prior is.

    Raises:
        ValueError: if there is no such prior, or it is damaged.
    """
    if args.checkpoint is not None:
        _tell(args.checkpoint)
        return
    results.print(inventory.versions())
    results.print(f"devices: {inventory.devices()}", soft_wrap=True)
    _show_speed()
    known = [(name, jd.tasks.get_task(name)) for name in jd.tasks.names("default")]
    tasks = {name: f"{task.about}; σ = {task.noise_std:g}" for name, task in known}
    tasks.setdefault(MASK, "a mask of your own, --mask FILE; σ = 0.05")
    for title, rows in (
        (
            "embedded priors",
            [(name, _network(checkpoints.load_checkpoint(name).config)) for name in checkpoints.EMBEDDED],
        ),
        ("architecture presets", [(name, _network(config)) for name, config in PRESETS.items()]),
        ("tasks, beside the published ones of jaxdiff tasks", [*tasks.items()]),
        ("methods", [(name, _summary(method.make.__doc__)) for name, method in METHODS.items()]),
        ("samplers of jaxdiff sample", [(name, _summary(m.make.__doc__)) for name, m in UNCONDITIONAL.items()]),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, about in rows:
            table.add_row(f"  {name}", about.replace("[", r"\["))
        show(table)
    results.print("operators: " + ", ".join(name for name in jd.operators.__all__ if name[0].islower()), soft_wrap=True)


def _show_speed() -> None:
    """Kernels and memory in use, and what this processor could do more."""
    results.print(f"processor: {inventory.processor()}", soft_wrap=True)
    results.print(f"memory that is freed: {inventory.kept_memory()}", soft_wrap=True)
    if more := runtime.advice():
        results.print(f"faster: {more}", soft_wrap=True)


def _tell(name: str) -> None:
    """Network, process, data range, source and licence of one prior."""
    params, config, metadata = checkpoints.load_checkpoint(name)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    source = metadata.get("source", {})
    told = source if isinstance(source, dict) else {"": source}
    rows = {
        **summary(config),
        "parameters": f"{count:,}",
        "source": "; ".join(f"{key} {value}".strip() for key, value in told.items() if value not in (None, "")),
        "licence": metadata.get("licence", "not recorded"),
    }
    table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, text in rows.items():
        table.add_row(f"  {key}", str(text).replace("[", r"\["))
    show(table)


def _network(config: PriorConfig) -> str:
    """Such as: 64×64, 3.8 M parameters, eps, fixed_small variance, linear schedule of 1000 steps."""
    unet = config.unet
    millions = sum(math.prod(shape) for shape in parameter_shapes(unet).values()) / 1e6
    classes = f"{unet.num_classes} classes, " if unet.num_classes else ""
    form = config.prediction if config.preconditioning is None else f"told σ ({config.preconditioning.form})"
    return (
        f"{unet.image_size}×{unet.image_size}, {millions:.1f} M parameters, {classes}{form}, "
        f"{config.variance} variance, {config.schedule} schedule of {config.num_steps} steps"
    )


def _summary(text: str | None) -> str:
    """The first paragraph of a docstring on one line, without the marks of reStructuredText."""
    return " ".join((text or "").strip().partition("\n\n")[0].split()).replace("`", "")
