"""The parser of the ``jaxdiff`` command: one spelling of options, one sentence for a mistake, the nearest name as a hint."""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from absl.flags import argparse_flags

from jaxdiff.files import one_sentence
from jaxdiff.names import nearest

__all__ = ["Parser", "hint"]


def hint(name: str, known: Iterable[str]) -> str:
    """The words "did you mean ...?" with the nearest name; empty where none is near."""
    near = nearest(name, known)
    return f"; did you mean {near}?" if near else ""


class Parser(argparse_flags.ArgumentParser):
    """A parser whose options have hyphens. It also takes them with underscores, and by their older names.

    Attributes:
        aliases: older name → today's name, both with hyphens. The help does not show the older ones.
    """

    aliases: Mapping[str, str] = {}

    def __init__(self, **options: Any) -> None:
        """As ``argparse``; abbreviations are refused, and examples keep their lines."""
        options = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter} | options
        super().__init__(**options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, after respelling the options; an unknown one ends the program with a sentence."""
        words = [*(sys.argv[1:] if args is None else args)]
        end = words.index("--") if "--" in words else len(words)
        words[:end] = map(self._respelled, words[:end])
        if self._subparsers is None:  # else the words are those of a subcommand
            self._refuse_unknown(words[:end])
        return super().parse_known_args(words, namespace)

    def _respelled(self, word: str) -> str:
        name, sign, value = word.partition("=")
        if not word.startswith("-") or name in self._option_string_actions:
            return word
        name = name.replace("_", "-")
        name = self.aliases.get(name, name)
        return f"{name}{sign}{value}" if name in self._option_string_actions else word

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        for word in words:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                shown = [
                    option.removeprefix("--")
                    for action in self._actions
                    if action.help is not argparse.SUPPRESS
                    for option in action.option_strings
                ]
                near = nearest(name.removeprefix("--").replace("_", "-"), shown)  # the hyphens are no likeness
                self.error(f"there is no option {name}" + (f"; did you mean --{near}?" if near else ""))

    def error(self, message: str) -> NoReturn:
        """One sentence on standard error, and exit code 2."""
        message = one_sentence(message)
        end = "" if message.endswith("?") else ";"
        self.exit(2, f"jaxdiff: {message}{end} see {self.prog} --help.\n")
