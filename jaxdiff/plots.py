"""Pictures of results: sheets of images, rows of triplets, curves. matplotlib is imported only here and only when drawing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.files import atomic, to_uint8

__all__ = ["curves", "image_table", "save_figure", "sheet"]


def sheet(images: Sequence[np.ndarray] | np.ndarray, *, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Tile images [H, W, C] of one size into a single picture in [-1, 1], row by row on white.

    Args:
        images: the images.
        columns: how many a row; about √count by default.
        gap: pixels between them.
    """
    if len(images) == 0:
        raise ValueError("a sheet needs at least one image.")
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    height, width, channels = np.shape(images[0])
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), np.float32)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[y : y + height, x : x + width] = image
    return canvas


def image_table(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    title: str = "",
    cell: float = 1.35,
    separators: Sequence[int] = (),
) -> Any:
    """A matplotlib figure of images in rows and columns, laid out as the study's triplets.

    Args:
        rows: images [H, W, 1 or 3] in [-1, 1].
        column_titles: over the columns.
        row_titles: left of the rows.
        captions: under each image, e.g. its PSNR.
        title: over all.
        cell: inches a cell.
        separators: column numbers before which to leave a wider gap (groups of triplets).
    """
    plt = _pyplot()
    columns = max(len(row) for row in rows)
    widths: list[float] = []
    places: list[int] = []
    for column in range(columns):
        if column in separators:
            widths.append(0.12)
        places.append(len(widths))
        widths.append(1.0)
    caption_space = 0.16 if captions else 0.03
    left, top = (0.95 if row_titles else 0.05), 0.30 + (0.32 if title else 0.0)
    size = (left + cell * sum(widths) + 0.05, top + cell * (1 + caption_space) * len(rows) + 0.05)
    figure = plt.figure(figsize=size, dpi=150)
    grid = figure.add_gridspec(
        len(rows),
        len(widths),
        width_ratios=widths,
        left=left / size[0],
        right=1 - 0.05 / size[0],
        top=1 - top / size[1],
        bottom=(0.05 + cell * caption_space) / size[1],
        wspace=0.04,
        hspace=caption_space + 0.02,
    )
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            axes = figure.add_subplot(grid[r, places[c]])
            values = to_uint8(image)
            axes.imshow(values[..., 0] if values.shape[-1] == 1 else values, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
            if r == 0 and c < len(column_titles):
                axes.set_title(column_titles[c], fontsize=8, pad=3)
            if c == 0 and r < len(row_titles):
                axes.set_ylabel(row_titles[r], fontsize=8, rotation=0, ha="right", va="center", labelpad=6)
            if r < len(captions) and c < len(captions[r]):
                axes.set_xlabel(captions[r][c], fontsize=6.5, labelpad=1.5)
    if title:
        figure.suptitle(title, fontsize=10, y=1 - 0.08 / size[1], va="top")
    return figure


def curves(
    series: dict[str, tuple[Sequence[float], Sequence[float]]], *, x: str, y: str, title: str = "", log_y: bool = False
) -> Any:
    """A line plot: ``series`` maps a name to its (x, y) values."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5.2, 3.4), dpi=150, layout="constrained")
    for name, (horizontal, vertical) in series.items():
        axes.plot(horizontal, vertical, label=name, linewidth=1.4)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    if log_y:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def save_figure(path: str | Path, figure: Any) -> None:
    """Write a figure, whole or not at all, and close it."""
    with atomic(path) as temporary:
        figure.savefig(temporary)
    _pyplot().close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise ValueError("figures need matplotlib; install it with: pip install 'jaxdiff[plots]'.") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
