"""The API pages: one a public module, with every name of its `__all__`."""

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jaxdiff as jd

__all__ = ["modules", "pages"]

FURTHER = ("assets", "checkpoints", "evaluation", "export", "files", "training")
"""Public modules that `import jaxdiff` does not offer by itself."""


def modules() -> dict[str, ModuleType]:
    """All public modules by name, the package first."""
    inside = [name for name in jd.__all__ if inspect.ismodule(getattr(jd, name))]
    names = ["jaxdiff", *sorted(f"jaxdiff.{name}" for name in (*inside, *FURTHER))]
    return {name: importlib.import_module(name) for name in names}


def entry(module: ModuleType, name: str) -> str:
    """The directive that documents one public name."""
    value = getattr(module, name)
    full = f"{module.__name__}.{name}"
    if inspect.ismodule(value):
        return ""
    if inspect.isclass(value):
        # The package offers some classes of its modules by itself. One that is defined deeper is indexed there.
        elsewhere = module is not jd and getattr(jd, name, None) is value and value.__module__ != module.__name__
        again = "   :no-index:\n" if elsewhere else ""
        return f".. autoclass:: {full}\n   :members:\n   :show-inheritance:\n{again}"
    return f".. autofunction:: {full}\n" if inspect.isroutine(value) else f".. py:data:: {full}\n\n   {held(value)}\n"


def held(value: Any) -> str:
    """What a constant holds, in a line."""
    if isinstance(value, dict):
        return "By name: " + ", ".join(f"``{name}``" for name in value) + "."
    return f"``{value!r}``"


def page(module: ModuleType) -> str:
    """One module."""
    title = module.__name__
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    public = sorted(module.__all__, key=lambda name: (inspect.isclass(getattr(module, name)), name.lower()))
    return "\n".join([title, "=" * len(title), "", summary, "", *(entry(module, name) for name in public)])


def index() -> str:
    """The list of modules."""
    lines = ["API", "===", "", "Every public name, by module.", "", ".. toctree::", "   :maxdepth: 1", ""]
    return "\n".join([*lines, *(f"   {name}" for name in modules())]) + "\n"


def pages() -> Iterator[tuple[str, str]]:
    """(path in the site, text) of each page."""
    yield "api/index.rst", index()
    for name, module in modules().items():
        yield f"api/{name}.rst", page(module)
