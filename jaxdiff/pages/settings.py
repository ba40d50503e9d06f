"""What a report says at its end: the command, the versions, the device."""

import platform
import sys
from typing import Any

import jax

__all__ = ["settings_of"]


def settings_of(**more: Any) -> dict[str, str]:
    """The facts that repeat a run: those given, then versions and device; None is left out."""
    facts = {
        **more,
        "jaxdiff": sys.modules["jaxdiff"].__version__,  # the package of this room, which may not be installed
        "jax": jax.__version__,
        "Python": platform.python_version(),
        "device": f"{jax.device_count()} × {jax.devices()[0].device_kind} ({jax.default_backend()})",
    }
    return {name: str(value) for name, value in facts.items() if value is not None}
