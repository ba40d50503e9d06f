"""A report as a browser shows it: no error, no request, and everything moves by mouse and by key."""

import shutil

import numpy as np
import pytest

from jaxdiff.evaluation.folder import ResultsFolder
from jaxdiff.evaluation.in_photo import RESTORED, in_photo, section_of
from jaxdiff.evaluation.index import entry, write_index
from jaxdiff.pages import Page, Picture, Pictures, Plot, Section, Series, Table, deviation, settings_of, write_page
from jaxdiff.photos import Framing

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here; install it to test reports in a browser"),
]


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    random = np.random.default_rng(0)
    shown = [Picture(name, random.uniform(-1, 1, (64, 64, 3))) for name in ("measured", "<b>truth</b>", "draw")]
    shown.append(deviation("deviation", random.uniform(0, 1, (64, 64))))
    lines = [["dps", "9.5 ± 0.5"], ["ddrm", "21.0 ± 2.0"], ["lost", "–"], ["mmps", "**23.0 ± 1.0**"]]
    plot = Plot("calls", "PSNR", {"dps": Series([1, 2], [3, 4], [1, 1]), "ddrm": Series([1, 2], [2, 3])}, log_x=True)
    parts = [Pictures(shown, compare=(0, 2)), Table(["method", "PSNR dB"], lines), plot]
    page = Page("A report", "In a sentence.", [Section("All there is", parts)], settings_of(command="none"))
    return write_page(tmp_path_factory.mktemp("report") / "report.html", page)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A page over two photos, and the report of each."""
    folder, random, entries = tmp_path_factory.mktemp("several"), np.random.default_rng(0), []
    for name, psnr in (("a b.png", 20.1), ("c.png", 9.5)):
        photo, view = random.uniform(-1, 1, (120, 200, 3)), random.uniform(-1, 1, (16, 16, 3))
        pictures = in_photo(photo, Framing(10, 20, 64), np.zeros((64, 64, 3)), view=view)
        own = folder / f"{name}-denoise-dps"
        own.mkdir()
        write_page(own / "report.html", Page(f"Restored: {name}", "", [section_of(photo, pictures)]))
        row = {"image": "draw 1", "psnr": psnr, "ssim": 0.5, "lpips": 0.1, "misfit_rms": 0.05}
        entries.append(entry(name, own.name, pictures[RESTORED], row))
    return folder / write_index(ResultsFolder(folder), entries, {"method": "dps"}, ["lost.png"])


WINDOWS = {"params": [(1280, 900, "light"), (390, 844, "dark")], "ids": ["desktop", "phone"]}


@pytest.fixture(scope="module", **WINDOWS)
def page(request, browser, report):
    """The report, opened from its file."""
    yield from opened_in(browser, report, request.param)


@pytest.fixture(**WINDOWS)
def several(request, browser, index):
    """The page over several pictures, opened from its file."""
    yield from opened_in(browser, index, request.param)


def opened_in(browser, report, window):
    """The report in a window; at the end nothing was complained about or asked for."""
    width, height, scheme = window
    opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    faults = []
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda asked: asked.url.startswith(("data:", "file:")) or faults.append(asked.url))
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert not faults


def test_it_fits_the_window(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("figcaption", has_text="<b>truth</b>").count() == 1
    assert page.locator(".gallery img").evaluate_all("all => all.every((image) => image.naturalWidth === 64)")


def test_the_slider_moves_by_mouse_and_by_key(page):
    def at():
        return float(page.locator(".stage").evaluate("stage => parseFloat(stage.style.getPropertyValue('--at'))"))

    assert at() == 50
    stage = page.locator(".stage")
    stage.scroll_into_view_if_needed()
    place = stage.bounding_box()
    page.mouse.move(place["x"] + 0.5 * place["width"], place["y"] + 20)
    page.mouse.down()
    page.mouse.move(place["x"] + 0.2 * place["width"], place["y"] + 20, steps=3)
    page.mouse.up()
    assert at() == pytest.approx(20, abs=1)
    page.locator(".split").focus()
    page.keyboard.press("End")
    assert at() == 100
    page.locator("select.left").select_option(index=3)
    ours = page.locator(".gallery img").last.get_attribute("src")
    assert page.locator(".stage img.left").get_attribute("src") == ours
    page.locator("select.size").select_option("8")
    assert page.locator(".stage").evaluate("stage => stage.clientWidth") == 512


def test_pictures_are_enlarged_and_closed_by_key(page):
    page.locator(".enlarge").first.focus()
    page.keyboard.press("Enter")
    box = page.locator("#lightbox")
    assert box.evaluate("box => box.open")
    width = box.locator("img").evaluate("image => image.clientWidth")
    assert width > 128
    page.keyboard.press("+")
    assert box.locator("img").evaluate("image => image.clientWidth") > 1.4 * width
    page.keyboard.press("ArrowRight")
    assert "<b>truth</b>" in box.locator(".caption").inner_text()
    page.keyboard.press("Escape")
    assert not box.evaluate("box => box.open")


def test_the_table_is_sorted_by_number_and_by_letter(page):
    table = page.locator("table").first

    def names():
        return table.locator("tbody td:first-child").all_inner_texts()

    by_score, by_name = table.locator("th button").nth(1), table.locator("th button").first
    by_score.click()
    assert names() == ["dps", "ddrm", "mmps", "lost"], "9.5 comes before 21"
    by_score.click()
    assert names() == ["mmps", "ddrm", "dps", "lost"], "what has no number stays last"
    by_name.focus()
    page.keyboard.press("Enter")
    assert names() == ["ddrm", "dps", "lost", "mmps"]
    assert table.locator("th").first.get_attribute("aria-sort") == "ascending"


def test_the_plot_is_drawn_in_the_colours_of_the_page(page):
    page.wait_for_selector(".plot .main-svg")
    assert page.locator(".plot .scatterlayer .trace").count() == 2
    colours = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('.plot .xtitle')).fill]"
    )
    assert colours[0] == colours[1]


def test_the_page_over_several_pictures_leads_to_the_report_of_each(several):
    assert several.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "lost.png" in several.locator("header").inner_text()
    several.locator("th button").nth(1).click()
    assert several.locator("tbody td:first-child").all_inner_texts() == ["c.png", "a b.png"], "9.5 comes before 20.1"
    for place, name in (("figcaption a", "a b.png"), ("td a", "c.png")):
        several.locator(place, has_text=name).click()
        assert several.locator("h1").inner_text() == f"Restored: {name}"
        several.go_back()


def test_the_report_of_a_photo_shows_all_of_it_before_and_after(several):
    several.locator("figcaption a").first.click()
    titles = [text.splitlines()[0] for text in several.locator("figcaption").all_inner_texts()]
    assert titles == ["measured, in the photo", "restored, in the photo", "the frame", "the photo"]
    sources = several.locator(".gallery img").evaluate_all("all => all.map((image) => image.src)")
    shown = [several.locator(f".stage img.{side}").get_attribute("src") for side in ("left", "right")]
    assert shown == sources[:2]
    stage = several.locator(".stage").bounding_box()
    assert stage["width"] / stage["height"] == pytest.approx(200 / 120, rel=0.02)
    assert several.evaluate("document.documentElement.scrollWidth <= innerWidth")
