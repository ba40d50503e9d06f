"""A page as HTML: pictures become PNG inside the file, as many as fit, and styles and scripts are in it too."""

import base64
import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
from PIL import Image as PILImage

from jaxdiff.files import to_uint8, write_text
from jaxdiff.pages.cells import cells, is_numeric
from jaxdiff.pages.page import Page, Part, Pictures, Plot, Series, Table

__all__ = ["REPORT", "write_page"]

REPORT = "report.html"
"""The name of every report."""

MOST_BYTES = 9_500_000
"""Of a file; what pictures may take is what scripts and tables leave."""
MOST_PIXELS = 2**20
"""Of a picture; a larger one is scaled down."""
EXACT_BYTES = 1_500_000
"""Of a picture as PNG; one that takes more, a photo, becomes a JPEG."""
MOST_LINES = 500
"""Of a table."""


def write_page(path: str | Path, page: Page) -> Path:
    """Write a report as one file of less than 10 MB, whole or not at all.

    Args:
        path: of the file.
        page: what it holds.

    Returns:
        The path.
    """
    parts = [part for section in page.sections for part in section.parts]
    script = _plotly() if any(isinstance(part, Plot) for part in parts) else ""
    shelf = _Shelf(MOST_BYTES - len(script) - sum(_length(part) for part in parts))
    sections = [
        {"title": s.title, "text": _paragraphs(s.text), "parts": [_view(part, shelf) for part in s.parts]}
        for s in page.sections
    ]
    pictures = any(isinstance(part, Pictures) for part in parts)
    template = _environment().get_template("base.html")
    lead = _paragraphs(page.lead)
    return write_text(path, template.render(page=page, lead=lead, sections=sections, plotly=script, pictures=pictures))


def _environment() -> jinja2.Environment:
    """Names of files, tasks and settings are the user's, so every text is escaped."""
    loader = jinja2.PackageLoader("jaxdiff.pages", "templates")
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )


def _plotly() -> str:
    """The script that draws plots; empty where plotly is missing, and tables take their place.

    Plotly needs two small packages, and its script of 4.8 MB fits. Bokeh's script is smaller, but it brings tornado, contourpy,
    PyYAML and more. Altair needs a compiled converter to put its script into a file.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return ""
    return get_plotlyjs()


def _paragraphs(text: str) -> list[str]:
    return [" ".join(block.split()) for block in text.split("\n\n") if block.strip()]


def _length(part: Part) -> int:
    """About how many bytes a part's text takes in the page; generous, since escapes and marks are longer than letters."""
    if isinstance(part, Pictures):
        return sum(
            1000 + 6 * len(picture.title + picture.note + picture.link) for picture in part.pictures[: part.most]
        )
    if isinstance(part, Table):
        return sum(200 + 6 * len(cell) for line in part.lines[:MOST_LINES] for cell in line)
    return sum(400 * len(series.y) + 1000 for series in part.series.values())


@dataclass
class _Shelf:
    """How many bytes are left for pictures, and how many pictures the page has."""

    bytes: int
    count: Iterator[int] = field(default_factory=itertools.count)

    def put(self, pixels: np.ndarray) -> dict[str, Any] | None:
        """A picture for the page; None where it no longer fits."""
        height, width = pixels.shape[:2]
        url, loss = _url(pixels)
        if len(url) > self.bytes:
            return None
        self.bytes -= len(url)
        loss = f"{width}×{height}, {loss}" if loss else ""
        return {"id": f"p{next(self.count)}", "url": url, "width": width, "height": height, "loss": loss}


def _url(pixels: np.ndarray) -> tuple[str, str]:
    """A picture as a ``data:`` address, and what it lost on the way: a PNG, or a JPEG where that is too large."""
    values = to_uint8(pixels)
    picture = PILImage.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
    loss = ""
    if picture.width * picture.height > MOST_PIXELS:
        scale = math.sqrt(MOST_PIXELS / (picture.width * picture.height))
        size = max(1, int(picture.width * scale)), max(1, int(picture.height * scale))
        picture, loss = picture.resize(size, PILImage.Resampling.LANCZOS), "shown smaller"
    kind, content = "png", _encoded(picture, "PNG")
    if len(content) > EXACT_BYTES:
        kind, content, loss = "jpeg", _encoded(picture, "JPEG", quality=92), loss or "compressed here"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", loss


def _encoded(picture: PILImage.Image, kind: str, **options: Any) -> bytes:
    held = io.BytesIO()
    picture.save(held, kind, **options)
    return held.getvalue()


def _view(part: Part, shelf: _Shelf) -> dict[str, Any]:
    """What the template shows of a part."""
    if isinstance(part, Pictures):
        return _pictures(part, shelf)
    return _table(part) if isinstance(part, Table) else _plot(part)


def _pictures(part: Pictures, shelf: _Shelf) -> dict[str, Any]:
    columns = part.columns or 1
    most = max(columns, part.most // columns * columns)
    shown: list[dict[str, Any]] = []
    for picture in part.pictures[:most]:
        held = shelf.put(np.asarray(picture.pixels, np.float32))
        if held is None:
            break
        shown.append(held | {"title": picture.title, "note": picture.note, "link": quote(picture.link)})
    compare = part.compare if part.compare is not None and max(part.compare) < len(shown) else None
    left_out = len(part.pictures) - len(shown)
    return {
        "kind": "pictures",
        "pictures": shown,
        "columns": part.columns,
        "compare": compare,
        "left_out": left_out,
    }


def _table(part: Table) -> dict[str, Any]:
    lines = part.lines[:MOST_LINES]
    rows = cells(lines)
    numeric = [is_numeric([row[i] for row in rows]) for i in range(len(part.header))]
    return {
        "kind": "table",
        "header": part.header,
        "rows": rows,
        "numeric": numeric,
        "links": [*map(quote, part.links)],
        "left_out": len(part.lines) - len(lines),
    }


def _plot(part: Plot) -> dict[str, Any]:
    def axis(title: str, log: bool) -> dict[str, Any]:
        return {"title": {"text": title}, "type": "log", "tickformat": ".3~g"} if log else {"title": {"text": title}}

    layout = {"xaxis": axis(part.x, part.log_x), "yaxis": axis(part.y, part.log_y)}
    traces = [_trace(name, series) for name, series in part.series.items()]
    if part.diagonal:
        line = {"color": "#888", "dash": "dash", "width": 1}
        traces.append({"type": "scatter", "x": [0, 1], "y": [0, 1], "mode": "lines", "name": "x = y", "line": line})
    lines = [
        [name, _figure(x), _figure(y) + (f" ± {_figure(error)}" if math.isfinite(error) else "")]
        for name, series in part.series.items()
        for x, y, error in zip(series.x, series.y, series.error or [math.nan] * len(series.y), strict=True)
    ]
    table = _table(Table(["series", part.x, part.y], lines))
    return {"kind": "plot", "title": part.title, "figure": {"data": traces, "layout": layout}, "table": table}


def _trace(name: str, series: Series) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": name,
        "x": [*map(_known, series.x)],
        "y": [*map(_known, series.y)],
    }
    trace["marker"] = {"size": 7 if series.joined else 10}
    trace["mode"] = ("lines+markers" if len(series.y) <= 60 else "lines") if series.joined else "markers"
    if series.error is not None:
        trace["error_y"] = {"type": "data", "array": [_known(value) or 0 for value in series.error]}
    return trace


def _known(value: Any) -> Any:
    """A number that JSON can hold; None for one that is not finite."""
    if isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None


def _figure(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.6g}" if math.isfinite(value) else "–"
