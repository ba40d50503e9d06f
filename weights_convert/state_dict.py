"""Find the state dict in what a file holds."""

from collections.abc import Iterable
from typing import Any

from weights_convert.pickled import MalformedError, Record, Tensor

__all__ = ["check_names", "find_state"]

MAX_NAME = 200
"""Letters of a tensor's name; the longest of a real network are about a hundred."""
NESTED_KEYS = (
    "ema", "model_ema", "ema_model", "ema_state_dict", "model_ema_state_dict", "params_ema", "state_dict_ema",
    "state_dict", "model_state_dict", "model", "module", "net", "net_model", "params",
    "shadow",
)  # fmt: skip
"""Where training codes put the state dict; averaged weights first."""


def find_state(saved: Any, key: str | None) -> tuple[dict[str, Tensor], str]:
    """The named tensors of a file, and where they were, with dots between the keys.

    Args:
        saved: what the file holds.
        key: where to look; by default the top, or the first of the usual keys, averaged weights before others.

    Raises:
        MalformedError: if there are none.
    """
    if isinstance(saved, list):
        return _last_of_list(saved)
    if isinstance(saved, Record):
        raise MalformedError(f"it holds an object of the class {saved.name} and no named tensors")
    if not isinstance(saved, dict):
        raise MalformedError("it holds no state dict, only a single value")
    if key is not None:
        place: Any = saved
        for part in key.split("."):
            if not isinstance(place, dict) or part not in place:
                raise MalformedError(f"it has nothing under the key {key!r}; {_keys(place)}")
            place = place[part]
        tensors = _tensors_of(place)
        if not tensors:
            raise MalformedError(f"there are no named tensors under the key {key!r}")
        return tensors, key
    place, where = saved, list[str]()
    for _ in range(4):
        seen = {id(place)}
        inner = next((k for k in NESTED_KEYS if _leads_to_tensors(place.get(k), 4, seen)), None)
        if inner is None:  # only then: a loss or a decay may be a tensor beside the state dict
            break
        where.append(inner)
        place = place[inner]
    if tensors := _tensors_of(place):
        return tensors, ".".join(where)
    raise MalformedError(f"no state dict is found in it; {_keys(place)}: name the right one with --key")


def _leads_to_tensors(value: Any, depth: int, seen: set[int]) -> bool:
    """Whether there are named tensors in a value, or further in under usual keys; each dictionary is looked at once."""
    if not depth or not isinstance(value, dict) or id(value) in seen:
        return False
    seen.add(id(value))
    return bool(_tensors_of(value)) or any(_leads_to_tensors(value.get(k), depth - 1, seen) for k in NESTED_KEYS)


def _last_of_list(saved: list[Any]) -> tuple[dict[str, Tensor], str]:
    """DDPM's port saves [model, optimiser, epoch, step, averaged model]: the last that has the names of the first."""
    states = [(i, tensors) for i, value in enumerate(saved[:16]) if (tensors := _tensors_of(value))]
    if not states:
        raise MalformedError("it holds no state dict, only a list or a single tensor")
    index, tensors = next(state for state in reversed(states) if set(state[1]) == set(states[0][1]))
    return tensors, str(index)


def _keys(place: Any) -> str:
    names = [str(k) for k in place if isinstance(k, str | int)] if isinstance(place, dict) else []
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"its keys are {shown}" if names else "it has no keys"


def _tensors_of(place: Any) -> dict[str, Tensor]:
    if not isinstance(place, dict):
        return {}
    return {k: v for k, v in place.items() if isinstance(k, str) and isinstance(v, Tensor)}


def check_names(names: Iterable[str]) -> None:
    """Refuse names that would flood or command a terminal; those of a network's tensors are paths of attributes."""
    for name in names:
        if len(name) > MAX_NAME or not name.isprintable():
            raise MalformedError(f"the tensor name {name!r} is too long or holds control characters")
