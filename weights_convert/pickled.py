"""What a pickle of a checkpoint can describe: storages, tensors, and inert records of objects that are not known."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["Block", "Loaded", "MalformedError", "Record", "Storage", "Tensor", "Unset", "Vocabulary"]


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


class Unset:
    """An object that BUILD gives its content."""

    def set_state(self, state: Any) -> None:
        """Take the content in."""
        raise NotImplementedError


class Record(Unset):
    """An object of a class that is not known: its class's name and what the file says about it. It does nothing.

    Attributes:
        name: full name of the class or function.
        arguments: what it would be called with.
        state: what BUILD would give it.
        items: what would be set in it, where it is a kind of dictionary.
    """

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None
        self.items: dict[Any, Any] = {}

    def set_state(self, state: Any) -> None:
        """Keep the content as it is."""
        self.state = state


class Block(NamedTuple):
    """Bytes that were left in the file: where they begin, and how many there are."""

    offset: int
    size: int


class Vocabulary(NamedTuple):
    """The names that a kind of file may use.

    Attributes:
        calls: what may be called, by its full name.
        inert: what may only be mentioned.
        advice: what the user can do about a file that names anything else.
        foreign: whether an object of another module and name becomes a ``Record``; by default none does.
        blocks: bytes stay in the file and come out as a ``Block``.
    """

    calls: Mapping[str, Callable[..., Any]]
    inert: frozenset[str]
    advice: str
    foreign: Callable[[str, str], bool] = lambda module, name: False
    blocks: bool = False
