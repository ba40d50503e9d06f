"""A pickle machine for PyTorch checkpoints that can build tensors and plain containers, and cannot run anything.

It interprets the opcodes itself: there is no ``find_class`` to slip past. The only names that it knows are the storage
types, tensor rebuilding and ``OrderedDict``; any other is refused by name. Tensors come out as descriptions (storage,
offset, size, stride), which the reader checks against the real storages before it looks at a byte.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any, NamedTuple

__all__ = ["Loaded", "MalformedError", "Storage", "Tensor", "load"]

MAX_OPCODES = 5_000_000
MAX_DIMENSIONS = 8

STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class MalformedError(ValueError):
    """The stream is no checkpoint, is damaged, or asks for what a checkpoint does not need."""


class Storage(NamedTuple):
    """A block of ``size`` numbers of one type, found in the file under ``key``."""

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A strided view of a storage, in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Loaded(NamedTuple):
    """What a pickle described, and every storage that it mentioned, by key."""

    value: Any
    storages: dict[str, Storage]


class _Name(NamedTuple):
    """A global that was named; it does nothing by itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Mark:
    pass


_MARK = _Mark()


def load(stream: IO[bytes]) -> Loaded:
    """Run one pickle from ``stream``, which is left just after it.

    Raises:
        MalformedError: if it is damaged or asks for a global that is not a tensor's; the sentence names it.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_OPCODES:
                raise MalformedError("it has more pickle instructions than a checkpoint needs")
            if opcode.name == "STOP":
                return Loaded(machine.pop(), machine.storages)
            machine.step(opcode.name, argument)
    except MalformedError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise MalformedError("its pickle is damaged or cut off") from error
    raise MalformedError("its pickle is cut off")


class _Machine:
    """Stack, memo and the few instructions that torch's pickles are made of."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise MalformedError(f"it uses the pickle instruction {name}, which no plain checkpoint needs")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise MalformedError("its pickle is damaged")
        return value

    def pop_to_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise MalformedError("its pickle is damaged")

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def tuple_of(self, count: int) -> None:
        items = tuple(self.pop() for _ in range(count))
        self.stack.append(items[::-1])

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise MalformedError("its pickle is damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked_key(key)] = value

    def append_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise MalformedError("its pickle is damaged")
        target.extend(items)

    def two_items(self) -> list[Any]:
        value = self.pop()
        return [self.pop(), value]

    def name_global(self, module: str, name: str) -> None:
        named = _Name(module, name)
        if str(named) not in _CALLS and not (module == "torch" and name in STORAGES):
            raise MalformedError(
                f"it asks for the Python object {named}, which no tensor or plain container needs, and is refused: "
                "save a bare state dict with torch.save(model.state_dict(), ...) and convert that"
            )
        self.stack.append(named)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise MalformedError("its pickle is damaged")
        self.name_global(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or str(function) not in _CALLS or not isinstance(arguments, tuple):
            raise MalformedError("it calls something that builds no tensor, which is refused")
        self.stack.append(_CALLS[str(function)](*arguments))

    def build(self) -> None:
        # torch hangs `_metadata` on a state dict this way; nothing in it is needed, and nothing is set.
        self.pop()
        if not isinstance(self.stack[-1], OrderedDict):
            raise MalformedError("it sets the state of an object that is no plain container, which is refused")

    def persistent(self, saved: Any) -> None:
        if not isinstance(saved, tuple) or len(saved) not in (5, 6) or saved[0] != "storage":
            raise MalformedError("it refers to something outside that is no tensor storage, which is refused")
        kind, key, _, size = saved[1:5]
        if not isinstance(kind, _Name) or kind.name not in STORAGES or not isinstance(key, str) or not _is_count(size):
            raise MalformedError("one of its storages is described wrongly")
        if len(saved) == 6 and saved[5] is not None:
            raise MalformedError("it has storages that are views of others, a form that only torch before 0.4 wrote")
        storage = Storage(key, STORAGES[kind.name], size)
        if self.storages.setdefault(key, storage) != storage:
            raise MalformedError(f"its storage {key} is described in two ways")
        self.stack.append(storage)


def _checked_key(key: Any) -> Any:
    # Only simple keys: hashing a deeply shared tuple can take for ever.
    if not isinstance(key, str | int | float | bytes | None):
        raise MalformedError("one of its dictionaries has keys that are neither text nor numbers")
    return key


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**60


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    """``torch._utils._rebuild_tensor_v2``: the rest (requires_grad, hooks, metadata) has no bearing on the numbers."""
    del rest
    counts = (offset, *size, *stride)
    if not isinstance(storage, Storage) or len(size) != len(stride) or not all(_is_count(c) for c in counts):
        raise MalformedError("one of its tensors is described wrongly")
    if len(size) > MAX_DIMENSIONS:
        raise MalformedError(f"one of its tensors has {len(size)} dimensions")
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *rest: Any) -> Tensor:
    del rest
    if not isinstance(data, Tensor):
        raise MalformedError("one of its parameters holds no tensor")
    return data


def _ordered(*arguments: Any) -> "OrderedDict[Any, Any]":
    pairs = arguments[0] if arguments else ()
    return OrderedDict((_checked_key(key), value) for key, value in pairs)


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
_IGNORED = {"PROTO", "FRAME"}
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "BINPUT": lambda m, a: m.put(a),
    "LONG_BINPUT": lambda m, a: m.put(a),
    "MEMOIZE": lambda m, _: m.put(None),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "SETITEM": lambda m, _: m.set_items(m.two_items()),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "APPEND": lambda m, _: m.append_items([m.pop()]),
    "APPENDS": lambda m, _: m.append_items(m.pop_to_mark()),
    "GLOBAL": lambda m, a: m.name_global(*a.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.stack_global(),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.persistent(m.pop()),
}
