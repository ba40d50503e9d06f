"""A second process that takes turns with the first, round by round, so that both see the same noise of the machine.

The child runs the same benchmark's module with ``--serve`` in its own interpreter (one with torch, say). It answers JSON
requests, one a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = "answer "


class Peer:
    """Talks to the second process."""

    def __init__(self, python: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start ``python -m module --serve arguments…``."""
        self.process = subprocess.Popen(
            [python, "-m", module, "--serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
        )

    def ask(self, **request: object) -> Any:
        """One request, one answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError("the peer's process ended; its error stands above.")

    def close(self) -> None:
        """End the second process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def serve(answer: Callable[..., Any]) -> None:
    """The second process: answer until the first one closes the pipe."""
    for line in sys.stdin:
        print(MARK + json.dumps(answer(**json.loads(line))), flush=True)


def block(call: Callable[[], object], seconds: float = 0.15) -> list[float]:
    """Microseconds of each call in one turn of at least so many seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(1e6 * (time.perf_counter() - start))
    return times


def stub_torchvision() -> None:
    """Stand-in for torchvision where it does not load; what is timed of deepinv does not use it."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        import importlib.machinery
        import types

        class Module(types.ModuleType):
            __path__: list[str] = []

            def __getattr__(self, name: str) -> object:
                if name.startswith("__"):
                    raise AttributeError(name)
                return sys.modules.get(f"{self.__name__}.{name}", type(name, (), {}))

        class Finder:
            def find_spec(self, name: str, path: object = None, target: object = None) -> object:
                if name.split(".")[0] == "torchvision":
                    return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
                return None

            def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
                return Module(spec.name)

            def exec_module(self, module: types.ModuleType) -> None:
                pass

        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]
