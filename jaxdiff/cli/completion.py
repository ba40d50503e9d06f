"""``jaxdiff completion``: a script that lets a shell complete commands, options and names."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from jaxdiff import checkpoints, tasks
from jaxdiff.cli.measurement import MASK
from jaxdiff.samplers import METHODS, UNCONDITIONAL
from jaxdiff.samplers.grids import NOISE_SPACINGS
from jaxdiff.schedules import SPACINGS
from jaxdiff.training.config import bundled

__all__ = ["ABOUT", "EXAMPLES", "MORE", "SHELLS", "USAGE", "add_arguments", "run", "script"]

USAGE = "SHELL"
ABOUT = "Print a script that lets your shell complete commands, options, and the names of tasks, methods and priors."
EXAMPLES = tuple(f"jaxdiff completion {shell}" for shell in ("bash", "zsh", "fish"))
MORE = (
    "\nWrite the script where the shell looks for it, and open a new shell:",
    "  bash: > ~/.local/share/bash-completion/completions/jaxdiff",
    "  zsh:  > a folder of $fpath, as _jaxdiff",
    "  fish: > ~/.config/fish/completions/jaxdiff.fish",
)
SHELLS = ("bash", "zsh", "fish")

FILES = {"pictures", "image", "mask", "kernel", "images", "ood", "data", "out", "init", "checkpoint", "profile"}
"""Values that are paths."""


def _tasks() -> list[str]:
    return sorted({*tasks.names("default"), MASK, *tasks.names()})


NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "task": _tasks,
    "tasks": _tasks,
    "method": lambda: METHODS,
    "methods": lambda: METHODS,
    "sampler": lambda: UNCONDITIONAL,
    "prior": lambda: checkpoints.EMBEDDED,
    "config": bundled,
    "spacing": lambda: (*SPACINGS, *NOISE_SPACINGS),
    "dtype": lambda: ("float32", "bfloat16", "auto"),
    "settings": lambda: ("defaults", "recorded"),
    "noise": lambda: ("gaussian", "poisson", "poisson-gaussian", "salt-and-pepper"),
}
"""Value of an option or argument → the names that it may be."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``SHELL``."""
    parser.add_argument("shell", choices=SHELLS, help="your shell")


def run(args: argparse.Namespace) -> None:
    """Print the script.

    Raises:
        ValueError: if shtab is not installed.
    """
    print(script(args.shell))


def script(shell: str) -> str:
    """What the shell reads to complete the command.

    Raises:
        ValueError: if shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise ValueError("completion needs shtab; install it with pip install 'jaxdiff[completion]'.") from None
    from jaxdiff.cli.main import whole

    parser = whole()
    _name(parser, shtab.FILE)
    return str(shtab.complete(parser, shell, root_prefix="jaxdiff"))


def _name(parser: argparse.ArgumentParser, file: Any) -> None:
    """Give the parser's options, and those of its commands, the names that they may be."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _name(command, file)
        elif action.choices is None and action.nargs != 0 and action.dest in NAMES:
            action.choices = [*NAMES[action.dest]()]
        elif action.choices is None and action.nargs != 0 and action.dest in FILES:
            action.complete = file  # type: ignore[attr-defined]
