"""What a run says while it goes: progress, CSV log, curve."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.files import atomic

__all__ = ["Progress", "Table", "draw_curve", "smoothed"]


class Table:
    """A CSV that grows by rows; taken up again at a step, the rows after it are dropped."""

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        self._path, self._columns = path, list(columns)
        try:
            self.rows = [row for row in _read(path, self._columns) if int(row["step"]) <= step]
            for name in self._columns:
                self.column(name)
        except (ValueError, UnicodeDecodeError):
            raise ValueError(
                f"{path} is damaged; put it right, or delete it and give the same command again."
            ) from None
        with atomic(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def add(self, **values: Any) -> None:
        """Append a row; floats are written with six digits."""
        row = {name: f"{v:.6g}" if isinstance(v, float) else str(v) for name, v in values.items()}
        self.rows.append(row)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def column(self, name: str) -> list[float]:
        """The numbers of one column."""
        return [float(row[name]) for row in self.rows]


def _read(path: Path, columns: list[str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        text = file.read()
    # A kill can leave half a row at the end; a half row is no row.
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    return [row for row in reader if list(row) == columns and all(row[name] for name in columns)]


class Progress:
    """Who is told how a run goes. This one says nothing; the command line has one that draws a bar."""

    def advance(self, stage: str, done: int, total: int, *, note: str = "", line: bool = False) -> None:
        """``done`` of ``total`` are done in a stage; ``line`` marks what is worth a line in a log file."""

    def say(self, text: str) -> None:
        """A message to the user."""


def smoothed(losses: np.ndarray) -> tuple[list[float], int]:
    """The mean over a moving window, shorter at the beginning, where the loss falls fast; and the rows before each."""
    width = max(1, len(losses) // 15)
    return [float(losses[max(0, i - width) : i + 1].mean()) for i in range(len(losses))], width


def draw_curve(path: Path, log: Table, evaluation: Table, times: Sequence[int]) -> bool:
    """Draw the loss and the held-out PSNR by noise level over images seen; False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), dpi=120, layout="constrained")
    losses = np.asarray(log.column("loss"))
    left.plot(log.column("images"), losses, linewidth=1, alpha=0.4, label="as logged")
    means, width = smoothed(losses)
    left.plot(log.column("images"), means, linewidth=1.4, color="C0", label=f"mean of {width + 1} rows")
    left.set(xlabel="images seen", ylabel="loss", yscale="log")
    left.locator_params(axis="x", nbins=5)  # five-digit ticks would touch
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    narrow = len(losses) > 0 and np.max(losses) < 10 * np.min(losses)
    left.yaxis.set_minor_formatter(StrMethodFormatter("{x:.3g}") if narrow else NullFormatter())
    if len(losses):
        left.legend(frameon=False, fontsize=8)
    seen, at = evaluation.column("images"), evaluation.column("t")
    psnr = evaluation.column("psnr")
    for t in times:
        rows = [i for i, value in enumerate(at) if value == t]
        right.plot([seen[i] for i in rows], [psnr[i] for i in rows], marker=".", linewidth=1, label=f"t = {t}")
    right.set(xlabel="images seen", ylabel="held-out PSNR of x̂₀ [dB]")
    if seen:
        right.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for axes in (left, right):
        axes.grid(alpha=0.25)
    with atomic(path) as temporary:
        figure.savefig(temporary)
    plt.close(figure)
    return True
