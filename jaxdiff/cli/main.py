"""The ``jaxdiff`` command: options to calls. Each subcommand is a module of this folder."""

import argparse
import errno
import importlib
import os
import shlex
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import app, logging

import jaxdiff
from jaxdiff import compilation_cache, runtime
from jaxdiff.cli.parser import Parser, hint
from jaxdiff.files import one_sentence

__all__ = ["COMMANDS", "entry_point", "main", "parse", "whole"]

COMMANDS = {
    "info": "list devices, priors, tasks and methods",
    "doctor": "check what is installed, and that a small restoration is right",
    "sample": "draw images from a prior",
    "restore": "restore a picture, or degrade it first and then restore it",
    "app": "restore pictures on a web page of this machine",
    "tune": "search a method's settings for a task",
    "bench": "run a grid of images, tasks, methods and seeds",
    "fid": "say how far sets of pictures are from real ones (FID, KID)",
    "reproduce": "make the study's tables, figures and claims",
    "tasks": "list all tasks, or show what they do to a picture",
    "export": "write a restoration as one file that runs without jaxdiff",
    "train": "train a prior on pictures",
    "convert": "convert weights of other codes, or to them",
    "completion": "print a script that lets your shell complete the command",
}
"""Subcommand → its line of help. Its module of this folder has ``USAGE``, ``ABOUT``, ``EXAMPLES`` and ``add_arguments``."""

LONG = {"bench", "doctor", "info", "reproduce", "train", "tune"}
"""Commands that run for minutes, where faster kernels are worth more than programs on disk, and those that tell."""


FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""Errors of a disk that takes no more."""
LONGEST = 2000
"""Letters of a sentence on standard error: names of files and options may be of any length."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line, whose first word is the program."""
    wanted = next((word for word in argv[1:] if word in COMMANDS), None)  # flags of logging may come before it
    parser = _parser([] if wanted is None else [wanted])
    other = next((word for word in argv[1:] if not word.startswith("-")), None)
    if wanted is None and other is not None:
        parser.error(f"there is no command {other}{hint(other, COMMANDS)}")
    args = parser.parse_args(_spelled_out(argv[1:], wanted))
    args.command_line = shlex.join(["jaxdiff", *argv[1:]])
    return args


def whole() -> Parser:
    """The parser with the options of every command that can be imported here."""
    return _parser([name for name in COMMANDS if _importable(name)])


def _importable(name: str) -> bool:
    try:
        importlib.import_module(f"jaxdiff.cli.{name}")
    except ImportError:
        return False
    return True


def _parser(filled: Sequence[str]) -> Parser:
    """All commands; those that are ``filled`` have their options."""
    parser = Parser(prog="jaxdiff", description="Restore images with diffusion priors.")
    parser.add_argument("--version", action="version", version=f"jaxdiff {jaxdiff.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about)
        if name in filled:
            _fill(command, name)
    return parser


def _spelled_out(words: Sequence[str], command: str | None) -> list[str]:
    """The words, with those that a command lets one leave out."""
    if command is None:
        return [*words]
    chosen, place = importlib.import_module(f"jaxdiff.cli.{command}"), words.index(command) + 1
    if not hasattr(chosen, "spelled_out"):
        return [*words]
    return [*words[:place], *chosen.spelled_out(words[place:])]


def _fill(command: Parser, name: str) -> None:
    """Only the command at hand is imported: the others' libraries may not be installed."""
    chosen = importlib.import_module(f"jaxdiff.cli.{name}")
    command.description = textwrap.fill(chosen.ABOUT, 80)
    command.epilog = "\n".join(["examples:", *(f"  {line}" for line in chosen.EXAMPLES), *getattr(chosen, "MORE", ())])
    command.aliases = getattr(chosen, "ALIASES", {})
    chosen.add_arguments(command)
    command.usage = f"jaxdiff {name} {chosen.USAGE}"  # last, since subcommands would begin theirs with it
    command.set_defaults(**{"run": chosen.run} if hasattr(chosen, "run") else {})


def main(args: argparse.Namespace) -> int:
    """Run a parsed command; a bad input is one sentence on standard error and exit code 2."""
    logging.set_verbosity(logging.INFO if getattr(args, "verbose", False) else logging.WARNING)
    try:
        _check_seeds(args)
        _check_empty(args)
        runtime.fast_cpu(kernels=args.command in LONG)
        with compilation_cache.enabled():
            return int(args.run(args) or 0)
    except (ValueError, OSError) as error:
        if getattr(args, "verbose", False):
            raise
        print(f"jaxdiff: {_sentence(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError, AssertionError) as error:
        why = runtime.machine_lacks(error)
        if getattr(args, "verbose", False) or why is None:
            raise
        print(f"jaxdiff: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxdiff: stopped; the same command goes on from here.", file=sys.stderr)
        return 130


def _check_seeds(args: argparse.Namespace) -> None:
    """A seed has 32 bits: a larger one would be taken for another, or be refused by JAX in a raw error."""
    seed, seeds = getattr(args, "seed", None), getattr(args, "seeds", None)
    given = [] if seed is None else [("--seed", seed)]
    for flag, value in given + [("--seeds", value) for value in seeds or ()]:
        if not 0 <= value < 2**32:
            raise ValueError(f"{flag} {value} is not possible: choose between 0 and {2**32 - 1}.")


def _check_empty(args: argparse.Namespace) -> None:
    """An empty word is a shell variable that was not set; taken as a path it would be the current folder."""
    for name, value in vars(args).items():
        if value == "" or (isinstance(value, list) and "" in value):
            raise ValueError(f"the value of {name.replace('_', '-')} is empty: give one, or leave the option out.")


def _sentence(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.filename:
        text = f"cannot use {error.filename} ({error.strerror})"
    elif isinstance(error, OSError) and error.errno in FULL:
        text = f"a file cannot be written ({error.strerror}); free some space, or choose another --out."
    return one_sentence(text, LONGEST)


def entry_point(argv: Sequence[str] | None = None) -> Any:
    """The console script."""
    os.environ.setdefault("MPLBACKEND", "agg")  # figures are files here, no windows
    app.run(main, argv=None if argv is None else list(argv), flags_parser=parse)
