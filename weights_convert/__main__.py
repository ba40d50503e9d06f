"""``python -m weights_convert``."""

from weights_convert.cli import entry_point

if __name__ == "__main__":
    entry_point()
