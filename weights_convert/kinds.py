"""Values of a configuration that somebody wrote: each has to be of the kind of an example."""

import math
from collections.abc import Mapping
from typing import Any

from jaxdiff.files import one_sentence

__all__ = ["check_kinds"]

LARGEST = 2**53
"""Whole numbers beyond it are no number of anything, and not every float can hold them."""


def check_kinds(values: Mapping[str, Any], examples: Mapping[str, Any], where: str) -> None:
    """See that named values are of the kinds of the examples. A name without an example may have any value.

    Args:
        values: by name.
        examples: a value of the right kind by name; a set has one of each kind that may be.
        where: whose values they are.

    Raises:
        ValueError: that names the first which is not.
    """
    for name, value in values.items():
        if name not in examples:
            continue
        example = examples[name]
        choices = example if isinstance(example, frozenset) else (example,)
        if not any(_is_alike(value, choice) for choice in choices):
            shown = " or ".join("null" if choice is None else repr(choice) for choice in choices)
            raise ValueError(f"{where}: {name} is {one_sentence(repr(value), 40)}; write a value such as {shown}.")


def _is_alike(value: Any, example: Any) -> bool:
    """Whether two values are of one kind. A whole number may stand for one with a fraction."""
    if isinstance(example, list | tuple):
        return isinstance(value, list | tuple) and all(_is_alike(item, example[0]) for item in value)
    if isinstance(example, float):
        return type(value) in (int, float) and abs(value) < LARGEST and math.isfinite(value)
    return type(value) is type(example) and (type(value) is not int or abs(value) < LARGEST)
