"""Pages are written in short sentences of at most 25 words."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
MORE = ("benchmarks/README.md", "benchmarks/gpu/README.md", "jaxdiff/assets/faces64.md")
PAGES = [*(ROOT / name for name in (*TOP, *MORE)), *sorted((ROOT / "docs").glob("*.md"))]
MOST = 25

MARKER = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")
ENDED = re.compile(r"(?<!\bal\.)(?<!e\.g\.)(?<!i\.e\.)(?<=[.!?])[\"”’)*]*\s+(?=[^a-z])")


def blocks(text):
    """Paragraphs and list items, without code, tables, headings, pictures and quotes of commands."""
    text = re.sub(r"^ *```.*?^ *```", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    block = []
    for line in [*text.splitlines(), ""]:
        apart = not line.strip() or line.lstrip().startswith(("|", "#", "<"))
        if (apart or MARKER.match(line)) and block:
            yield " ".join(block)
            block = []
        if not apart:
            block.append(MARKER.sub("", line, count=1).strip())


def sentences(text):
    """Each with code in it as one word, and of a link what is read."""
    for block in blocks(text):
        block = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "CODE", block))
        for sentence in ENDED.split(block):
            if words := [word for word in sentence.split() if re.search(r"\w", word)]:
                yield " ".join(words)


def test_how_sentences_are_counted():
    text = "# Title\n\nOne two. Three `a b c` [four](five six).\n\n| no |\n\n```\nno\n```\n- Song et al. 2021\n  goes on\n- so"
    assert list(sentences(text)) == ["One two.", "Three CODE four.", "Song et al. 2021 goes on", "so"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page):
    found = list(sentences(page.read_text("utf-8")))
    assert found
    long = [sentence for sentence in found if len(sentence.split()) > MOST]
    assert not long, "\n".join(long)


def test_the_readme_is_a_door():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 100
    cells = [cell for line in text.splitlines() if line.startswith("|") for cell in line.split("|")]
    assert max(len(cell.split()) for cell in cells) <= 15
