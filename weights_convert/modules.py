"""A pickled torch module, or one of NVIDIA's persistent objects, as named tensors and the arguments it was made with."""

from typing import Any, NamedTuple

from weights_convert.pickled import MalformedError, Record, Tensor

__all__ = ["Module", "is_module", "read_module"]

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
MAX_DEPTH = 32
MAX_ITEMS = 1000
"""Arguments of a module, those inside others included; those of a network are a few dozen."""


class Module(NamedTuple):
    """A module's tensors by torch's names, and the tree of classes and arguments that made it."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]


def is_module(value: Any) -> bool:
    """Whether a value is a record of a torch module."""
    return isinstance(value, Record) and isinstance(_state(value).get("_modules"), dict)


def read_module(root: Record) -> Module:
    """Walk a module's parameters, buffers and parts; nothing of its source text is looked at.

    Raises:
        MalformedError: if its parts are nested in each other without end, or a name is used twice.
    """
    tensors: dict[str, Tensor] = {}
    config: dict[str, Any] = {}
    seen: set[int] = set()
    ahead: list[tuple[str, Record, dict[str, Any], int]] = [("", _unwrapped(root), config, 0)]
    while ahead:
        prefix, record, about, depth = ahead.pop()
        if id(record) in seen or depth > MAX_DEPTH:
            raise MalformedError("its modules are nested in each other in a way that no network's are")
        seen.add(id(record))
        state = _state(record)
        about.update(_description(record, state))
        for kind in ("_parameters", "_buffers"):
            for name, value in _entries(state, kind):
                if isinstance(value, Tensor):
                    tensors[f"{prefix}{name}"] = value
        for name, part in reversed(_entries(state, "_modules")):
            if isinstance(part, Record):
                about["parts"][name] = inner = dict[str, Any]()
                ahead.append((f"{prefix}{name}.", part, inner, depth + 1))
    return Module(tensors, config)


def _unwrapped(record: Record) -> Record:
    """The module inside of those that run it on several devices, or compiled."""
    for _ in range(MAX_DEPTH):
        parts = _entries(_state(record), "_modules")
        if len(parts) != 1 or parts[0][0] not in ("module", "_orig_mod") or not isinstance(parts[0][1], Record):
            break
        record = parts[0][1]
    return record


def _state(record: Record) -> dict[str, Any]:
    """The attributes of an object, wherever its kind of record keeps them."""
    state = record.state
    if record.name == PERSISTENT and record.arguments and isinstance(record.arguments[0], dict):
        state = record.arguments[0].get("state")
    return state if isinstance(state, dict) else {}


def _entries(state: dict[str, Any], kind: str) -> list[tuple[str, Any]]:
    entries = state.get(kind)
    if not isinstance(entries, dict):
        return []
    if not all(isinstance(name, str) for name in entries):
        raise MalformedError("one of its modules has a part without a name")
    return list(entries.items())


def _description(record: Record, state: dict[str, Any]) -> dict[str, Any]:
    """Class, arguments and plain attributes of a module; its parts come later."""
    made = record.arguments[0] if record.name == PERSISTENT else {}
    name = made.get("class_name") if isinstance(made, dict) else None
    attributes = {key: plain(value) for key, value in state.items() if isinstance(key, str) and key[:1] != "_"}
    return {
        "class_name": name if isinstance(name, str) else record.name.rpartition(".")[2],
        "init_args": plain(state.get("_init_args", ())),
        "init_kwargs": plain(state.get("_init_kwargs", {})),
        "attributes": {key: value for key, value in attributes.items() if value is not None},
        "parts": {},
    }


def plain(value: Any, left: list[int] | None = None) -> Any:
    """Numbers, texts, lists and dictionaries of them, ``MAX_ITEMS`` at most; what is none of these is None."""
    left = [MAX_ITEMS] if left is None else left
    left[0] -= 1
    if isinstance(value, Record) and value.items:
        value = value.items  # a kind of dictionary
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not isinstance(value, list | tuple | dict) or len(value) > left[0]:
        return None
    try:
        if isinstance(value, dict):
            return {key: plain(item, left) for key, item in value.items() if isinstance(key, str)}
        return [plain(item, left) for item in value]
    except RecursionError:
        return None
