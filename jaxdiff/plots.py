"""Pictures of results: sheets of images, rows of triplets, curves. matplotlib is imported only here and only when drawing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.files import atomic, to_uint8

__all__ = ["calibration_figure", "curves", "image_table", "save_figure", "sheet", "spread_figure"]


def sheet(images: Sequence[np.ndarray] | np.ndarray, *, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Tile images [H, W, C] of one size into a single picture in [-1, 1], row by row on white.

    Args:
        images: the images.
        columns: how many a row, at most all; about √count by default.
        gap: pixels between them.
    """
    if len(images) == 0:
        raise ValueError("a sheet needs at least one image.")
    columns = min(columns or int(np.ceil(np.sqrt(len(images)))), len(images))
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
    left, top = (0.95 if row_titles else 0.05), (0.24 if column_titles else 0.05) + (0.24 if title else 0.0)
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
        figure.suptitle(title, fontsize=10, y=1 - 0.06 / size[1], va="top")
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


def spread_figure(
    images: Sequence[tuple[str, np.ndarray]], maps: Sequence[tuple[str, np.ndarray]], *, cell: float = 1.7
) -> Any:
    """Images in a row, then maps of one scale with its colour bar: a standard deviation, and the error beside it.

    Images are enlarged smoothly (bicubic); maps show their pixels.

    Args:
        images: (title, [H, W, 1 or 3] in [-1, 1]); a title's second line is smaller.
        maps: (title, [H, W], zero or positive). One scale for all, up to the 99.5th percentile of the first.
        cell: inches a panel.
    """
    plt = _pyplot()
    count = len(images) + len(maps)
    lines = 0.42 if any("\n" in title for title, _ in [*images, *maps]) else 0.26
    shape = np.shape((images or maps)[0][1])
    height = cell * shape[0] / shape[1]
    bar = 0.75 if maps else 0.05
    width = cell * count + bar
    figure = plt.figure(figsize=(width, height + lines), dpi=150)
    top = max(float(np.percentile(maps[0][1], 99.5)), 1e-6) if maps else 1.0
    shown = None
    for i, (title, values) in enumerate([*images, *maps]):
        place = (
            (cell * i + 0.04) / width,
            0.03 / (height + lines),
            (cell - 0.08) / width,
            (height - 0.06) / (height + lines),
        )
        axes = figure.add_axes(place)
        axes.set_axis_off()
        if i < len(images):
            pixels = to_uint8(values)
            pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
        else:
            shown = axes.imshow(np.asarray(values, np.float32), cmap="magma", vmin=0, vmax=top)
        first, _, second = title.partition("\n")
        axes.text(
            0.5, 1 + (0.22 if second else 0.06) / height, first, ha="center", fontsize=8.5, transform=axes.transAxes
        )
        axes.text(0.5, 1 + 0.06 / height, second, ha="center", fontsize=7, color="0.35", transform=axes.transAxes)
    if shown is not None:
        place = (1 - (bar - 0.06) / width, 0.08 / (height + lines), 0.11 / width, (height - 0.16) / (height + lines))
        scale = figure.colorbar(shown, cax=figure.add_axes(place), extend="max")
        scale.ax.tick_params(labelsize=7)
    return figure


def calibration_figure(levels: np.ndarray, coverage: np.ndarray, *, samples: int, error: float) -> Any:
    """The coverage of credible intervals against their nominal level; below the diagonal: over-confident.

    Args:
        levels: [n], nominal.
        coverage: [n], share of pixels whose true value lies inside.
        samples: how many draws the intervals are of.
        error: mean distance from the diagonal.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(3.9, 3.7), dpi=150, layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.55", linewidth=1, linestyle="--", label="calibrated")
    axes.plot([0, *levels, 1], [0, *coverage, 1], color="tab:blue", linewidth=1.6, label="this run")
    axes.plot(levels, coverage, "o", color="tab:blue", markersize=3)
    axes.fill_between([0, *levels, 1], [0, *levels, 1], [0, *coverage, 1], color="tab:blue", alpha=0.12, linewidth=0)
    axes.text(0.96, 0.06, "over-confident", ha="right", fontsize=7.5, color="0.4", transform=axes.transAxes)
    axes.text(0.04, 0.62, "under-confident", ha="left", fontsize=7.5, color="0.4", transform=axes.transAxes)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("credible level", fontsize=9)
    axes.set_ylabel("share of pixels inside", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.set_title(f"{samples} draws, mean distance {error:.3f}", fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
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
