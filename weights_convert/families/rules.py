"""A name table as data: which tensor of another code is which parameter of ours, and how its axes lie.

Nothing is computed, only moved, so a round trip is exact. Every tensor is used exactly once or is named as dropped.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from flax import traverse_util

from jaxdiff.models import NetworkConfig, parameter_shapes
from jaxdiff.typing import PyTree, Shape
from weights_convert.arrays import renamed

__all__ = [
    "CONV", "LINEAR", "NIN", "NIN_CONV", "POINT", "SAME", "Layout", "Rule", "convert", "per_head", "restore",
    "torch_shapes",
]  # fmt: skip

Named = dict[str, np.ndarray]


class Layout(NamedTuple):
    """How the axes of a tensor go to ours, and back."""

    forward: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


class Rule(NamedTuple):
    """One tensor of the other code.

    Attributes:
        theirs: its name there.
        ours: the name of our parameter.
        layout: of its axes.
        part: which third of our last axis it is, for separate queries, keys and values; None for the whole.
        once: other names that older files have for it.
    """

    theirs: str
    ours: str
    layout: Layout
    part: int | None = None
    once: tuple[str, ...] = ()


def _matrix(value: np.ndarray) -> np.ndarray:
    """(out, in) with further axes of one, as the 1×1 convolutions of some codes have them, to (in, out)."""
    if value.ndim < 2 or any(size != 1 for size in value.shape[2:]):
        raise ValueError(f"it is {value.shape}, no matrix")
    return value.reshape(value.shape[:2]).T


SAME = Layout(lambda value: value, lambda value: value)
CONV = Layout(lambda value: value.transpose(2, 3, 1, 0), lambda value: value.transpose(3, 2, 0, 1))
LINEAR = Layout(_matrix, lambda value: value.T)
POINT = Layout(_matrix, lambda value: value.T[:, :, None, None])
"""A matrix here, a 1×1 convolution there."""
NIN = SAME
"""A matrix (in, out) on both sides."""
NIN_CONV = Layout(lambda value: value[None, None], lambda value: value[0, 0])
"""A 1×1 convolution here, a matrix (in, out) there."""


def per_head(heads: int) -> tuple[Layout, Layout]:
    """Weight and bias of queries, keys and values: (head, channel, {q, k, v}) there, ({q, k, v}, head, channel) here."""

    def forward(value: np.ndarray) -> np.ndarray:
        split = value.reshape(*value.shape[:-1], heads, -1, 3)
        return np.moveaxis(split, -1, -3).reshape(value.shape)

    def back(value: np.ndarray) -> np.ndarray:
        split = value.reshape(*value.shape[:-1], 3, heads, -1)
        return np.moveaxis(split, -3, -1).reshape(value.shape)

    return Layout(lambda v: forward(_matrix(v)), lambda v: back(v).T[:, :, None, None]), Layout(forward, back)


def convert(
    tensors: Mapping[str, np.ndarray], rules: Iterable[Rule], config: NetworkConfig, dropped: Iterable[str] = ()
) -> PyTree:
    """Parameters nested by our names, float32: every tensor is used exactly once or is one of ``dropped``.

    Args:
        tensors: arrays by the other code's names.
        rules: the name table.
        config: the network that they are for.
        dropped: names that are known and not needed; they may be absent.

    Raises:
        ValueError: listing what is missing, extra, mis-shaped or not finite.
    """
    rules, shapes = list(rules), parameter_shapes(config)
    tensors = _present_names(tensors, rules)
    wanted = {rule.theirs for rule in rules}
    missing, extra = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted - set(dropped))
    parts: dict[str, dict[int, np.ndarray]] = {}
    wrong = []
    for rule in rules:
        if rule.theirs not in tensors:
            continue
        shape = _part_shape(shapes[rule.ours], rule.part)
        read = _checked(rule.theirs, tensors[rule.theirs])
        try:
            value = rule.layout.forward(read)
        except (ValueError, IndexError):
            value = np.zeros(())
        if tuple(value.shape) != shape:
            wrong.append(f"{rule.theirs} is {tuple(read.shape)}, not {_torch_shape(rule, shapes)}")
        # A copy, so that what was read can go: memory then holds the parameters and one tensor.
        parts.setdefault(rule.ours, {})[rule.part or 0] = np.ascontiguousarray(value)
    lists = {"missing": missing, "extra": extra, "mis-shaped": wrong}
    if any(lists.values()):
        told = (f"{len(v)} {what} ({', '.join(v[:6])}{', …' if len(v) > 6 else ''})" for what, v in lists.items() if v)
        raise ValueError(f"the checkpoint is not the network that its configuration describes: {'; '.join(told)}.")
    flat = {name: _joined([found[i] for i in sorted(found)]) for name, found in parts.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def torch_shapes(rules: Iterable[Rule], config: NetworkConfig) -> dict[str, Shape]:
    """Shape of each tensor of the other code."""
    shapes = parameter_shapes(config)
    return {rule.theirs: _torch_shape(rule, shapes) for rule in rules}


def _torch_shape(rule: Rule, shapes: Mapping[str, Shape]) -> Shape:
    ours = np.broadcast_to(np.zeros((), np.float32), _part_shape(shapes[rule.ours], rule.part))
    return tuple(rule.layout.back(ours).shape)


def restore(params: PyTree, rules: Iterable[Rule]) -> Named:
    """Tensors by the other code's names from our parameters: the inverse of ``convert``."""
    flat = traverse_util.flatten_dict(params, sep="/")
    tensors = {}
    for rule in rules:
        value = np.asarray(flat[rule.ours])
        value = value if rule.part is None else np.split(value, 3, axis=-1)[rule.part]
        tensors[rule.theirs] = np.ascontiguousarray(rule.layout.back(value))
    return tensors


def _present_names(tensors: Mapping[str, np.ndarray], rules: list[Rule]) -> Mapping[str, np.ndarray]:
    """The tensors, with the names that only older files have replaced."""
    today = {old: rule.theirs for rule in rules for old in rule.once if old in tensors and rule.theirs not in tensors}
    return renamed(tensors, {name: today.get(name, name) for name in tensors})


def _part_shape(shape: Shape, part: int | None) -> Shape:
    return shape if part is None else (*shape[:-1], shape[-1] // 3)


def _joined(values: list[np.ndarray]) -> np.ndarray:
    value = values[0] if len(values) == 1 else np.concatenate(values, axis=-1)
    return np.ascontiguousarray(value, np.float32)


def _checked(name: str, value: np.ndarray) -> np.ndarray:
    value = np.asarray(value)
    if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
        raise ValueError(f"the tensor {name} holds {value.dtype} numbers; a network's weights are floating point.")
    value = value.astype(np.float32)
    if not np.isfinite(value).all():
        raise ValueError(f"the tensor {name} holds NaN or infinite values; the checkpoint is of no use.")
    return value
