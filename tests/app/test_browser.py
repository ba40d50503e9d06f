"""The page in a browser, from the upload to the download; nothing but this machine is asked for anything."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff.assets import path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH"),
    # Looked for, not imported: that takes seconds, of every run that collects this file.
    pytest.mark.skipif(find_spec("gradio") is None, reason="the page needs gradio: pip install 'jaxdiff[app]'"),
]
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
WAIT = 60_000


@pytest.fixture
def address(prior, tmp_path):
    """A page that is served by a process of its own, which leaves nothing behind."""
    temporary, log = tmp_path / "temporary", tmp_path / "log"
    temporary.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "jaxdiff", "app", "--prior", str(prior), "--port", str(port)]
    with log.open("w") as told:
        process = subprocess.Popen(words, stdout=told, stderr=told, env={**os.environ, "TMPDIR": str(temporary)})
    try:
        for _ in range(600):
            if "open http" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.1)
        yield re.search(r"open (\S+) in a browser", log.read_text())[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
        assert not [*temporary.iterdir()]
    finally:
        process.kill()


@pytest.fixture
def visit(address):
    """Open the page as a new visitor; at the end no visitor's browser has complained or asked another machine."""
    complaints, requests = [], []
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright, which drives the browser")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)

        def open_page():
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.set_default_timeout(WAIT)
            page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(address)
            page.wait_for_selector("#start")
            return page

        yield open_page
        browser.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


def upload(page, name, content):
    page.set_input_files("#upload input[type=file]", {"name": name, "mimeType": "image/png", "buffer": content})


def drag(page, selector, *places):
    """Drag the mouse over a canvas, by fractions of its sides."""
    canvas = page.locator(selector)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    (x, y), *rest = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in places]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=5)
    page.mouse.up()


def choose(page, method, calls, draws):
    page.click("#method input")
    page.get_by_role("option", name=method, exact=True).click()  # typing a name and Enter can be faster than the list
    assert page.input_value("#method input") == method
    page.fill("#calls input", str(calls))
    page.fill("#draws input[type=number]", str(draws))
    page.keyboard.press("Tab")


def test_a_visitor_uploads_paints_stops_restores_and_downloads(visit, tmp_path):
    page, other = visit(), visit()

    upload(page, "broken.png", b"\x89PNG\r\n\x1a\n")
    page.wait_for_selector("#fault >> text=broken.png cannot be read as a picture")
    upload(page, "face.png", path("astronaut.png").read_bytes())
    page.wait_for_selector("#fault .jd-fault", state="detached")
    page.wait_for_selector("text=the measurement")
    page.click("#tasks >> text=painted by you")
    page.wait_for_selector("text=nothing is painted")
    drag(page, "#paint canvas", (0.3, 0.4), (0.7, 0.4))
    page.wait_for_selector("text=the measurement")

    choose(page, "DPS", 1000, 16)
    page.click("#start")
    page.wait_for_selector("#live progress")  # x̂₀ forms
    assert page.locator("#live figure").count() == 16

    other.click("#example")
    other.wait_for_selector("text=the measurement")
    choose(other, "DDNM", 5, 2)
    other.click("#start")
    other.wait_for_selector("#live >> text=/queue/")  # sees that another one is being served

    page.click("#stop")
    page.wait_for_selector("#live >> text=Stopped")
    other.wait_for_selector(".jd-download")

    choose(page, "DDNM", 5, 2)
    page.click("#start")
    page.wait_for_selector(".jd-download")
    assert page.locator("#live >> text=/ dB, LPIPS /").count() == 3  # two draws and their mean
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    with page.expect_download() as download:
        page.click(".jd-download")
    download.value.save_as(tmp_path / "all.zip")
    _check(tmp_path / "all.zip")


def _check(file):
    with zipfile.ZipFile(file) as archive:
        held = {name.removeprefix("jaxdiff/"): archive.read(name) for name in archive.namelist()}
    assert {f"restored/{name}" for name in ("restored_1.png", "restored_2.png", "mean.png", "std.png")} <= set(held)
    mask = np.asarray(PILImage.open(io.BytesIO(held["mask.png"])))
    assert mask.shape == (16, 16)
    assert not mask[6, 5:11].any()  # where the mouse went
    assert mask[:4].all()
    assert mask[10:].all()
    line = held["repeat.sh"].decode()
    assert "--task inpaint_mask --mask mask.png --method ddnm" in line
    assert "--calls 5 --count 2" in line
