"""The command line of ``python -m weights_convert``: one module a subcommand, imported when it is asked for."""

import argparse
import importlib
import sys
from collections.abc import Container, Sequence

from absl import app, logging
from absl.flags import argparse_flags

from jaxdiff.files import one_sentence
from jaxdiff.runtime import machine_lacks

__all__ = ["COMMANDS", "add_commands", "main", "parse", "spelled_out"]

COMMANDS = {
    "checkpoint": ("weights_convert.checkpoint", "any public checkpoint to a prior of jaxdiff"),
    "guided-diffusion": ("weights_convert.guided_diffusion", "a guided-diffusion checkpoint to a prior of jaxdiff"),
    "export": ("weights_convert.export", "a prior of jaxdiff to a guided-diffusion state dict"),
    "inception": ("weights_convert.inception", "weights for FID and KID"),
    "lpips": ("weights_convert.lpips", "weights for the LPIPS metric"),
}
"""Subcommand → the module with its ``add_arguments(parser)`` and ``run(args)``, and one line of help."""


ANY = "checkpoint"
"""The subcommand that is meant where none is named: ``convert SRC OUT``."""


def spelled_out(words: Sequence[str]) -> list[str]:
    """The words after ``convert``, with the subcommand that ``convert SRC OUT`` leaves out.

    >>> spelled_out(["x.pkl", "out"])
    ['checkpoint', 'x.pkl', 'out']
    """
    first = next((word for word in words if not word.startswith("-")), None)  # flags of logging may come before it
    return [*words] if first is None or first in COMMANDS else [ANY, *words]


def add_commands(parser: argparse.ArgumentParser, wanted: Container[str] = COMMANDS) -> None:
    """Give a parser the subcommands; those that are ``wanted`` are imported and get their options."""
    commands = parser.add_subparsers(dest="conversion", metavar="CONVERSION", required=True)
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=f"Convert {about}.", allow_abbrev=False)
        if name in wanted:
            chosen = importlib.import_module(module)
            chosen.add_arguments(command)
            command.set_defaults(run=chosen.run)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Flags of the subcommand that ``argv`` names, flags of absl before it or not."""
    parser = argparse_flags.ArgumentParser(
        prog="weights_convert", description="Convert weights; torch is not needed.", allow_abbrev=False
    )
    words = spelled_out(argv[1:])
    add_commands(parser, words)
    return parser.parse_args(words)


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; what is wrong becomes one sentence on standard error and exit code 2."""
    logging.set_verbosity(logging.WARNING)
    try:
        return int(args.run(args) or 0)
    except (ValueError, OSError) as error:
        print(f"weights_convert: {one_sentence(error, 2000)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError, AssertionError) as error:
        if (why := machine_lacks(error)) is None:
            raise
        print(f"weights_convert: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("weights_convert: stopped; nothing was written.", file=sys.stderr)
        return 130


def entry_point() -> None:
    """Run the command line."""
    app.run(main, flags_parser=parse)
