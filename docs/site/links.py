"""Links of built pages that lead nowhere, and pages that tell of the machine that built them."""

import pathlib
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

__all__ = ["broken"]


class Page(HTMLParser):
    """Collects a page's anchors, and what it links to or loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: set[str] = set()
        self.loaded: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Every id is an anchor; a link is followed, anything else is loaded."""
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        if tag == "a" and "href" in values:
            self.targets.add(values["href"])
        elif tag in ("img", "script", "source") and "src" in values:
            self.loaded.add(values["src"])
        elif tag == "link" and values.get("rel") == "stylesheet":
            self.loaded.add(values.get("href", ""))


def broken(folder: pathlib.Path) -> list[str]:
    """One sentence for each fault: a link that leads nowhere, a file loaded from the network, or this machine's environment."""
    pages: dict[pathlib.Path, Page] = {}
    faults = []
    for path in sorted(folder.rglob("*.html")):
        pages[path.resolve()] = page = Page()
        text = path.read_text("utf-8")
        page.feed(text)
        if "environ({" in text:
            faults.append(f"{path.relative_to(folder)} shows the environment of the machine that built it.")
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        faults += [f"{name} loads {url} from the network." for url in page.loaded if urlsplit(url).netloc]
        for target in sorted(page.targets | page.loaded):
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            file = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not file.exists():
                faults.append(f"{name} links to {target}, which is not there.")
            elif url.fragment and file in pages and unquote(url.fragment) not in pages[file].anchors:
                faults.append(f"{name} links to {target}, which has no such place.")
    return faults
