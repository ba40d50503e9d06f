"""``python -m jaxdiff`` is the ``jaxdiff`` command."""

from jaxdiff.cli import entry_point

if __name__ == "__main__":
    entry_point()
