"""A page for each method, made from its file, its factory's docstring, and the recorded tables and pictures."""

import csv
import inspect
import io
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image as PILImage

import jaxdiff as jd
from docs.site.stage import ROOT, unbroken

__all__ = ["pages"]

TASKS = ("inpaint_box", "inpaint_random", "gaussian_blur", "motion_blur", "super_resolution", "grayscale",
         "high_dynamic_range", "jpeg", "phase_retrieval")  # fmt: skip
NEEDS = {None: "none: it draws from the prior", "Operator": "any differentiable operator",
         "LinearOperator": "a linear operator", "SpectralOperator": "an operator with singular values"}  # fmt: skip


COLUMNS, ENLARGED, GAP = 8, 3, 6
"""Tiles a row of ``docs/methods_tiles.png``; how much larger a page shows them, and the pixels between them."""


class Tile(NamedTuple):
    """A picture that ``benchmarks.methods`` recorded: its place, task, what it shows, and its scores as text."""

    place: int
    task: str
    what: str
    psnr: str
    lpips: str


def recorded() -> list[Tile]:
    """All of them, in their order in the sheet."""
    with (ROOT / "docs" / "methods_tiles.csv").open(encoding="utf-8") as file:
        return [Tile(place, **row) for place, row in enumerate(csv.DictReader(file))]


def chosen(name: str) -> list[Tile]:
    """What the page of a method shows: measured, restored and truth, or draws of the prior; nothing if it is not recorded."""
    tiles = recorded()
    own = [tile for tile in tiles if tile.what == name]
    if not own or not own[0].task:
        return own
    beside = {tile.what: tile for tile in tiles if tile.task == own[0].task}
    return [beside["measured"], own[0], beside["truth"]]


def strip(tiles: list[Tile]) -> bytes:
    """The tiles side by side, enlarged, as a PNG."""
    with PILImage.open(ROOT / "docs" / "methods_tiles.png") as file:
        sheet = file.convert("RGB")
    size = sheet.width // COLUMNS
    side = ENLARGED * size
    picture = PILImage.new("RGB", (len(tiles) * (side + GAP) - GAP, side), "white")
    for number, tile in enumerate(tiles):
        left, top = tile.place % COLUMNS * size, tile.place // COLUMNS * size
        cut = sheet.crop((left, top, left + size, top + size))
        picture.paste(cut.resize((side, side), PILImage.Resampling.BICUBIC), (number * (side + GAP), 0))
    held = io.BytesIO()
    picture.save(held, "PNG")
    return held.getvalue()


def picture(name: str, title: str) -> str:
    """The picture of a page, with its caption; "" if there is none."""
    shown = chosen(name)
    if not shown:
        return ""
    if not shown[0].task:
        words = f"{len(shown)} draws of the prior faces64, of at most a hundred network calls each."
        return f"![{len(shown)} draws]({name}.png)\n\n*{words} The samplers without a measurement have the same seeds.*"
    own = shown[1]
    return (
        f"![measured, restored by {title}, truth]({name}.png)\n\n*Measured, restored by {title} ({own.psnr} dB, LPIPS "
        f"{own.lpips}), truth. Task `{own.task}`, σ = 0.05, at most a hundred network calls, one draw. "
        "The face is Eileen Collins (NASA, public domain); no prior was trained on it.*"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parts(kind: type) -> tuple[str, str, str]:
    """Title, idea and algorithm: the three parts of the docstring of the method's file."""
    title, _, body = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "").partition("\n\n")
    idea, _, algorithm = body.partition("\n\n")
    return title, idea, algorithm.strip("\n")


def facts(method: Any) -> str:
    """What the class states of itself."""
    sampler, kind = method(), method.kind
    calls = sampler.calls
    passes = f"{calls.forward} forward" + (f", {calls.backward} backward" if calls.backward else "")
    needs = kind.wants or NEEDS[kind.needs and kind.needs.__name__]
    rows = [
        ["Operator", needs],
        ["Noise of the measurement", "Gaussian" if kind.takes is jd.noise.Gaussian else "any noise model"],
        ["Network calls of a step", f"{passes} (with the default options)"],
        ["Spacing of the timesteps", f"`{kind.spacing}` ([how](../methods.md#grids-and-fractional-times))"],
        ["Clips x̂₀ to [-1, 1]", "yes" if kind.clips else "no, because it uses derivatives of x̂₀"],
        ["Options that `jaxdiff tune` searches", ", ".join(f"`{name}`" for name in kind.search) or "none"],
    ]
    return table(["property", "value"], rows)


def leaderboard(name: str) -> str:
    """PSNR and LPIPS by task, for the better of its recorded settings."""
    with (ROOT / "benchmarks" / "results" / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == name and row["status"] == "ok"]

    def cell(task: str, calls: str) -> str:
        fitting = [row for row in rows if (row["task"], row["calls"]) == (task, calls)]
        best = max(fitting, key=lambda row: float(row["psnr"]), default=None)
        return f"{float(best['psnr']):.2f} dB, {float(best['lpips']):.3f}" if best else "–"

    lines = [[f"`{task}`", cell(task, "20"), cell(task, "100"), cell(task, "1000")] for task in TASKS]
    return table(["task", "20 calls", "100 calls", "1000 calls"], lines)


def exactness(name: str) -> str:
    """Its rows of the closed-form table, or "" where there is none."""
    text = (ROOT / "docs" / "exactness.md").read_text("utf-8")
    found = re.findall(rf"^\| `(?:exact draws|{name}\(.*?\)|{name})` \|.*$", text, re.MULTILINE)
    lines = [line for line in found if line.count("|") == 10]
    head = re.search(r"^\| method \| calls a step.*\n.*$", text, re.MULTILINE)
    return unbroken("\n".join([head.group(), *lines])) if head and len(lines) > 1 else ""


def page(name: str, method: Any) -> str:
    """One method."""
    title, idea, algorithm = parts(method.kind)
    full = f"jaxdiff.samplers.{name}"
    sections = [
        f"# {method.kind.title}" if method.kind.needs else f"# `{name}`",
        title,
        idea,
        picture(name, method.kind.title if method.kind.needs else name),
        "## Algorithm\n\nA step goes from timestep t to s. [How it works](../how_it_works.md#notation) explains the symbols.",
        f"```text\n{algorithm}\n```",
        facts(method),
        "## Use",
        f"```python\nimport jaxdiff as jd\n\nsampler = jd.samplers.{name}()\n```",
        f"```{{eval-rst}}\n.. autofunction:: {full}\n   :no-index:\n```",
        f"## Equation\n\n```{{eval-rst}}\n.. autoclass:: {method.kind.__module__}.{method.kind.__name__}\n   :no-index:\n```",
    ]
    if method.kind.needs:
        sections += [
            "## Results",
            "PSNR and LPIPS on four faces that the prior `faces64` was not trained on, with σ = 0.05. The column of 1000 calls "
            "has two of these faces. Each cell has the better of the published and the searched settings. – means that there "
            "is no result, for example because the method cannot use the operator.",
            leaderboard(name),
            "See [the leaderboard](../leaderboard.md) for standard errors, and [one picture by every method](../methods.png).",
        ]
    if rows := exactness(name):
        sections += ["## How exact it is", "[Which methods are exact](../exactness.md) explains the columns.", rows]
    return "\n\n".join(section for section in sections if section) + "\n"


def index() -> str:
    """The list of methods."""
    rows = []
    for name, method in (jd.samplers.METHODS | jd.samplers.UNCONDITIONAL).items():
        calls = method().calls
        cost = f"{calls.forward} + {calls.backward}" if calls.backward else f"{calls.forward}"
        needs = method.kind.wants or NEEDS[method.kind.needs and method.kind.needs.__name__]
        rows.append([f"[`{name}`]({name}.md)", parts(method.kind)[0].rstrip(".:"), needs, cost])
    tree = "\n".join(sorted(jd.samplers.METHODS | jd.samplers.UNCONDITIONAL))
    return "\n\n".join(
        [
            "# A page for each method",
            "Each page explains the idea of the method, and has its algorithm, cost, results and reference. "
            "[Choose a method](../choose_a_method.md) says which to use. The last column has the network calls of a step: "
            "forward + backward.",
            table(["factory", "method", "operator", "calls"], rows),
            f"```{{toctree}}\n:hidden:\n\n{tree}\n```\n",
        ]
    )


def pages() -> Iterator[tuple[str, str | bytes]]:
    """(path in the site, content) of each page and its picture."""
    yield "methods/index.md", index()
    for name, method in (jd.samplers.METHODS | jd.samplers.UNCONDITIONAL).items():
        yield f"methods/{name}.md", page(name, method)
        if shown := chosen(name):
            yield f"methods/{name}.png", strip(shown)
