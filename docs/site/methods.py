"""A page for each method, made from its file, its factory's docstring and the recorded tables."""

import csv
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import jaxdiff as jd
from docs.site.stage import ROOT

__all__ = ["pages"]

TASKS = ("inpaint_box", "inpaint_random", "gaussian_blur", "motion_blur", "super_resolution", "grayscale",
         "high_dynamic_range", "jpeg", "phase_retrieval")  # fmt: skip
NEEDS = {None: "nothing: it draws from the prior", "Operator": "any differentiable operator",
         "LinearOperator": "a linear operator", "SpectralOperator": "an operator with singular values"}  # fmt: skip


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def algorithm(kind: type) -> tuple[str, str]:
    """Title and algorithm, the two parts of the docstring of the method's file."""
    title, _, body = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "").partition("\n")
    return title.strip(), body.strip("\n")


def facts(method: Any) -> str:
    """What the class states of itself."""
    sampler, kind = method(), method.kind
    calls = sampler.calls
    passes = f"{calls.forward} forward" + (f", {calls.backward} backward" if calls.backward else "")
    needs = kind.wants or NEEDS[kind.needs and kind.needs.__name__]
    rows = [
        ["Needs", needs],
        ["Takes", "Gaussian noise" if kind.takes is jd.noise.Gaussian else "any noise model"],
        ["Network calls of a step", f"{passes} (with its defaults)"],
        ["Spreads its steps by", f"`{kind.spacing}`"],
        ["Clips x̂₀ to [-1, 1]", "yes" if kind.clips else "no: it needs derivatives of x̂₀"],
        ["Options that `jaxdiff tune` searches", ", ".join(f"`{name}`" for name in kind.search) or "none"],
    ]
    return table(["", ""], rows)


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
    return "\n".join([head.group(), *lines]) if head and len(lines) > 1 else ""


def page(name: str, method: Any) -> str:
    """One method."""
    title, body = algorithm(method.kind)
    full = f"jaxdiff.samplers.{name}"
    parts = [
        f"# {method.kind.title}" if method.kind.needs else f"# `{name}`",
        title,
        f"```text\n{body}\n```" if body else "",
        facts(method),
        "## Use",
        f"```python\nimport jaxdiff as jd\n\nsampler = jd.samplers.{name}()\n```",
        f"```{{eval-rst}}\n.. autofunction:: {full}\n   :no-index:\n```",
        f"## Equation\n\n```{{eval-rst}}\n.. autoclass:: {method.kind.__module__}.{method.kind.__name__}\n   :no-index:\n```",
    ]
    if method.kind.needs:
        parts += [
            "## Measured",
            "PSNR and LPIPS on four held-out faces (two at 1000 calls), prior faces64, σ = 0.05. Each cell has the better of "
            "the published and the searched settings. – means that the method cannot serve the task so.",
            leaderboard(name),
            "See [the leaderboard](../leaderboard.md) for standard errors, and [one picture by every method](../methods.png).",
        ]
    if rows := exactness(name):
        parts += ["## How exact", "The figures are explained in [Exactness and trust](../exactness.md).", rows]
    return "\n\n".join(part for part in parts if part) + "\n"


def index() -> str:
    """The list of methods."""
    rows = []
    for name, method in (jd.samplers.METHODS | jd.samplers.UNCONDITIONAL).items():
        calls = method().calls
        cost = f"{calls.forward} + {calls.backward}" if calls.backward else f"{calls.forward}"
        needs = method.kind.wants or NEEDS[method.kind.needs and method.kind.needs.__name__]
        rows.append([f"[`{name}`]({name}.md)", algorithm(method.kind)[0].rstrip(".:"), needs, cost])
    tree = "\n".join(sorted(jd.samplers.METHODS | jd.samplers.UNCONDITIONAL))
    return "\n\n".join(
        [
            "# A page for each method",
            "Each page has the algorithm, the equation, the cost, the recorded results and the reference. "
            "[Choose a method](../choose_a_method.md) says which to take.",
            table(["factory", "method", "needs of the operator", "calls a step"], rows),
            f"```{{toctree}}\n:hidden:\n\n{tree}\n```\n",
        ]
    )


def pages() -> Iterator[tuple[str, str]]:
    """(path in the site, text) of each page."""
    yield "methods/index.md", index()
    for name, method in (jd.samplers.METHODS | jd.samplers.UNCONDITIONAL).items():
        yield f"methods/{name}.md", page(name, method)
