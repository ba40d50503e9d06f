"""The ``jaxdiff`` command: flags to calls, one command a file."""

from jaxdiff.cli.main import entry_point, main

__all__ = ["entry_point", "main"]
