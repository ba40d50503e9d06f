"""A visitor's run: files in a folder that goes away, draws that can be stopped, results in memory."""

import contextlib
import io
import queue
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image as PILImage

from jaxdiff.app.wish import MASK, MASK_FILE, OUT, PICTURE, Wish, command, script, words
from jaxdiff.denoisers import Denoiser
from jaxdiff.problems import Problem

__all__ = ["Commands", "Failure", "Order", "Restored", "Result", "Stopped", "measured", "runs"]


class Restored(NamedTuple):
    """What ``jaxdiff restore`` gave, apart from its files.

    Attributes:
        problem: what was measured.
        exact: whether known pixels are those of the picture.
        rows: scores, one mapping a draw and one for the mean.
        notes: sentences.
        why: the method and why it was chosen.
    """

    problem: Problem
    exact: bool
    rows: list[dict[str, Any]]
    notes: list[str]
    why: str


class Commands(NamedTuple):
    """The command line, as the page uses it.

    Attributes:
        denoiser: the prior.
        measure: words of ``jaxdiff restore`` → (problem, truth or None).
        restore: words of ``jaxdiff restore``, and what is told of each chunk of steps → what it gave, with files on disk.
    """

    denoiser: Denoiser
    measure: Callable[[Sequence[str]], tuple[Problem, np.ndarray | None]]
    restore: Callable[[Sequence[str], Callable[[Any], None]], Restored]


class Order(NamedTuple):
    """A wish with its picture [H, W, 3] (bytes), and where it is painted over [h, w] for a painted mask."""

    wish: Wish
    picture: np.ndarray
    hidden: np.ndarray | None = None


class Result(NamedTuple):
    """What a run gave.

    Attributes:
        files: name → content: the pictures and tables of the command line, the visitor's picture, and how to repeat it.
        rows: scores, one mapping a draw and one for the mean.
        notes: sentences.
        command: the command line that repeats it.
        script: the Python lines that repeat it.
        why: the method and why it was chosen.
    """

    files: dict[str, bytes]
    rows: list[dict[str, Any]]
    notes: list[str]
    command: str
    script: str
    why: str

    def zip(self) -> bytes:
        """All files in one."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(f"jaxdiff/{name}", content)
        return packed.getvalue()


class Stopped(Exception):
    """The visitor stopped the run, or left."""


class Failure(NamedTuple):
    """Why there is no result, in one sentence."""

    sentence: str


def measured(commands: Commands, order: Order) -> tuple[np.ndarray, np.ndarray | None]:
    """What the measurement looks like, [h, w, 1 or 3], and the truth [H, W, C] if the picture is measured here.

    Raises:
        ValueError: if the picture does not suit the task.
    """
    with _folder(order) as (_, said):
        problem, truth = commands.measure(said)
        return np.asarray(problem.operator.view(problem.y)), truth


def runs(commands: Commands, order: Order, stop: threading.Event) -> Iterator[Any]:
    """Run in a thread of its own; yields a ``Glimpse`` after each chunk of steps, then the ``Result`` or a ``Failure``.

    Args:
        commands: the command line.
        order: what is wanted.
        stop: set it, and the run ends with ``Stopped`` at the next chunk. It is set too when the iterator is closed.
    """
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def watch(glimpse: Any) -> None:
        if stop.is_set():
            raise Stopped
        seen.put(glimpse)

    thread = threading.Thread(target=lambda: seen.put(_outcome(commands, order, watch)), daemon=True)
    thread.start()
    try:
        while True:
            event = seen.get()
            yield event
            if isinstance(event, Result | Failure | Stopped):
                return
    finally:
        stop.set()
        thread.join()


def _outcome(commands: Commands, order: Order, watch: Callable[[Any], None]) -> Result | Failure | Stopped:
    try:
        return _result(commands, order, watch)
    except Stopped as stopped:
        return stopped
    except (ValueError, OSError) as error:
        return Failure(str(error))
    except Exception as error:  # of the machine or ours: the page must not wait for a thread that has died
        logging.exception("the run failed")
        kind = type(error).__name__
        return Failure(f"the run failed ({kind}); ask for fewer draws, or see the terminal that serves this page.")


def _result(commands: Commands, order: Order, watch: Callable[[Any], None]) -> Result:
    with _folder(order) as (folder, said):
        restored = commands.restore(said, watch)
        written = [path for path in sorted((folder / OUT).iterdir()) if not path.name.startswith(".")]
        files = {f"{OUT}/{path.name}": path.read_bytes() for path in written}
        files |= {name: (folder / name).read_bytes() for name in (PICTURE, MASK_FILE) if (folder / name).exists()}
        notes = [note.replace(f"{folder}/", "") for note in restored.notes]
    line = command(order.wish)
    lines = script(order.wish, restored.problem, commands.denoiser.image_shape, exact=restored.exact)
    files |= {"repeat.sh": f"{line}\n".encode(), "repeat.py": lines.encode()}
    return Result(files, restored.rows, notes, line, lines, restored.why)


@contextlib.contextmanager
def _folder(order: Order) -> Iterator[tuple[Path, list[str]]]:
    """A folder with the order's files, and the command line that reads them there; both are gone after the block."""
    with tempfile.TemporaryDirectory(prefix="jaxdiff-") as name:
        folder = Path(name)
        PILImage.fromarray(np.ascontiguousarray(order.picture)).save(folder / PICTURE, compress_level=1)
        if order.wish.task == MASK:
            if order.hidden is None:
                raise ValueError("nothing is painted: paint over what is to be replaced.")
            PILImage.fromarray(np.where(order.hidden, 0, 255).astype(np.uint8)).save(folder / MASK_FILE)
        said = [str(folder / word) if word in (PICTURE, MASK_FILE, OUT) else word for word in words(order.wish)]
        try:
            yield folder, said
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}/", "")) from None
