"""Methods by name."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from jaxdiff.samplers.base import Sampler

__all__ = ["METHODS", "UNCONDITIONAL", "Method", "register"]

Factory = TypeVar("Factory", bound=Callable[..., Sampler])


class Method(NamedTuple):
    """A method as the tables of the library know it.

    Attributes:
        name: of its factory, and on the command line.
        make: the factory, ``make(**options)``.
        kind: the class that it makes, which states the method's facts.
    """

    name: str
    make: Callable[..., Sampler]
    kind: type[Sampler]

    def __call__(self, **options: Any) -> Sampler:
        """Make a sampler."""
        return self.make(**options)


METHODS: dict[str, Method] = {}
"""Posterior samplers."""

UNCONDITIONAL: dict[str, Method] = {}
"""Samplers of the prior."""


def register(kind: type[Sampler]) -> Callable[[Factory], Factory]:
    """Enter a factory under its own name as the way to make ``kind``. An option that it does not have is refused."""

    def enter(make: Factory) -> Factory:
        name, known = make.__name__, inspect.signature(make).parameters

        @functools.wraps(make)
        def checked(*values: Any, **options: Any) -> Sampler:
            for option in options:
                if option not in known:
                    raise ValueError(f"{name} does not take {option!r}; its options are {', '.join(known) or 'none'}.")
            return make(*values, **options)

        (UNCONDITIONAL if kind.needs is None else METHODS)[name] = Method(name, checked, kind)
        return checked  # type: ignore[return-value]

    return enter
