"""The picture of docs/app.md: the page of ``jaxdiff app`` in a browser, after a restoration of the packaged face.

Run:     python -m docs.app_picture [--states FOLDER]
Shows:   app.png. With --states also the page as it is fresh, painted on, running and done, and on a telephone.
Needs:   Chromium, and pip install 'jaxdiff[app]' playwright. The face is Eileen Collins (NASA, public domain).
Time:    five minutes on two busy CPU cores.
"""

import argparse
import pathlib
import shutil
import socket
from collections.abc import Callable
from typing import Any

from PIL import Image as PILImage

import jaxdiff as jd
from jaxdiff.cli.app import commands

DOCS = pathlib.Path(__file__).parent
WAIT = 600_000
"""Milliseconds; a loaded machine takes long."""


def drag(page: Any, places: list[tuple[float, float]]) -> None:
    """Paint over the face, by fractions of the canvas."""
    canvas = page.locator("#paint canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for number, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def visit(page: Any, address: str, save: Callable[..., Any]) -> None:
    """Choose, paint and restore; ``save`` is told of each state."""
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.wait_for_selector("#start")
    page.wait_for_timeout(1000)
    save("fresh")
    page.click("#example")
    page.wait_for_selector("text=the measurement")
    page.click("#tasks >> text=painted by you")
    page.wait_for_selector("text=nothing is painted")
    drag(page, [(0.22, 0.2), (0.4, 0.34), (0.5, 0.52)])
    drag(page, [(0.3, 0.66), (0.48, 0.78), (0.72, 0.62)])
    page.wait_for_selector("text=the measurement")
    page.wait_for_timeout(500)
    save("painted", full_page=True)
    page.click("#start")
    page.wait_for_selector("#live progress")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(300)
    save("running")
    page.wait_for_selector(".jd-download")
    page.wait_for_timeout(1500)
    save("done")


def main() -> None:
    """Serve the page and make its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=pathlib.Path, default=None, metavar="FOLDER")
    states = parser.parse_args().states
    from playwright.sync_api import sync_playwright

    from jaxdiff.app.page import Site
    from jaxdiff.app.wish import Wish

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site = Site(commands(jd.load_denoiser("faces64")), Wish(""))
    with site.served("127.0.0.1", port) as address, sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})

        def save(name: str, **options: Any) -> None:
            if states is not None:
                states.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=states / f"{name}.png", **options)
            if name == "done":
                page.screenshot(path=DOCS / "app.png")

        visit(page, address, save)
        if states is not None:
            page.set_viewport_size({"width": 390, "height": 844})
            page.wait_for_timeout(1500)
            page.screenshot(path=states / "telephone.png", full_page=True)
        browser.close()
    with PILImage.open(DOCS / "app.png") as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(DOCS / "app.png", optimize=True)


if __name__ == "__main__":
    main()
