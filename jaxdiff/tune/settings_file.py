"""The file of settings that ``jaxdiff tune`` writes: prior → task → method → options, and every trial behind them."""

import json
import math
from pathlib import Path
from typing import Any

from jaxdiff.evaluation.scores import EXACT
from jaxdiff.files import parse_json, write_text

__all__ = ["METRICS", "read_settings", "write_settings"]

METRICS = {"psnr": 1, "ssim": 1, "lpips": -1}
"""Measures to choose by: +1 where more is better."""
POSSIBLE = {"psnr": (0.0, EXACT), "ssim": (-1.0, 1.0), "lpips": (0.0, math.inf)}
"""The values that a measure can have."""


def read_settings(path: str | Path) -> dict[str, Any]:
    """A file of settings: prior → task → method → options, and the ``provenance`` of each.

    Raises:
        ValueError: if it cannot be read or is something else.
    """
    try:
        content = parse_json(Path(path).read_text("utf-8"))
        json.dumps(content, allow_nan=False)  # NaN and infinity are no JSON, but Python reads them
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; make it with jaxdiff tune --out {path}.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as settings ({error}); make it anew with jaxdiff tune.") from None
    if not isinstance(content, dict) or not all(_is_table(v) for k, v in content.items() if k != "provenance"):
        raise ValueError(
            f"{path} does not hold settings (prior → task → method → options); write it with jaxdiff tune."
        )
    if (fault := _fault_of(content.get("provenance", {}))) is not None:
        raise ValueError(f"{path} holds a record that no search wrote ({fault}); make it anew with jaxdiff tune.")
    return content


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write a file of settings, whole or not at all."""
    write_text(path, json.dumps(settings, indent=2, allow_nan=False) + "\n")


def _is_table(table: Any) -> bool:
    """Whether it is task → method → options."""
    return isinstance(table, dict) and all(
        isinstance(methods, dict) and all(isinstance(options, dict) for options in methods.values())
        for methods in table.values()
    )


def _fault_of(trail: Any) -> str | None:
    """What is wrong with a provenance: prior → task → method → record, with the options and figures of every trial."""
    try:
        records = [
            (f"{method} on {task} with {prior}", record)
            for prior, tasks in trail.items()
            for task, methods in tasks.items()
            for method, record in methods.items()
        ]
        for where, record in records:
            for trial in record.get("trials", []):
                if not isinstance(trial["options"], dict):
                    return f"{where} has options {trial['options']!r:.40}"
                for name in METRICS:
                    if not _is_figure(name, trial[name]):
                        return f"{where} has {name} = {trial[name]!r:.40}"
    except (AttributeError, KeyError, TypeError):
        return "its provenance is not prior → task → method → record"
    return None


def _is_figure(metric: str, value: Any) -> bool:
    """Whether a trial can have this value: None where it diverged."""
    if value is None:
        return True
    low, high = POSSIBLE[metric]
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
