"""A page is one file that asks nobody for anything, holds what it was given, and takes no text for code."""

import base64
import builtins
import html
import io
import re

import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff.files import to_uint8
from jaxdiff.pages import (
    Page,
    Picture,
    Pictures,
    Plot,
    Section,
    Series,
    Table,
    deviation,
    settings_of,
    write,
    write_page,
)
from jaxdiff.pages.cells import cells, is_numeric

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def image(size=8, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (size, size, 3)).astype(np.float32)


def page_with(*parts, **more):
    return Page("title", "lead", [Section("section", parts)], **more)


def written(tmp_path, page):
    return write_page(tmp_path / "report.html", page).read_text("utf-8")


def pictures_in(text):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    return [np.asarray(PILImage.open(io.BytesIO(base64.b64decode(data)))) for data in found]


@pytest.fixture
def no_plotly(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)


def test_pictures_are_in_the_file_to_the_bit(tmp_path):
    shown = [Picture("a", image(8, 0)), Picture("b", image(4, 1)), Picture("grey", image(8, 2)[..., :1])]
    found = pictures_in(written(tmp_path, page_with(Pictures(shown, compare=(0, 1)))))
    assert len(found) == 3
    for ours, theirs in zip(shown, found, strict=True):
        np.testing.assert_array_equal(theirs, to_uint8(ours.pixels).squeeze())


def test_no_text_of_the_user_becomes_code(tmp_path):
    parts = [
        Pictures([Picture(HOSTILE, image(), HOSTILE), Picture("b", image())], compare=(0, 1)),
        Table([HOSTILE], [[HOSTILE]]),
        Plot(HOSTILE, HOSTILE, {HOSTILE: Series([HOSTILE], [1.0])}, HOSTILE),
    ]
    page = Page(HOSTILE, HOSTILE, [Section(HOSTILE, parts, HOSTILE)], {HOSTILE: HOSTILE})
    text = written(tmp_path, page)
    for bare in ("<script>alert", "<img src=x"):
        assert bare not in text
    assert html.escape(HOSTILE) in text.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")


def test_the_page_forbids_the_browser_every_request(tmp_path):
    text = written(tmp_path, page_with(Pictures([Picture("a", image())])))
    assert "default-src 'none'" in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)


def test_a_page_stays_small_whatever_it_is_given(tmp_path):
    # Noise, which PNG cannot make smaller: each picture has 2 MB as text.
    shown = [Picture(f"{i}", image(700)) for i in range(6)]
    lines = [[f"a line that is as long as lines are, number {i}", "1.0 ± 0.1"] for i in range(5000)]
    plot = Plot("x", "y", {"y": Series([*range(2000)], [0.0] * 2000)})
    path = write_page(tmp_path / "report.html", page_with(Pictures(shown), Table(["a", "b"], lines), plot))
    assert path.stat().st_size < 10_000_000
    text = path.read_text("utf-8")
    assert "more pictures are left out here" in text
    assert "4500 more rows are left out here" in text


def test_a_large_picture_is_shown_smaller(tmp_path):
    text = written(tmp_path, page_with(Pictures([Picture("photo", np.zeros((800, 1600, 3), np.float32))])))
    (found,) = pictures_in(text)
    assert found.shape[0] * found.shape[1] <= write.MOST_PIXELS
    assert found.shape[1] / found.shape[0] == pytest.approx(2, rel=0.01)
    assert "1600×800, shown smaller" in text


def test_a_photo_that_png_makes_too_large_is_compressed_and_says_so(tmp_path):
    text = written(tmp_path, page_with(Pictures([Picture("photo", image(800)), Picture("small", image(8))])))
    assert [found.shape[0] for found in pictures_in(text)] == [8]
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    with PILImage.open(io.BytesIO(base64.b64decode(data))) as photo:
        assert photo.size == (800, 800)
    assert text.count("compressed here") == 1


def test_titles_and_first_cells_lead_to_files_and_to_nothing_else(tmp_path):
    name = 'javascript:alert(1)/a b"><.html'
    shown = Pictures([Picture("a", image(), link="x/report.html"), Picture("b", image(), link=name)])
    table = Table(["picture", "PSNR"], [["a", "1.0"], ["b", "2.0"]], ["x/report.html", name])
    found = re.findall(r'href="([^"]*)"', written(tmp_path, page_with(shown, table)).partition("<body>")[2])
    assert found == ["x/report.html", "javascript%3Aalert%281%29/a%20b%22%3E%3C.html"] * 2


def test_many_pictures_are_cut_after_a_whole_row(tmp_path):
    text = written(tmp_path, page_with(Pictures([Picture("a", image())] * 100, columns=5)))
    assert len(pictures_in(text)) == 20
    assert "80 more pictures are left out here" in text


def test_the_script_of_plots_is_there_only_for_a_plot(tmp_path):
    plot = Plot("x", "y", {"a": Series([1, 2], [3, np.nan], [0.1, np.nan])})
    assert len(written(tmp_path, page_with(Table(["a"], [["1"]])))) < 50_000
    text = written(tmp_path, page_with(plot))
    assert len(text) > 1_000_000
    assert "NaN" not in re.search(r'data-figure="([^"]*)"', text).group(1), "JSON has no NaN"


def test_without_plotly_there_are_the_figures(tmp_path, no_plotly):
    text = written(tmp_path, page_with(Plot("x", "y", {"a": Series([1, 2], [3.25, 4], [0.5, 1])})))
    assert "pip install" in text
    assert "3.25 ± 0.5" in text
    assert "<details open" in text


def test_cells_know_their_numbers_and_error_bars():
    (best, text), (other, unknown), (dash, name) = cells([["**23.0 ± 1.0**", "1e-3"], ["21.00±0.50", "–"], ["–", "v2"]])
    assert (best.text, best.bold, best.number) == ("23.0 ± 1.0", True, 23.0)
    # From 20.5 to 24.0: 22 is at 42.9 %, 23 at 71.4 %.
    assert best.bar == (42.9, 71.4, 100.0)
    assert other.bar == (0.0, 14.3, 28.6)
    assert is_numeric([best, other, dash]), "a dash stands for a number that is not known"
    assert not is_numeric([text, name]), "one number among texts makes no column of numbers"
    assert not is_numeric([dash])
    assert (dash.number, unknown.number, name.number, text.number, text.bar) == (None, None, None, 0.001, None)


def test_a_map_goes_from_black_to_yellow():
    values = np.linspace(0, 2, 64).reshape(8, 8)
    pixels = to_uint8(deviation("map", values, top=1.0).pixels)
    assert pixels[0, 0].tolist() == [0, 0, 4]
    assert pixels[-1, -1].tolist() == [252, 253, 191]
    assert (np.diff(pixels.astype(int).sum(-1).ravel()) >= 0).all(), "brighter where it is larger"


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_page(path, page_with(Table(["a"], [["1"]])))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="zip"):
        write_page(path, page_with(Table(["a"], [["1"], ["1", "2"]])))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_settings_tell_versions_and_what_is_given():
    found = settings_of(command="jaxdiff restore", noise_std=None, prior="faces64")
    assert list(found) == ["command", "prior", "jaxdiff", "jax", "Python", "device"]
    assert all(found.values())
