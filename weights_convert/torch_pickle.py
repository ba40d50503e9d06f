"""A pickle machine for checkpoints that can build tensors and plain containers, and cannot run anything.

It interprets the opcodes itself: there is no ``find_class`` to slip past. A vocabulary says which names it knows. Any
other is refused by name, or becomes an inert ``Record`` where the vocabulary admits foreign objects. PyTorch's has the
storage types, tensor rebuilding and ``OrderedDict``. Tensors come out as descriptions (storage, offset, size, stride),
which the reader checks against the real storages before it looks at a byte. Time and memory grow in proportion to the
file.
"""

import os
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from weights_convert.pickled import Block, Loaded, MalformedError, Record, Storage, Tensor, Unset, Vocabulary

__all__ = ["TORCH", "Budget", "MalformedError", "Storage", "Tensor", "Unset", "Vocabulary", "load"]

MAX_OPCODES = 5_000_000
"""Instructions of all pickles of a file together."""
MAX_DIMENSIONS = 8
MAX_KEY = 2**60
"""Whole numbers beyond it can be made to hash alike, so that a dictionary of them takes for ever."""

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


class Budget:
    """What the pickles of one file cost so far: instructions, and items that calls copy.

    An honest file makes each of those items by an instruction of its own, so it has fewer copies than instructions.
    """

    def __init__(self) -> None:
        self.instructions = self.copies = 0

    def step(self) -> None:
        """Pay for one instruction."""
        self.instructions += 1
        if self.instructions > MAX_OPCODES:
            raise MalformedError("it has more pickle instructions than a checkpoint needs")

    def copy(self, count: int) -> None:
        """Pay for ``count`` copied items."""
        self.copies += count
        if self.copies > self.instructions:
            raise MalformedError("it copies the same items again and again, which no checkpoint does")


class _Name(NamedTuple):
    """A global that was named; it does nothing by itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Mark:
    pass


_MARK = _Mark()


def load(stream: IO[bytes], budget: Budget | None = None, vocabulary: Vocabulary | None = None) -> Loaded:
    """Run one pickle from ``stream``, which is left just after it.

    Args:
        stream: the file.
        budget: what the file's pickles may still cost; one for all of them.
        vocabulary: the names that it may use; PyTorch's by default.

    Raises:
        MalformedError: if it is damaged or asks for a global that is not in the vocabulary; the sentence names it.
    """
    budget = Budget() if budget is None else budget
    vocabulary = TORCH if vocabulary is None else vocabulary
    machine = _Machine(budget, vocabulary)
    try:
        for name, argument in _instructions(stream, blocks=vocabulary.blocks):
            budget.step()
            if name == "STOP":
                return Loaded(machine.pop(), machine.storages)
            machine.step(name, argument)
    except MalformedError:
        raise
    except _DAMAGE as error:
        raise MalformedError("its pickle is damaged or cut off") from error
    raise MalformedError("its pickle is cut off")


def _instructions(stream: IO[bytes], *, blocks: bool) -> Iterator[tuple[str, Any]]:
    """Name and argument of each instruction; with ``blocks``, bytes are stepped over."""
    while True:
        opcode = _OPCODES[stream.read(1).decode("latin-1")]
        if blocks and opcode.name in _BYTES:
            yield opcode.name, _skipped(stream, _BYTES[opcode.name])
        else:
            yield opcode.name, None if opcode.arg is None else opcode.arg.reader(stream)


def _skipped(stream: IO[bytes], width: int) -> Block:
    header = stream.read(width)
    size, offset = int.from_bytes(header, "little"), stream.tell()
    if len(header) != width or size > os.fstat(stream.fileno()).st_size - offset:
        raise MalformedError("its pickle is cut off")
    stream.seek(size, os.SEEK_CUR)
    return Block(offset, size)


class _Machine:
    """Stack, memo and the few instructions that torch's pickles are made of."""

    def __init__(self, budget: Budget, vocabulary: Vocabulary) -> None:
        self.budget, self.vocabulary = budget, vocabulary
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
        target = target.items if isinstance(target, Record) else target
        if not isinstance(target, dict) or len(items) % 2:
            raise MalformedError("its pickle is damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked_key(key)] = value

    def append_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Record):  # what a foreign list holds is of no use
            raise MalformedError("its pickle is damaged")

    def two_items(self) -> list[Any]:
        value = self.pop()
        return [self.pop(), value]

    def name_global(self, module: str, name: str) -> None:
        named = _Name(module, name)
        known = str(named) in self.vocabulary.calls or str(named) in self.vocabulary.inert
        if not known and not self.vocabulary.foreign(module, name):
            raise MalformedError(
                f"it asks for the Python object {named}, which no tensor or plain container needs, and is refused: "
                f"{self.vocabulary.advice}"
            )
        self.stack.append(named)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise MalformedError("its pickle is damaged")
        self.name_global(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise MalformedError("it calls something that builds no tensor, which is refused")
        call = self.vocabulary.calls.get(str(function))
        if call is None:
            if str(function) in self.vocabulary.inert:
                raise MalformedError("it calls something that builds no tensor, which is refused")
            self.stack.append(Record(str(function), arguments))
            return
        self.budget.copy(len(arguments))
        if call is _ordered and arguments:  # Python 2 wrote the items here, in a list that can be used more than once
            self.budget.copy(len(arguments[0]))
        self.stack.append(call(*arguments))

    def build(self) -> None:
        # torch hangs `_metadata` on a state dict this way; nothing in it is needed, and nothing is set.
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Unset):
            target.set_state(state)
        elif not isinstance(target, OrderedDict):
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
    if isinstance(key, int) and abs(key) >= MAX_KEY:
        raise MalformedError("one of its dictionaries has a whole number as key that is too large")
    return key


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**60


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    """``torch._utils._rebuild_tensor_v2``: the rest (requires_grad, hooks, metadata) has no bearing on the numbers."""
    del rest
    if len(size) > MAX_DIMENSIONS:
        raise MalformedError(f"one of its tensors has {len(size)} dimensions")
    if not isinstance(storage, Storage) or len(size) != len(stride):
        raise MalformedError("one of its tensors is described wrongly")
    if not all(_is_count(count) for count in (offset, *size, *stride)):
        raise MalformedError("one of its tensors is described wrongly")
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *rest: Any) -> Tensor:
    del rest
    if not isinstance(data, Tensor):
        raise MalformedError("one of its parameters holds no tensor")
    return data


def _ordered(*arguments: Any) -> "OrderedDict[Any, Any]":
    pairs = arguments[0] if arguments else ()
    return OrderedDict((_checked_key(key), value) for key, value in pairs)


TORCH = Vocabulary(
    calls={
        "collections.OrderedDict": _ordered,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
    },
    inert=frozenset(f"torch.{name}" for name in STORAGES),
    advice="save a bare state dict with torch.save(model.state_dict(), ...) and convert that",
)
_DAMAGE = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError,
)  # fmt: skip
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8}
"""Instructions that hold bytes, and the width of the count before them."""
_IGNORED = {"PROTO", "FRAME"}
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING", *_BYTES,
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,  # a set's members are of no use, and hashing them could take for ever
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
    "ADDITEMS": lambda m, _: m.append_items(m.pop_to_mark()),
    "FROZENSET": lambda m, _: m.stack.append(m.pop_to_mark()),
    "GLOBAL": lambda m, a: m.name_global(*a.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.stack_global(),
    "REDUCE": lambda m, _: m.reduce(),
    "NEWOBJ": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.persistent(m.pop()),
}
