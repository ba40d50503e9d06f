"""A grid of images × tasks × methods × seeds as one job that can be killed, shared between hosts, and taken up again.

The job's folder is its memory: the rows of a part (one task, method and seed on a few images) are one small file, written
whole after the pictures of these images. What has a file is done. Whoever finds all parts there writes the tables.
"""

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff.bench.summary import latex, markdown_tables, summarise
from jaxdiff.denoisers import Denoiser
from jaxdiff.engine import restore_many
from jaxdiff.engine.bookmark import fingerprint
from jaxdiff.evaluation.scores import SCORES, measure, scores
from jaxdiff.files import find_images, load_image, out_folder, parse_json, save_image, write_text
from jaxdiff.hosts import share
from jaxdiff.network_calls import calls_of
from jaxdiff.problems import Problem
from jaxdiff.samplers.loop import grid_for
from jaxdiff.schedules import RepeatedTimestepError, TimeGrid
from jaxdiff.tables import write_rows
from jaxdiff.tasks.settings import get_task, make_sampler
from jaxdiff.typing import Array

__all__ = ["COLUMNS", "Grid", "Job", "Outcome", "Part"]

COLUMNS = ("task", "method", "seed", "image", "status", *SCORES, "noise_std", "steps", "network_calls", "seconds")
"""Of the table of rows. ``status``: "ok", or "diverged" where not finite; ``seconds``: the part's run time by its images."""
DIGITS = {"psnr": 4, "ssim": 5, "lpips": 5, "misfit": 6}

Row = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """What to run.

    Attributes:
        tasks: names (``jaxdiff info``, or published ones such as "dps/sr4").
        methods: names.
        seeds: of measurement and run; each gives a run an image.
        steps: of a run.
        prior: name or path, under which settings were recorded.
        noise_std: σ on [-1, 1] for all tasks; None for each task's own.
        spacing: of the steps; None for each method's own.
        dtype: "float32" or "bfloat16", of the network.
        part: images a part.
        pictures: write a PNG of each restoration and measurement.
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int = 100
    prior: str = "faces64"
    noise_std: float | None = None
    spacing: str | None = None
    dtype: str = "float32"
    part: int = 16
    pictures: bool = True


GROWS = ("tasks", "methods", "seeds")
"""What a later call may add to a job; everything else must stay."""


class Part(NamedTuple):
    """A task, method and seed on the images ``first`` … ``last − 1`` of the list."""

    task: str
    method: str
    seed: int
    first: int
    last: int

    @property
    def file(self) -> str:
        """The name of its rows."""
        return f"{_slug(self.task)}--{self.method}--s{self.seed}--{self.first:06d}.csv"


class Outcome(NamedTuple):
    """What a job came to.

    Attributes:
        rows: all rows; empty while parts of other processes are missing.
        summary: by task and method.
        unreadable: images that could not be read, and why.
        refused: (task, method) → why the method cannot do it.
        missing: parts that other processes still work on.
    """

    rows: list[Row]
    summary: list[Row]
    unreadable: dict[str, str]
    refused: dict[tuple[str, str], str]
    missing: int


class Job:
    """A grid over a folder of pictures, with the folder that holds what was done."""

    def __init__(self, grid: Grid, data: str | Path, out: Path, denoiser: Denoiser, most: int | None = None) -> None:
        """Check everything that can be checked before anything runs.

        Raises:
            ValueError: for unknown names, a folder without a picture that can be read, or an output folder of another job.
        """
        self.out, self.denoiser = out, denoiser
        inside = out.resolve()
        self.images = [path for path in find_images(data) if inside not in path.resolve().parents][:most]
        if not self.images:
            raise ValueError(f"all pictures in {data} are in {out}, the job's own folder; choose another --out.")
        self.names = [str(path.relative_to(data).with_suffix("")) for path in self.images]
        if len(set(self.names)) < len(self.names):
            self.names = [str(path.relative_to(data)) for path in self.images]
        settings, grid = self._grown(grid)
        self.grid = grid
        # Parts of one size, so that each method compiles once and the last one is hardly padded.
        self.size = math.ceil(len(self.images) / math.ceil(len(self.images) / grid.part))
        for task in grid.tasks:
            get_task(task)
        self.samplers = {(t, m): make_sampler(m, t, grid.prior) for t in grid.tasks for m in grid.methods}
        self.refused: dict[tuple[str, str], str] = {}
        self.grids = self._grids()
        self._readable = cache(_readable)  # asked again of each method, task and seed; a new job looks anew
        self._check_readable()
        for folder in ("parts", ".runs"):
            out_folder(out / folder)
        write_text(out / "bench.json", json.dumps(settings, indent=2) + "\n")
        self.unreadable: dict[str, str] = {}
        self._read = lru_cache(maxsize=2)(self._read_images)

    def _grown(self, grid: Grid) -> tuple[dict[str, Any], Grid]:
        """What the job is, for its record, and its grid: this call's tasks, methods and seeds after those of earlier calls.

        Raises:
            ValueError: if the folder holds another job.
        """
        listing = hashlib.sha256(os.fsencode("\n".join(self.names))).hexdigest()[:16]
        settings = json.loads(json.dumps(asdict(grid)))
        settings |= {"images": len(self.names), "listing": listing, "weights": fingerprint(self.denoiser)[:12]}
        path = self.out / "bench.json"
        if not path.exists():
            return settings, grid
        before = _read_record(path)
        for name, value in settings.items():
            if name not in GROWS and before.get(name) != value:
                raise ValueError(
                    f"{self.out} holds a job with {name} = {before.get(name)}, not {value}; choose another --out."
                )
        whole = {name: tuple(dict.fromkeys([*before[name], *settings[name]])) for name in GROWS}
        return settings | whole, replace(grid, tasks=whole["tasks"], methods=whole["methods"], seeds=whole["seeds"])

    def _grids(self) -> dict[tuple[str, str], TimeGrid]:
        """The times of each method's runs; one whose own spacing has not so many is left out, unless none is left.

        Raises:
            ValueError: if no method can run so, or steps or spacing are impossible.
        """
        grids = {}
        for (task, method), sampler in self.samplers.items():
            try:
                grids[task, method] = grid_for(self.denoiser, sampler, self.grid.steps, self.grid.spacing)
            except RepeatedTimestepError as error:
                self.refused[task, method] = str(error)
        if not grids:
            raise ValueError(next(iter(self.refused.values())))
        return grids

    def _check_readable(self) -> None:
        """Stop before a job is made in which there is nothing to do."""
        if any(map(self._readable, self.images)):
            return
        try:
            load_image(self.images[0])
        except ValueError as error:
            raise ValueError(f"no picture could be read, of {len(self.images)}; the first: {error}") from None

    def parts(self) -> list[Part]:
        """All parts; those on the same images follow each other, so that a picture is read once."""
        grid, count = self.grid, len(self.images)
        return [
            Part(task, method, seed, first, min(first + self.size, count))
            for first in range(0, count, self.size)
            for task in grid.tasks
            for seed in grid.seeds
            for method in grid.methods
            if (task, method) in self.grids
        ]

    def open_parts(self) -> list[Part]:
        """Those that this process has to do: its share of what has no rows yet."""
        done = {path.name for path in (self.out / "parts").glob("*.csv")}
        return [part for part in share(self.parts()) if part.file not in done or self._can_be_completed(part)]

    def _can_be_completed(self, part: Part) -> bool:
        """Whether it lacks a picture that could not be read when it was done, and can be now."""
        there = {row["image"] for row in _read_rows(self.out / "parts" / part.file)}
        return any(self._readable(self.images[i]) for i in range(part.first, part.last) if self.names[i] not in there)

    def cost(self, part: Part) -> int:
        """(Image × step)s, what a progress bar counts."""
        return self.size * len(self.grids[part.task, part.method].t)

    def run(
        self,
        *,
        batch_size: int | str = "auto",
        devices: int | None = None,
        report: Callable[[int], None] | None = None,
    ) -> Outcome:
        """Do what is open, then write the tables if all is there.

        Pictures and rows are written by a second thread, and the next images are read and measured by a third, while the
        devices work.
        """
        todo = self.open_parts()
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            written: list[Future] = []
            coming = reader.submit(self._prepare, todo[0]) if todo else None
            for here, following in zip_longest(todo, todo[1:]):
                assert coming is not None
                prepared = coming.result()
                coming = reader.submit(self._prepare, following) if following else None
                written = [future for future in written if not _finished(future)]
                if prepared is not None and (here.task, here.method) not in self.refused:
                    written += self._do(here, *prepared, writer, batch_size, devices, report)
                    continue
                if prepared is None:
                    written.append(writer.submit(write_rows, self.out / "parts" / here.file, [], COLUMNS))
                if report is not None:
                    report(self.cost(here))
            for future in written:
                future.result()
        return self._finish()

    def _read_images(self, first: int, last: int) -> tuple[list[int], np.ndarray]:
        """Those of the images that can be read: their places in the list, and pixels [n, H, W, C]."""
        height, width, _ = self.denoiser.image_shape
        places, pixels = [], []
        for i in range(first, last):
            try:
                pixels.append(load_image(self.images[i], size=(height, width), resize=True).pixels)
                places.append(i)
            except ValueError as error:
                self.unreadable[self.names[i]] = str(error)
        return places, np.stack(pixels) if pixels else np.zeros((0, height, width, 3), np.float32)

    def _prepare(self, part: Part) -> tuple[list[int], np.ndarray, Problem] | None:
        """Images and their measurements, equal for all methods; None where no image can be read.

        ``places`` are those of the first images; the last of them again fills the part.
        """
        places, pixels = self._read(part.first, part.last)
        if not places:
            return None
        index = np.minimum(np.arange(self.size), len(places) - 1)
        key = jax.random.fold_in(jax.random.key(part.seed), 0)
        return (
            places,
            pixels[index],
            measure(part.task, key, pixels[index], self.grid.noise_std, np.asarray(places)[index]),
        )

    def _do(
        self,
        part: Part,
        places: list[int],
        pixels: np.ndarray,
        problems: Problem,
        writer: ThreadPoolExecutor,
        batch_size: int | str,
        devices: int | None,
        report: Callable[[int], None] | None,
    ) -> list[Future]:
        pair = (part.task, part.method)
        sampler, grid = self.samplers[pair], self.grids[pair]
        key = jax.random.fold_in(jax.random.key(part.seed), 1)
        index = np.minimum(np.arange(self.size), len(places) - 1)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.asarray(places)[index])
        try:
            outcome = restore_many(
                keys,
                self.denoiser,
                problems,
                sampler,
                steps=grid,
                batch_size=batch_size,
                devices=devices,
                report=report,
                resume=self.out / ".runs" / part.file.replace(".csv", ".npz"),
            )
        except ValueError as error:  # what a method says of an operator that it cannot serve
            self.refused[pair] = str(error)
            if report is not None:
                report(self.cost(part))
            return [writer.submit(write_text, self._refusal(*pair), str(error))]
        found = scores(outcome.x, pixels, problems)
        rows = [
            self._row(part, place, i, found, outcome.seconds / len(places), problems) for i, place in enumerate(places)
        ]
        return [writer.submit(self._write, part, places, outcome.x, problems, rows)]

    def _row(self, part: Part, place: int, i: int, found: dict, seconds: float, problems: Problem) -> Row:
        pair = (part.task, part.method)
        calls = calls_of(self.samplers[pair], len(self.grids[pair].t)).forward
        values = {name: round(float(found[name][i]), DIGITS[name]) for name in SCORES}
        return {
            "task": part.task,
            "method": part.method,
            "seed": part.seed,
            "image": self.names[place],
            "status": "ok" if np.isfinite(values["psnr"]) else "diverged",
            **values,
            "noise_std": round(float(problems.noise_std[i]), 6),
            "steps": len(self.grids[pair].t),
            "network_calls": calls,
            "seconds": round(seconds, 4),
        }

    def _refusal(self, task: str, method: str) -> Path:
        """Where it is written that a method cannot do a task, for other processes to know."""
        return self.out / "parts" / f"{_slug(task)}--{method}.refused"

    def _write(self, part: Part, places: list[int], x: np.ndarray, problems: Problem, rows: list[Row]) -> None:
        """Pictures first, rows last: where there are rows, all is there."""
        if self.grid.pictures:
            for i, place in enumerate(places):
                if rows[i]["status"] == "ok":
                    save_image(self.picture(part.task, part.method, part.seed, place), x[i])
            files = [self.picture(part.task, "measured", part.seed, place) for place in places]
            if not all(map(Path.exists, files)):
                for file, view in zip(files, _views(problems), strict=False):
                    save_image(file, view)
        write_rows(self.out / "parts" / part.file, rows, COLUMNS)
        for state in (self.out / ".runs").glob(part.file.replace(".csv", "-*.npz")):
            state.unlink(missing_ok=True)

    def picture(self, task: str, method: str, seed: int, place: int) -> Path:
        """Where the restoration of an image is, or what was measured for method "measured"."""
        path = self.out.joinpath("pictures", _slug(task), method, f"s{seed}", f"{self.names[place]}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _finish(self) -> Outcome:
        """Read all parts back; write rows and summaries if none is missing."""
        rows: list[Row] = []
        missing = 0
        for task, method in self.samplers:
            path = self._refusal(task, method)
            if path.exists():
                self.refused[task, method] = path.read_text("utf-8")
        for part in sorted(self.parts(), key=self._order):
            path = self.out / "parts" / part.file
            if path.exists():
                rows += _read_rows(path)
            else:
                missing += (part.task, part.method) not in self.refused
        if missing:
            return Outcome([], [], self.unreadable, self.refused, missing)
        self._read_again({row["image"] for row in rows})
        summary = summarise(rows)
        write_rows(self.out / "results.csv", rows, COLUMNS)
        if summary:
            write_rows(self.out / "summary.csv", summary)
            write_text(self.out / "summary.md", self._about() + markdown_tables(summary))
            write_text(self.out / "summary.tex", latex(summary))
        return Outcome(rows, summary, self.unreadable, self.refused, 0)

    def _read_again(self, seen: set[str]) -> None:
        """Say why images have no rows, also where another process or an earlier run met them."""
        for i, name in enumerate(self.names):
            if name not in seen and name not in self.unreadable:
                self._read_images(i, i + 1)

    def _order(self, part: Part) -> tuple:
        grid = self.grid
        return grid.tasks.index(part.task), grid.methods.index(part.method), grid.seeds.index(part.seed), part.first

    def _about(self) -> str:
        grid = self.grid
        lines = [
            f"# {len(self.names) - len(self.unreadable)} images, {len(grid.seeds)} seed(s) each, {grid.steps} steps, prior "
            f"{Path(grid.prior).name}, {grid.dtype}",
            "Means over images ± standard error; seeds of an image are averaged first. 95 %: bootstrap over images. σ is on "
            "[-1, 1]; misfit is the RMS of y − A(x) over what was observed, about σ for a good fit. s/image: warm, on "
            f"{jax.devices()[0].device_kind}.",
        ]
        lines += [f"- {method} cannot do {task}: {why}" for (task, method), why in self.refused.items()]
        lines += [f"- not read: {why}" for why in self.unreadable.values()]
        return (
            "\n\n".join(lines[:2]) + "\n\n" + "".join(line + "\n" for line in lines[2:]) + ("\n" if lines[2:] else "")
        )


@jax.jit
def _view(problems: Problem) -> Array:
    return jax.vmap(lambda problem: problem.operator.view(problem.y))(problems)


def _views(problems: Problem) -> np.ndarray:
    return np.asarray(_view(problems))


def _readable(path: Path) -> bool:
    try:
        load_image(path)
    except ValueError:
        return False
    return True


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


def _finished(future: Future) -> bool:
    """Whether a write is done; an error of it (a full disk) stops the job here."""
    if future.done():
        future.result()
        return True
    return False


def _slug(name: str) -> str:
    return name.replace("/", "-")


def _read_rows(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
