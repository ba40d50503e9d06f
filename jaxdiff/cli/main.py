"""The ``jaxdiff`` command: flags to calls. What the commands do is in the rooms below."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import app, logging
from absl.flags import argparse_flags

from jaxdiff import compilation_cache, hosts

__all__ = ["entry_point", "main"]

COMMANDS = {
    "info": ("jaxdiff.cli.info", "devices, priors, tasks and methods"),
    "sample": ("jaxdiff.cli.sample", "draw images from a prior"),
    "restore": ("jaxdiff.cli.restore", "measure and restore a picture"),
    "tune": ("jaxdiff.cli.tune", "search a method's settings for a task"),
    "reproduce": ("jaxdiff.cli.reproduce", "the study's tables and figures"),
    "tasks": ("jaxdiff.cli.tasks", "the published tasks, and what each makes of a picture"),
    "export": ("jaxdiff.cli.export", "a whole restoration as an artifact that runs without jaxdiff"),
    "bench": ("jaxdiff.cli.bench", "a grid of images, tasks, methods and seeds, resumable"),
    "train": ("jaxdiff.cli.train", "train a prior"),
}
"""Subcommand → the module with its ``add_arguments(parser)`` and ``run(args)``, and one line of help."""


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    import importlib

    parser = argparse_flags.ArgumentParser(
        prog="jaxdiff", description="Restore images with diffusion priors.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in argv[1:] if word in COMMANDS), None)  # flags of logging may come before it
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", allow_abbrev=False
        )
        if name == wanted:
            # Only the command at hand is imported: the others' libraries may not be installed.
            chosen = importlib.import_module(module)
            chosen.add_arguments(command)
            command.set_defaults(run=chosen.run)
    return parser.parse_args(argv[1:])


def main(args: argparse.Namespace) -> int:
    """Run a parsed command; a bad input is one sentence on standard error and exit code 2."""
    logging.set_verbosity(logging.INFO if getattr(args, "verbose", False) else logging.WARNING)
    try:
        _check_seeds(args)
        _check_empty(args)
        hosts.use_all_cores()
        with compilation_cache.enabled():
            args.run(args)
    except (ValueError, OSError) as error:
        if getattr(args, "verbose", False):
            raise
        print(f"jaxdiff: {_sentence(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError, AssertionError) as error:
        why = _machine_lacks(error)
        if getattr(args, "verbose", False) or why is None:
            raise
        print(f"jaxdiff: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxdiff: stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _machine_lacks(error: Exception) -> str | None:
    """What the machine has not got, where that is why something failed; None where it is a fault of ours."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower():
        return "there is not enough memory for so much at once; ask for fewer or smaller images."
    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        named = os.environ.get("JAX_PLATFORMS", "")
        return f"JAX finds no device (JAX_PLATFORMS={named!r}); leave that variable out, or install JAX for the device."
    return None


def _check_seeds(args: argparse.Namespace) -> None:
    """A seed is 32 bits: beyond them it would be another one's, or none."""
    seed, seeds = getattr(args, "seed", None), getattr(args, "seeds", None)
    given = [] if seed is None else [("--seed", seed)]
    if isinstance(seeds, list):  # elsewhere --seeds is how many
        given += [("--seeds", value) for value in seeds]
    for flag, value in given:
        if not 0 <= value < 2**32:
            raise ValueError(f"{flag} {value} is not possible: choose between 0 and {2**32 - 1}.")


def _check_empty(args: argparse.Namespace) -> None:
    """An empty word is a shell variable that was not set; taken as a path it would be the current folder."""
    for name, value in vars(args).items():
        if value == "":
            raise ValueError(f"the value of {name} is empty: give one, or leave the option out.")


def _sentence(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.filename:
        text = f"cannot use {error.filename} ({error.strerror})"
    return " ".join(text.split())


def entry_point(argv: Sequence[str] | None = None) -> Any:
    """The console script."""
    app.run(main, argv=None if argv is None else list(argv), flags_parser=_parse)
