"""A grid of images × tasks × methods × seeds as one job that can be killed, shared between hosts, and taken up again.

The job's folder is its memory: the rows of a part (one task, method and seed on a few images) are one small file, written
whole after the pictures of these images. A part is done when its file exists and fits. The process that finds every part
done writes the tables.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff.bench.grid import RECORD, Grid, grown
from jaxdiff.bench.parts import Part, Row, read_part, slug, write_part
from jaxdiff.bench.summary import about, summarise, write_tables
from jaxdiff.denoisers import Denoiser
from jaxdiff.engine import Outcome as Restored
from jaxdiff.engine import restore_many
from jaxdiff.engine.bookmark import fingerprint
from jaxdiff.evaluation.scores import SCORES, scores
from jaxdiff.files import find_images, load_image, out_folder, parse_json, save_image, with_channels, write_text
from jaxdiff.hosts import share
from jaxdiff.network_calls import calls_of, grid_within
from jaxdiff.pages import REPORT
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for
from jaxdiff.schedules import TimeGrid
from jaxdiff.tasks import get_task, measure, sampler
from jaxdiff.tasks.recorded import defaults_of
from jaxdiff.typing import Array

__all__ = ["Grid", "Job", "Outcome", "Part"]

WRITTEN = (REPORT, "results.csv", "results.jsonl", "summary.csv", "summary.md", "summary.tex")
DIGITS = {"psnr": 4, "ssim": 5, "lpips": 5, "misfit": 6}


class Outcome(NamedTuple):
    """What a job came to.

    Attributes:
        rows: all rows; empty while parts of other processes are missing.
        summary: by task and method.
        unreadable: images that could not be read, and why.
        refused: (task, method) → why the method cannot do it.
        missing: parts that other processes still work on.
        damaged: file of a part → what did not fit; such a part is done again.
    """

    rows: list[Row]
    summary: list[Row]
    unreadable: dict[str, str]
    refused: dict[tuple[str, str], str]
    missing: int
    damaged: dict[str, str]


class _Measured(NamedTuple):
    """The images of a part that can be read: their places in the list, pixels [n, H, W, C], and what was measured of them.

    ``places`` are those of the first images; the last of them again fills the part.
    """

    places: list[int]
    pixels: np.ndarray
    problems: Problem


class _Run(NamedTuple):
    """How a call of ``Job.run`` does parts."""

    writer: ThreadPoolExecutor
    batch_size: int | str
    devices: int | None
    report: Callable[[int], None] | None

    def advance(self, cost: int) -> None:
        """Tell how much is done."""
        if self.report is not None:
            self.report(cost)


class Job:
    """A grid over a folder of pictures, with the folder that holds what was done."""

    def __init__(
        self,
        grid: Grid,
        data: str | Path,
        out: Path,
        denoiser: Denoiser,
        most: int | None = None,
        table: Mapping[str, Any] | None = None,
    ) -> None:
        """Check everything that can be checked before anything runs.

        Args:
            grid: what to run.
            data: folder of true pictures.
            out: the job's folder.
            denoiser: the prior.
            most: pictures to take, at most.
            table: settings (``read_settings``), to be asked in place of the recorded ones.

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
        listing = hashlib.sha256(os.fsencode("\n".join(self.names))).hexdigest()[:16]
        facts = {"images": len(self.names), "listing": listing, "weights": fingerprint(denoiser)[:12]}
        if table is not None:
            facts["table"] = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]
        record, grid = grown(out, grid, facts)
        self.grid = grid
        # Parts of one size, so that each method compiles once and the last one is hardly padded.
        self.size = math.ceil(len(self.images) / math.ceil(len(self.images) / grid.part))
        if not (out / RECORD).exists():
            _check_free(out)
        self.noise = {task: get_task(task).measured_with(grid.noise, grid.noise_std) for task in grid.tasks}
        self.samplers = {(t, m): self._sampler(t, m, table) for t in grid.tasks for m in grid.methods}
        self.refused: dict[tuple[str, str], str] = {}
        self.grids = self._grids()
        self._readable = cache(_readable)  # asked again of each method, task and seed; a new job looks anew
        self._check_readable()
        for own in (task for task in grid.tasks if ":" in task):  # before the record names a task that cannot be made
            get_task(own).make(jax.random.key(0), self.denoiser.image_shape)
        for folder in ("parts", ".runs"):
            out_folder(out / folder)
        write_text(out / RECORD, json.dumps(record, indent=2) + "\n")
        self.unreadable: dict[str, str] = {}
        self.damaged: dict[str, str] = {}
        self._read = lru_cache(maxsize=2)(self._read_images)

    def _grids(self) -> dict[tuple[str, str], TimeGrid]:
        """The times of each method's runs; one that cannot run so is left out, unless none is left.

        Raises:
            ValueError: if no method can run so, or steps or spacing are impossible.
        """
        grids = {}
        for (task, method), chosen in self.samplers.items():
            try:
                grids[task, method] = self._grid(chosen)
            except ValueError as error:
                self.refused[task, method] = str(error)
        if not grids:
            raise ValueError(next(iter(self.refused.values())))
        return grids

    def _sampler(self, task: str, method: str, table: Mapping[str, Any] | None) -> Sampler:
        """The method with the settings that the grid asks for."""
        prior = self.grid.prior
        table = defaults_of(method, prior) if self.grid.settings == "defaults" else table
        return sampler(method, task, prior, table=table, noise=self.noise[task])

    def _grid(self, chosen: Sampler) -> TimeGrid:
        grid = self.grid
        if grid.calls is not None:
            return grid_within(chosen, self.denoiser, grid.calls, grid.spacing)
        return grid_for(self.denoiser, chosen, grid.steps, grid.spacing)

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
        """The parts that this process has to do: of its share, those without rows that fit, or that can be completed."""
        return [
            part for part in share(self.parts()) if (rows := self._rows_of(part)) is None or self._lacks(part, rows)
        ]

    def _rows_of(self, part: Part) -> list[Row] | None:
        """The rows of a part that is done; None for one that is not, or whose file is damaged."""
        path = self.out / "parts" / part.file
        if not path.exists():
            return None
        try:
            return read_part(path, part, self.names[part.first : part.last])
        except ValueError as error:
            self.damaged[part.file] = str(error)
            return None

    def _lacks(self, part: Part, rows: list[Row]) -> bool:
        """Whether it lacks a picture that could not be read when it was done, and can be now."""
        present = {row["image"] for row in rows}
        return any(self._readable(self.images[i]) for i in range(part.first, part.last) if self.names[i] not in present)

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
            how = _Run(writer, batch_size, devices, report)
            written: list[Future] = []
            coming = reader.submit(self._measure, todo[0]) if todo else None
            for part, following in zip_longest(todo, todo[1:]):
                assert coming is not None
                measured = coming.result()
                coming = reader.submit(self._measure, following) if following else None
                written = [future for future in written if not _finished(future)]
                written += self._do(part, measured, how)
            for future in written:
                future.result()
        return self._finish()

    def _read_images(self, first: int, last: int) -> tuple[list[int], np.ndarray]:
        """Those of the images that can be read: their places in the list, and pixels [n, H, W, C].

        Raises:
            ValueError: if one is not the picture that this job has read before.
        """
        height, width, channels = self.denoiser.image_shape
        places, pixels = [], []
        for i in range(first, last):
            try:
                loaded = load_image(self.images[i], size=(height, width), resize=True)
                pixels.append(with_channels(loaded.pixels, channels))
                places.append(i)
            except ValueError as error:
                self.unreadable[self.names[i]] = str(error)
        self._check_same(first, {self.names[i]: _digest(image) for i, image in zip(places, pixels, strict=True)})
        return places, np.stack(pixels) if pixels else np.zeros((0, height, width, channels), np.float32)

    def _check_same(self, first: int, digests: dict[str, str]) -> None:
        """Compare the images of a part with those that were read before, and keep what tells them."""
        path = self.out / "parts" / f"images-{first}.json"
        try:
            before = dict(parse_json(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):  # none yet, or a damaged one
            before = {}
        for name, digest in digests.items():
            if before.get(name, digest) != digest:
                raise ValueError(f"the picture {name} has changed since this job began; choose another --out.")
        if not before.keys() >= digests.keys():
            write_text(path, json.dumps(before | digests, indent=2) + "\n")

    def _measure(self, part: Part) -> _Measured | None:
        """Images and their measurements, equal for all methods; None where no image can be read."""
        places, pixels = self._read(part.first, part.last)
        if not places:
            return None
        key = jax.random.fold_in(jax.random.key(part.seed), 0)
        pixels = self._filled(pixels)
        return _Measured(places, pixels, measure(part.task, key, pixels, self.noise[part.task], self._filled(places)))

    def _filled(self, values: list[int] | np.ndarray) -> np.ndarray:
        """One value an image, the last of them repeated until the part is full: all parts have one size."""
        return np.asarray(values)[np.minimum(np.arange(self.size), len(values) - 1)]

    def _do(self, part: Part, measured: _Measured | None, how: _Run) -> list[Future]:
        """Run a part; the writes that are under way."""
        if measured is None:
            how.advance(self.cost(part))
            return [how.writer.submit(write_part, self.out / "parts" / part.file, [])]
        if (part.task, part.method) in self.refused:
            how.advance(self.cost(part))
            return []
        try:
            outcome = self._restore(part, measured, how)
        except ValueError as error:  # what a method says of an operator that it cannot serve
            self.refused[part.task, part.method] = str(error)
            how.advance(self.cost(part))
            return [how.writer.submit(write_text, self._refusal(part.task, part.method), str(error))]
        rows = self._score(part, measured, outcome)
        return [how.writer.submit(self._write, part, measured, outcome.x, rows)]

    def _restore(self, part: Part, measured: _Measured, how: _Run) -> Restored:
        key = jax.random.fold_in(jax.random.key(part.seed), 1)
        return restore_many(
            jax.vmap(jax.random.fold_in, (None, 0))(key, self._filled(measured.places)),
            self.denoiser,
            measured.problems,
            self.samplers[part.task, part.method],
            steps=self.grids[part.task, part.method],
            batch_size=how.batch_size,
            devices=how.devices,
            report=how.report,
            resume=self.out / ".runs" / part.file.replace(".csv", ".npz"),
        )

    def _score(self, part: Part, measured: _Measured, outcome: Restored) -> list[Row]:
        """A row an image."""
        pair = (part.task, part.method)
        steps = len(self.grids[pair].t)
        calls = calls_of(self.samplers[pair], steps).forward
        found = scores(outcome.x, measured.pixels, measured.problems, net=self.grid.lpips)
        rows = []
        for i, place in enumerate(measured.places):
            values = {name: round(float(found[name][i]), DIGITS[name]) for name in SCORES}
            row = {"task": part.task, "method": part.method, "seed": part.seed, "image": self.names[place]}
            row |= {"status": "ok" if np.isfinite(values["psnr"]) else "diverged", **values}
            row |= {
                "noise_std": round(float(measured.problems.noise_std[i]), 6),
                "steps": steps,
                "network_calls": calls,
            }
            rows.append(row | {"seconds": round(outcome.seconds / len(measured.places), 4)})
        return rows

    def _refusal(self, task: str, method: str) -> Path:
        """Where it is written that a method cannot do a task, for other processes to know."""
        return self.out / "parts" / f"{slug(task)}--{slug(method)}.refused"

    def _write(self, part: Part, measured: _Measured, x: np.ndarray, rows: list[Row]) -> None:
        """Write pictures first and rows last: a part with rows has all its pictures."""
        if self.grid.pictures:
            for i, place in enumerate(measured.places):
                if rows[i]["status"] == "ok":
                    save_image(self.picture(part.task, part.method, part.seed, place), x[i])
            files = [self.picture(part.task, "measured", part.seed, place) for place in measured.places]
            if not all(map(Path.exists, files)):
                for file, view in zip(files, _views(measured.problems), strict=False):
                    save_image(file, view)
        write_part(self.out / "parts" / part.file, rows)
        for state in (self.out / ".runs").glob(part.file.replace(".csv", "-*.npz")):
            state.unlink(missing_ok=True)

    def picture(self, task: str, method: str, seed: int, place: int) -> Path:
        """Where the restoration of an image is, or what was measured for method "measured"."""
        path = self.out.joinpath("pictures", slug(task), slug(method), f"s{seed}", f"{self.names[place]}.png")
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
            found = self._rows_of(part)
            rows += found or []
            missing += found is None and (part.task, part.method) not in self.refused
        if missing:
            return Outcome([], [], self.unreadable, self.refused, missing, self.damaged)
        self._read_again({row["image"] for row in rows})
        summary = summarise(rows)
        images = len(self.names) - len(self.unreadable)
        write_tables(self.out, rows, summary, about(self.grid, images, self.refused, self.unreadable.values()))
        return Outcome(rows, summary, self.unreadable, self.refused, 0, self.damaged)

    def _read_again(self, seen: set[str]) -> None:
        """Say why images have no rows, also where another process or an earlier run met them."""
        for i, name in enumerate(self.names):
            if name not in seen and name not in self.unreadable:
                self._read_images(i, i + 1)

    def _order(self, part: Part) -> tuple:
        grid = self.grid
        return grid.tasks.index(part.task), grid.methods.index(part.method), grid.seeds.index(part.seed), part.first


@jax.jit
def _view(problems: Problem) -> Array:
    return jax.vmap(lambda problem: problem.operator.view(problem.y))(problems)


def _views(problems: Problem) -> np.ndarray:
    return np.asarray(_view(problems))


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def _check_free(out: Path) -> None:
    """See that a folder which holds no job has no file that a job would overwrite.

    Raises:
        ValueError: if there is one.
    """
    for name in (*WRITTEN, "parts", "pictures"):
        if (out / name).exists():
            raise ValueError(f"{out / name} is not of a job, and would be overwritten; choose another --out.")


def _readable(path: Path) -> bool:
    try:
        load_image(path)
    except ValueError:
        return False
    return True


def _finished(future: Future) -> bool:
    """Whether a write is done; an error of it (a full disk) stops the job here."""
    if future.done():
        future.result()
        return True
    return False
