"""Pages of the repository as the site wants them: copied, with links that hold there."""

import pathlib
import re
from collections.abc import Iterator

__all__ = ["ROOT", "names", "pages", "relinked", "unbroken"]

ROOT = pathlib.Path(__file__).parent.parent.parent

ELSEWHERE = {
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/results/leaderboard.md": "leaderboard.md",
    "benchmarks/results/search.md": "settings_search.md",
    "jaxdiff/assets/faces64.md": "faces64_card.md",
}
"""Pages outside of `docs` and their names in the site."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)


def names() -> dict[str, str]:
    """Each page and picture of the repository that the site has: its path there → its name in the site."""
    own = [path for ending in ("md", "png", "svg") for path in (ROOT / "docs").glob(f"*.{ending}")]
    return {path.relative_to(ROOT).as_posix(): path.name for path in sorted(own)} | ELSEWHERE


def relinked(text: str, page: str) -> str:
    """The page at ``page`` (a path in the repository) with its links turned into those of the site.

    A link to a file that the site has not (a test, a licence) becomes that file's name as code.

    Raises:
        ValueError: if a link goes to a file that is not there.
    """
    known = names() | {"README.md": "index.md"}

    def replace(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match.group()
        file = (ROOT / page).parent.joinpath(path).resolve()
        if not file.exists():
            raise ValueError(f"{page} links to {target}, which is not there.")
        inside = file.relative_to(ROOT.resolve()).as_posix()
        if inside not in known:
            return f"`{inside}`"
        return f"{picture}[{words}]({known[inside]}{'#' if anchor else ''}{anchor})"

    parts = FENCE.split(text)
    parts[::2] = [unbroken(LINK.sub(replace, part)) for part in parts[::2]]
    return "".join(parts)


def unbroken(text: str) -> str:
    """A number stays on one line with its error, also in a narrow column."""
    return text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def pages() -> Iterator[tuple[str, str | bytes]]:
    """(path in the site, content): pages, pictures, settings and tutorials."""
    for path, name in names().items():
        content = (ROOT / path).read_bytes()
        yield name, relinked(content.decode(), path) if name.endswith(".md") else content
    yield "conf.py", (ROOT / "docs" / "conf.py").read_bytes()
    for folder, to in (("docs/_static", "_static"), ("examples/tutorials", "tutorials/source")):
        for path in sorted((ROOT / folder).iterdir()):
            if path.is_file():
                yield f"{to}/{path.name}", path.read_bytes()
