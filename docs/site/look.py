"""What a browser finds wrong with the built pages, on a telephone's screen."""

import contextlib
import functools
import http.server
import pathlib
import shutil
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["faults"]

WIDTH, HEIGHT = 390, 844
WORDS = {"ddrm": "DDRM", "inpaint": "jaxdiff.operators.inpaint_box", "nan": "Questions and answers"}
"""Typed into the search box → a title that has to be found."""


def faults(folder: pathlib.Path, words: dict[str, str] | None = None) -> list[str]:
    """One sentence for each page that is wider than its window or complains, and for each word that is not found.

    Args:
        folder: the built site.
        words: typed into the search box → a title that has to be found.

    Raises:
        ValueError: if there is no Chromium, or no playwright to drive it.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        raise ValueError("the pages were not looked at in a browser: install Chromium and playwright.")
    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(60_000)
        found: list[str] = []
        page.on("console", lambda said: found.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith((address, "data:")) or found.append(f"asks {asked.url}"))
        names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.html"))]
        told = [
            f"{name}: {fault}" for name in names if "_static" not in name for fault in seen(page, address, name, found)
        ]
        told += [f"search: {fault}" for fault in searched(page, address, WORDS if words is None else words)]
        browser.close()
    return told


def seen(page: Any, address: str, name: str, found: list[str]) -> list[str]:
    """What is wrong with one page; ``found`` collects what the browser says meanwhile."""
    found.clear()
    page.goto(f"{address}/{name}")
    width = page.evaluate("document.documentElement.scrollWidth")
    return [*found, *[f"{width} pixels wide in a window of {WIDTH}"] * (width > WIDTH)]


def searched(page: Any, address: str, words: dict[str, str]) -> list[str]:
    """Words that do not find their page, when they are typed into the box of the first page."""
    missed = []
    for word, title in words.items():
        page.goto(f"{address}/index.html")
        page.locator("input[type=search], input[name=q]").first.evaluate(
            "(box, word) => { box.value = word; box.form.submit() }", word
        )
        try:
            page.get_by_role("link", name=title, exact=True).locator("visible=true").first.wait_for(timeout=10_000)
        except Exception:  # playwright's own, which is imported late
            missed.append(f"{word!r} does not find {title!r}")
    return missed


@contextlib.contextmanager
def served(folder: pathlib.Path) -> Iterator[str]:
    """The folder on a free port of this machine; yields the address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
