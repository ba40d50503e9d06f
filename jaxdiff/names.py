"""Names that a user types: the nearest known one for a misspelt name, and the object behind ``package.module:name``."""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

__all__ = ["load", "nearest", "unknown"]


def nearest(name: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """The known name that is most like ``name``; empty where none is.

    Equal similarities are told apart: the same letters in another order come first, then a common beginning, then the
    shorter name.

    >>> nearest("dsp", ["tds", "dps", "mcg"]), nearest("xyz", ["dps"])
    ('dps', '')
    """
    close = difflib.get_close_matches(name.lower(), known := list(known), n=max(1, len(known)), cutoff=cutoff)
    return max(close, key=lambda other: _likeness(name.lower(), other), default="")


def _likeness(name: str, other: str) -> tuple[float, bool, int, int]:
    beginning = next(
        (i for i, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other))
    )
    return difflib.SequenceMatcher(None, other, name).ratio(), sorted(name) == sorted(other), beginning, -len(other)


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for an unknown name: it lists the known ones and suggests the nearest."""
    known = sorted(known)
    close = nearest(name, known)
    hint = f" Did you mean {close!r}?" if close else ""
    return ValueError(f"unknown {kind} {name!r}; choose one of {', '.join(known)}.{hint}")


def load(path: str) -> Any:
    """The object that ``package.module:name`` names.

    Raises:
        ValueError: if the module cannot be imported or has no such name.

    >>> load("math:pi")
    3.141592653589793
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, TypeError) as error:
        raise ValueError(f"{path!r} cannot be imported ({error}); put {module!r} on PYTHONPATH.") from None
    except AttributeError:
        raise ValueError(f"the module {module} has no {name!r}; check the name behind the colon.") from None
