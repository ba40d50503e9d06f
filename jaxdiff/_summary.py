"""A short text for objects that hold arrays: what they are, not what their arrays contain."""

import dataclasses
from html import escape
from typing import Any

import jax
import numpy as np

__all__ = ["Summarised", "summary"]

FEW = 6
"""A nested group of more arrays than this is counted, not listed."""
LONGEST = 80
"""Characters of a value that is no array."""


class Summarised:
    """A base class of dataclasses whose ``repr`` is their ``summary``, and which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        """The class, and a row for each field; what a field holds unfolds where it has fields itself."""
        return f"<b>{type(self).__name__}</b>{_rows(self)}"

    def __init_subclass__(cls, **options: Any) -> None:
        """Give the class its ``repr`` before ``dataclass`` gives it another."""
        super().__init_subclass__(**options)
        cls.__repr__ = summary  # type: ignore[assignment,method-assign]


def summary(value: Any) -> str:
    """The class and its fields; an array as its type and shape, a number as it is, a tree of parameters as a count.

    >>> import jax.numpy as jnp
    >>> summary({"kernel": jnp.zeros((3, 3)), "step": 2})
    '{kernel: float32[3,3], step: 2}'
    """
    if isinstance(value, jax.Array | np.ndarray):
        return _array(value)
    if getattr(value, "_flax_dataclass", False):  # a pytree; other dataclasses print themselves
        return _fields(value, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if hasattr(value, "_fields"):
        return _fields(value, value._asdict())
    if isinstance(value, dict):
        leaves = jax.tree.leaves(value)
        if len(leaves) > FEW:
            return f"{sum(np.size(leaf) for leaf in leaves):,} numbers in {len(leaves)} arrays"
        return "{" + ", ".join(f"{name}: {summary(inner)}" for name, inner in value.items()) + "}"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _array(value: Any) -> str:
    if value.ndim == 0 and not isinstance(value, jax.core.Tracer) and np.issubdtype(value.dtype, np.number):
        return f"{value.item():.6g}"
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def _fields(value: Any, fields: dict[str, Any]) -> str:
    inside = ", ".join(f"{name}={summary(inner)}" for name, inner in fields.items() if inner is not None)
    return f"{type(value).__name__}({inside})"


def _rows(value: Any) -> str:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    rows = "".join(
        f'<tr><td style="text-align:left">{name}</td><td style="text-align:left">{_cell(inner)}</td></tr>'
        for name, inner in fields.items()
        if inner is not None
    )
    return f"<table>{rows}</table>" if rows else ""


def _cell(value: Any) -> str:
    if isinstance(value, Summarised) and dataclasses.fields(value):  # type: ignore[arg-type]
        return f"<details><summary>{type(value).__name__}</summary>{_rows(value)}</details>"
    return f"<code>{escape(summary(value))}</code>"
