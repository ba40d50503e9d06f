"""A page with the help of every command."""

import argparse
from collections.abc import Iterator

from jaxdiff.cli.main import COMMANDS, whole

__all__ = ["pages"]

ABOUT = "This page has the help of every command. [The command line](command_line.md) says what the commands are for."


def pages() -> Iterator[tuple[str, str]]:
    """(path in the site, content)."""
    (commands,) = (action for action in whole()._actions if isinstance(action, argparse._SubParsersAction))
    parts = ["# All options of the command line", ABOUT]
    for name, about in COMMANDS.items():
        parts += [
            f"## {name}",
            f"`jaxdiff {name}`: {about}.",
            f"```text\n{commands.choices[name].format_help().rstrip()}\n```",
        ]
    yield "commands.md", "\n\n".join(parts) + "\n"
