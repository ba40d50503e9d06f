"""What a job runs, and its record in the job's folder: a later call may add to it, but not change it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jaxdiff.files import parse_json

__all__ = ["GROWS", "RECORD", "Grid", "grown"]

RECORD = "bench.json"


@dataclass(frozen=True)
class Grid:
    """What to run.

    Attributes:
        tasks: names (``jaxdiff info``, or published ones such as "dps/sr4"), or ``package.module:factory`` for one of your
            own: a function (key, image_shape) → operator, or a ``jd.tasks.Task``.
        methods: names, or ``package.module:factory`` for one of your own: a function without arguments that returns a sampler.
        seeds: of measurement and run; each gives a run an image.
        steps: of a run, where ``calls`` is None.
        prior: name or path, under which settings were recorded.
        noise_std: σ on [-1, 1] for all tasks; None for each task's own.
        noise: "gaussian", or a noise model as ``jd.noise.named`` takes it, for all tasks; None for each task's own.
        spacing: of the steps; None for each method's own.
        dtype: "float32" or "bfloat16", of the network.
        part: images a part.
        pictures: write a PNG of each restoration and measurement.
        calls: network calls that an image may cost, in place of ``steps``; None for ``steps``.
        settings: "defaults" for each method's own, or the name of the table that the job is given; None for those recorded.
        lpips: network of LPIPS, "alex" or "vgg".
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int = 100
    prior: str = "faces64"
    noise_std: float | None = None
    noise: str | None = None
    spacing: str | None = None
    dtype: str = "float32"
    part: int = 16
    pictures: bool = True
    calls: int | None = None
    settings: str | None = None
    lpips: str = "alex"


NEWER = {"lpips": Grid.lpips}
"""Fields that records of older versions lack, and what those jobs did."""
GROWS = ("tasks", "methods", "seeds")
"""What a later call may add to a job; everything else must stay."""


def grown(out: Path, grid: Grid, facts: Mapping[str, Any]) -> tuple[dict[str, Any], Grid]:
    """What the job is, for its record, and its grid: this call's tasks, methods and seeds after those of earlier calls.

    Args:
        out: the job's folder.
        grid: what this call asks for.
        facts: what else must stay, such as the fingerprint of the weights.

    Raises:
        ValueError: if the folder holds another job.
    """
    record = json.loads(json.dumps(asdict(grid))) | dict(facts)
    path = out / RECORD
    if not path.exists():
        return record, grid
    before = NEWER | _read_record(path)
    for name, value in record.items():
        if name not in GROWS and before.get(name) != value:
            raise ValueError(f"{out} holds a job with {name} = {before.get(name)}, not {value}; choose another --out.")
    whole = {name: tuple(dict.fromkeys([*before[name], *record[name]])) for name in GROWS}
    return record | whole, replace(grid, tasks=whole["tasks"], methods=whole["methods"], seeds=whole["seeds"])


def _read_record(path: Path) -> dict[str, Any]:
    """A job's ``bench.json``.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        record = parse_json(path.read_text("utf-8"))
        if all(isinstance(record[name], list) for name in GROWS):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is damaged; choose another --out, or delete it if its rows are still valid.")
