"""Every Python block of README and pages runs, in the order of its page, in an empty folder; every tutorial runs.

A block that needs files or hardware is marked ```python no-run. Runs are cut to a step or two, on a tiny prior in the place of
``faces64``: what is tested is that the lines work, not what they restore.
"""

import pathlib
import re
import shlex
from contextlib import contextmanager

import matplotlib
import pytest

import jaxdiff as jd
from jaxdiff.cli.main import parse
from tests.support.networks import tiny_denoiser

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIALS = sorted((ROOT / "examples" / "tutorials").glob("*.py"))
FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(jaxdiff (?:[^'\n]|'[^']*')+)|&& (jaxdiff [^\"\n]+)", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
STEPS = re.compile(r"\bsteps=\d+")


def blocks(page):
    """(line number, code) of each block that is to run."""
    text = page.read_text("utf-8")
    return [(text[: found.start(1)].count("\n") + 1, found.group(1)) for found in BLOCK.finditer(text)]


@contextmanager
def tiny_faces64():
    """``jd.load_denoiser("faces64")`` gives a network of a few channels."""
    real = jd.load_denoiser
    small = tiny_denoiser((64, 64, 3))

    def load(name, **options):
        return small if name == "faces64" and not options else real(name, **options)

    jd.load_denoiser = load
    try:
        yield
    finally:
        jd.load_denoiser = real


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=() if page.name == "README.md" else pytest.mark.slow)
        for page in PAGES
        if blocks(page)
    ],
)
def test_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    with tiny_faces64():
        for line, code in blocks(page):
            program = compile("\n" * line + STEPS.sub("steps=2", code), str(page), "exec")
            exec(program, names)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(tutorial, tmp_path, monkeypatch):
    if tutorial.stem == "4_own_network":
        pytest.importorskip("equinox")
    monkeypatch.chdir(tmp_path)
    with tiny_faces64():
        exec(compile(STEPS.sub("steps=2", tutorial.read_text("utf-8")), str(tutorial), "exec"), {"__name__": "page"})
    pyplot.close("all")


def commands(page):
    """The ``jaxdiff`` command lines of a page's blocks; those with a placeholder (…) are left out."""
    for mark, block in FENCED.findall(page.read_text("utf-8")):
        if mark not in ("", "bash", "text"):
            continue
        joined = re.sub(r"\\\n\s*|\s# .*", "", block)
        yield from ("".join(found) for found in COMMAND.findall(joined) if "…" not in "".join(found))


def test_commands_have_the_options_that_pages_give_them(capsys):
    found = [(page.name, line) for page in PAGES for line in commands(page)]
    assert len(found) > 20
    wrong = []
    for page, line in found:
        try:
            parse(shlex.split(line))
        except SystemExit as stop:
            if stop.code:
                wrong.append(f"{page}: {line}: {capsys.readouterr().err.strip().splitlines()[-1]}")
    assert not wrong, "\n".join(wrong)


def test_the_quick_start_is_short():
    code = blocks(ROOT / "README.md")[0][1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_blocks_are_marked_as_known():
    for page in PAGES:
        marks = set(re.findall(r"^ *```(?!\n)(.*)$", page.read_text("utf-8"), re.MULTILINE))
        unknown = {mark for mark in marks if not mark.startswith("{")} - {"python", "python no-run", "text", "bash"}
        assert not unknown, f"{page.name}: {unknown}"
