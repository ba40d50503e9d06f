"""What the page shows, as HTML that holds its pictures: no file is served, so none is left."""

import base64
import io
import json
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
from PIL import Image as PILImage

from jaxdiff.app.work import Result
from jaxdiff.files import to_uint8
from jaxdiff.photos import Framing
from jaxdiff.tables import rounded

__all__ = ["data_url", "figures", "forming", "framing", "painting", "png", "results", "said"]

SHOWN = 640
"""Longest side of the picture that is framed or painted on, pixels."""


def data_url(content: bytes, kind: str) -> str:
    """A link that holds its content."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def png(pixels: np.ndarray) -> bytes:
    """[h, w, 1 or 3], bytes or in [-1, 1], as a PNG."""
    values = pixels if pixels.dtype == np.uint8 else to_uint8(pixels)
    file = io.BytesIO()
    PILImage.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(file, "PNG")
    return file.getvalue()


def said(text: str, kind: str = "note") -> str:
    """A sentence; of kind "note" or "fault"."""
    return f'<p class="jd-{kind}" role="status">{escape(text)}</p>' if text else ""


def figures(pictures: Iterable[tuple[str, str, bytes]]) -> str:
    """Pictures side by side: (title, second line, PNG)."""
    cells = [
        f'<figure><img src="{data_url(content, "image/png")}" alt="{escape(title)}">'
        f"<figcaption><b>{escape(title)}</b><br>{escape(more)}</figcaption></figure>"
        for title, more, content in pictures
    ]
    return f'<div class="jd-figures">{"".join(cells)}</div>'


def forming(x0: np.ndarray, first: int, done: int, total: int) -> str:
    """The estimates x̂₀ [B, H, W, C] of draws ``first``, …, after so many steps of all."""
    bar = f'<progress max="{total}" value="{done}" aria-label="steps"></progress>'
    pictures = [(f"draw {i}, unfinished", "", png(image)) for i, image in enumerate(x0, first + 1)]
    return f'<div class="jd-bar">{bar}<span>step {done} of {total}</span></div>{figures(pictures)}'


def results(result: Result) -> str:
    """Measured, truth, draws, mean and deviation with their scores, what is to be said of them, and the download."""
    scores = iter(result.rows)
    held = {name.removeprefix("restored/"): content for name, content in result.files.items()}
    pictures = [(name, "", held[f"{name}.png"]) for name in ("measured", "truth") if f"{name}.png" in held]
    count = sum(name.startswith("restored_") for name in held)
    for i in range(1, count + 1):
        pictures.append((f"draw {i}", _score(next(scores)), held[f"restored_{i}.png"]))
    if "mean.png" in held:
        pictures.append(("mean", _score(next(scores)), held["mean.png"]))
    if "photo_restored.png" in held:
        pictures.append(("in the photo", "draw 1", held["photo_restored.png"]))
    parts = [said(f"Restored by {result.why}."), figures(pictures)]
    if "truth.png" in held:
        parts.append(said("A higher PSNR (in dB) and a lower LPIPS are closer to the truth."))
    if "std.png" in held:
        parts.append(said("The standard deviation of the draws. It is bright where they differ."))
        parts.append(f'<img class="jd-wide" alt="standard deviation" src="{data_url(held["std.png"], "image/png")}">')
    parts += [said(note) for note in result.notes]
    link = data_url(result.zip(), "application/zip")
    parts.append(f'<a class="jd-download" download="jaxdiff.zip" href="{link}">Download all as a zip</a>')
    return "".join(parts)


def _score(row: dict[str, Any]) -> str:
    if "psnr" not in row:
        return f"distance to the measurement {rounded(row['misfit_rms'], 3)}"
    return f"{row['psnr']:.2f} dB, LPIPS {rounded(row['lpips'], 3)}"


def framing(picture: np.ndarray, frame: Framing) -> str:
    """For the canvas on which one moves the frame."""
    size = picture.shape[:2]
    return json.dumps({"picture": _small(picture), "size": size, "frame": frame})


def painting(picture: np.ndarray) -> str:
    """For the canvas on which one paints, without strokes."""
    return json.dumps({"picture": _small(picture), "size": picture.shape[:2], "strokes": []})


def _small(picture: np.ndarray) -> str:
    shown, file = PILImage.fromarray(np.ascontiguousarray(picture)), io.BytesIO()
    shown.thumbnail((SHOWN, SHOWN))
    shown.save(file, "JPEG", quality=90)
    return data_url(file.getvalue(), "image/jpeg")
