"""Images in rows and columns, maps with a scale, curves. matplotlib is imported only here and only when drawing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff.files import atomic, to_uint8
from jaxdiff.operators.pictures import picture

__all__ = ["curves", "image_table", "pyplot", "save_figure", "sheet", "spread_figure"]


def sheet(images: Sequence[np.ndarray] | np.ndarray, *, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Tile images [H, W, C] of one size into a single picture in [-1, 1], row by row on white.

    Args:
        images: the images.
        columns: how many a row, at most all; about √count by default.
        gap: pixels between them.

    Raises:
        ValueError: if there is none.
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
    inset: tuple[int, int, int] | None = None,
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
        inset: top, left and side of a square, in pixels, that each picture of the largest size shows enlarged in a corner.

    Raises:
        ValueError: if there is no image, or the inset lies outside.
    """
    if not any(len(row) for row in rows):
        raise ValueError("there is nothing to draw: give at least one image.")
    largest = max(np.shape(image)[:2] for row in rows for image in row)
    left, top = (0.95 if row_titles else 0.05), (0.24 if column_titles else 0.05) + (0.24 if title else 0.0)
    columns = max(len(row) for row in rows)
    figure, cells = _cells(
        (len(rows), columns), cell, separators, left=left, top=top, caption_space=0.16 if captions else 0.03
    )
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            axes = figure.add_subplot(cells[r, c])
            _show(axes, image)
            if inset is not None and np.shape(image)[:2] == largest:
                _enlarge(axes, image, inset)
            if r == 0 and c < len(column_titles):
                axes.set_title(column_titles[c], fontsize=8, pad=3)
            if c == 0 and r < len(row_titles):
                axes.set_ylabel(row_titles[r], fontsize=8, rotation=0, ha="right", va="center", labelpad=6)
            if r < len(captions) and c < len(captions[r]):
                axes.set_xlabel(captions[r][c], fontsize=6.5, labelpad=1.5)
    if title:
        figure.suptitle(title, fontsize=10, y=1 - 0.06 / figure.get_figheight(), va="top")
    return figure


def _cells(
    shape: tuple[int, int], cell: float, separators: Sequence[int], *, left: float, top: float, caption_space: float
) -> tuple[Any, dict[tuple[int, int], Any]]:
    """An empty figure, and the place of each cell by (row, column); lengths in inches, ``caption_space`` in cells."""
    rows, columns = shape
    widths: list[float] = []
    places: list[int] = []
    for column in range(columns):
        if column in separators:
            widths.append(0.12)
        places.append(len(widths))
        widths.append(1.0)
    size = (left + cell * sum(widths) + 0.05, top + cell * (1 + caption_space) * rows + 0.05)
    figure = pyplot().figure(figsize=size, dpi=150)
    grid = figure.add_gridspec(
        rows,
        len(widths),
        width_ratios=widths,
        left=left / size[0],
        right=1 - 0.05 / size[0],
        top=1 - top / size[1],
        bottom=(0.05 + cell * caption_space) / size[1],
        wspace=0.04,
        hspace=caption_space + 0.02,
    )
    return figure, {(r, c): grid[r, place] for r in range(rows) for c, place in enumerate(places)}


def _bytes(image: np.ndarray) -> np.ndarray:
    """The bytes of an image of any number of channels, [H, W, 1 or 3]."""
    return to_uint8(np.asarray(picture(jnp.asarray(image))))


def _show(axes: Any, image: np.ndarray) -> None:
    """A picture without a frame."""
    values = _bytes(image)
    axes.imshow(values[..., 0] if values.shape[-1] == 1 else values, cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _enlarge(axes: Any, image: np.ndarray, square: tuple[int, int, int]) -> None:
    """A square of the picture, framed where it is and enlarged in the corner that is farthest from it."""
    (top, left, side), (height, width) = square, np.shape(image)[:2]
    if side < 1 or top < 0 or left < 0 or top + side > height or left + side > width:
        raise ValueError(
            f"inset={square} does not lie in a picture of {height}×{width}; give top, left, side in pixels."
        )
    right = 2 * left + side <= width
    below = 2 * top + side <= height
    corner = axes.inset_axes((0.56 if right else 0.0, 0.0 if below else 0.56, 0.44, 0.44))
    _show(corner, np.asarray(image)[top : top + side, left : left + side])
    for spine in corner.spines.values():
        spine.set(visible=True, color="white", linewidth=1.2)
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor="white", linewidth=1.0))


def curves(
    series: dict[str, tuple[Sequence[float], Sequence[float]]], *, x: str, y: str, title: str = "", log_y: bool = False
) -> Any:
    """A line plot: ``series`` maps a name to its (x, y) values."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(5.2, 3.4), dpi=150, layout="constrained")
    for name, (horizontal, vertical) in series.items():
        axes.plot(horizontal, vertical, label=name, linewidth=1.4)
    if all(np.asarray(horizontal).dtype.kind in "iu" for horizontal, _ in series.values()):
        axes.locator_params(axis="x", integer=True)  # there is no step 2.5
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
    plt = pyplot()
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
            pixels = _bytes(values)
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


def save_figure(path: str | Path, figure: Any) -> None:
    """Write a figure, whole or not at all, and close it."""
    with atomic(path) as temporary:
        figure.savefig(temporary)
    pyplot().close(figure)


def pyplot() -> Any:
    """``matplotlib.pyplot``, with the backend that the process has.

    Raises:
        ValueError: if matplotlib is missing.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ValueError("figures need matplotlib; install it with: pip install 'jaxdiff[plots]'.") from None
    return plt
