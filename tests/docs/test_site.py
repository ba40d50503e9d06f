"""The site has every page and every public name; its links lead somewhere."""

import inspect
import io
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image as PILImage

from docs.site import api, commands, links, look, methods, stage
from jaxdiff.cli.main import COMMANDS

PAGES = dict(api.pages())


@pytest.mark.parametrize("name", api.modules())
def test_each_public_name_has_an_entry(name):
    module = api.modules()[name]
    wanted = {each for each in module.__all__ if not inspect.ismodule(getattr(module, each))}
    documented = set(
        re.findall(rf"^\.\. (?:auto\w+|py:data):: {re.escape(name)}\.(\w+)$", PAGES[f"api/{name}.rst"], re.MULTILINE)
    )
    assert documented == wanted


def test_each_public_module_is_in_the_index():
    import jaxdiff as jd

    listed = set(re.findall(r"^   (jaxdiff[.\w]*)$", PAGES["api/index.rst"], re.MULTILINE))
    assert {"jaxdiff"} | {f"jaxdiff.{name}" for name in jd.__all__ if inspect.ismodule(getattr(jd, name))} <= listed


def test_each_command_has_its_help():
    page = dict(commands.pages())["commands.md"]
    assert re.findall(r"^usage: jaxdiff (\w+)", page, re.MULTILINE) == [*COMMANDS]


def test_each_method_has_a_page():
    from jaxdiff.samplers import METHODS, UNCONDITIONAL

    made = dict(methods.pages())
    own = {f"methods/{name}.{ending}" for name in METHODS | UNCONDITIONAL for ending in ("md", "png")}
    assert set(made) == {"methods/index.md"} | own
    for name in METHODS | UNCONDITIONAL:
        text = made[f"methods/{name}.md"]
        assert "```text" in text or name in ("ddim", "ddpm"), name
        assert f"]({name}.png)" in text
        with PILImage.open(io.BytesIO(made[f"methods/{name}.png"])) as picture:
            assert picture.width > 3 * picture.height


def test_a_page_shows_the_pixels_of_its_own_method(monkeypatch):
    truth, own = (next(tile for tile in methods.recorded() if tile.what == what) for what in ("truth", "mmps"))
    monkeypatch.setattr(methods, "ENLARGED", 1)
    with PILImage.open(io.BytesIO(methods.strip([truth, own]))) as strip:
        a, b = np.asarray(strip, float)[:, :64], np.asarray(strip, float)[:, 64 + methods.GAP :]
    assert 10 * np.log10(255**2 / np.mean((a - b) ** 2)) == pytest.approx(float(own.psnr), abs=0.06)


def test_each_page_is_in_the_navigation():
    text = (stage.ROOT / "docs" / "index.md").read_text("utf-8")
    listed = set(re.findall(r"^(?:.* <)?([\w/*]+)>?$", text, re.MULTILINE))
    for name in stage.names().values():
        page = name.removesuffix(".md")
        if name.endswith(".md") and page != "index":
            assert page in listed or (page.startswith("own_") and "own_*" in listed), (
                f"{name} is in no list of docs/index.md"
            )


def test_links_between_pages_hold():
    for path, name in stage.names().items():
        if name.endswith(".md"):
            stage.relinked((stage.ROOT / path).read_text("utf-8"), path)


def test_a_link_to_nothing_is_refused():
    with pytest.raises(ValueError, match="not there"):
        stage.relinked("[a](b.md)", "docs/faq.md")


def test_a_link_out_of_the_site_becomes_a_name():
    assert stage.relinked("[a](../LICENSE)", "docs/faq.md") == "`LICENSE`"
    assert stage.relinked("[a](../ARCHITECTURE.md#rooms)", "docs/faq.md") == "[a](architecture.md#rooms)"


def test_a_number_stays_with_its_error_but_code_is_left_alone():
    text = stage.relinked("| 1 ± 2 |\n\n```text\n1 ± 2\n```\n", "docs/faq.md")
    assert text == "| 1\u00a0±\u00a02 |\n\n```text\n1 ± 2\n```\n"


def test_broken_links_of_built_pages_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">x</a><a href="#here">y</a><p id="here"><img src="//far.example/x.png">'
    )
    (tmp_path / "c.html").write_text('<a href="a.html#there">x</a><a href="https://example.org">z</a>')
    assert links.broken(tmp_path) == [
        "a.html loads //far.example/x.png from the network.",
        "a.html links to b.html, which is not there.",
        "c.html links to a.html#there, which has no such place.",
    ]


def test_a_page_that_tells_of_the_machine_is_found(tmp_path):
    (tmp_path / "a.html").write_text(f"<p>{os.environ!r}</p>")
    (tmp_path / "b.html").write_text("<p>os.environ</p>")
    assert links.broken(tmp_path) == ["a.html shows the environment of the machine that built it."]


@pytest.mark.slow
def test_a_browser_finds_what_is_wrong_with_built_pages(tmp_path):
    pytest.importorskip("playwright", reason="the browser is driven by playwright: pip install playwright")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("there is no Chromium here; install it to look at the site in a browser")
    head = '<!doctype html><link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
    (tmp_path / "good.html").write_text(f"{head}<p>a</p>")
    (tmp_path / "index.html").write_text(f'{head}<form action="good.html"><input name="q" type="search"></form>')
    (tmp_path / "wide.html").write_text(f'{head}<body style="margin: 0"><div style="width: 900px">b</div>')
    (tmp_path / "wrong.html").write_text(f"{head}<script>missing()</script>")
    found = look.faults(tmp_path, {"word": "A page"})
    assert found == [
        "wide.html: 900 pixels wide in a window of 390",
        "wrong.html: missing is not defined",
        "search: 'word' does not find 'A page'",
    ]
