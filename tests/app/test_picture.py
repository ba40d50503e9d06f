"""Uploads are read or refused in a sentence; frames and paintings that a page sends are brought within reason."""

import json

import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff.app import picture, show
from jaxdiff.photos import Framing


def painted(*strokes):
    return json.dumps({"strokes": [{"width": width, "points": points} for width, points in strokes]})


def saved(path, *size, **options):
    PILImage.new("RGB", size or (30, 20), (200, 10, 10)).save(path, **options)
    return path


def test_an_upload_is_read_as_it_is(tmp_path):
    pixels = picture.read(saved(tmp_path / "red.png"))
    assert pixels.shape == (20, 30, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[0, 0], (200, 10, 10))


def test_a_large_upload_is_made_smaller(tmp_path):
    assert picture.read(saved(tmp_path / "wide.png", 2 * picture.SIDE, 100)).shape == (50, picture.SIDE, 3)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cannot be read as a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "cannot be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n", "cannot be read as a picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "cannot be read as a picture"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_own_name(tmp_path, content, sentence):
    file = tmp_path / "holiday.png"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as refused:
        picture.read(file)
    assert str(refused.value).startswith("holiday.png ")
    assert str(tmp_path) not in str(refused.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "MOST_PIXELS", 599)
    with pytest.raises(ValueError, match=r"red.png has 600 pixels; at most 599 are read"):
        picture.read(saved(tmp_path / "red.png"))


def test_too_many_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match=r"red.png has 0 MiB; at most 0 MiB are read"):
        picture.read(saved(tmp_path / "red.png"))


def test_a_frame_comes_back_as_it_was_sent():
    image = np.zeros((40, 60, 3), np.uint8)
    assert picture.framing_of(show.framing(image, Framing(5, 6, 20)), image) == Framing(5, 6, 20)


@pytest.mark.parametrize(
    ("sent", "frame"),
    [
        ("", (0, 10, 40)),
        ("{", (0, 10, 40)),
        ('{"frame": [1, 2]}', (0, 10, 40)),
        ('{"frame": [-5, 900, 20]}', (0, 40, 20)),
        ('{"frame": [0, 0, 1e9]}', (0, 0, 40)),
        ('{"frame": [0, 0, 1e999]}', (0, 10, 40)),
        ('{"frame": [0, 0, -3]}', (0, 0, 1)),
        ("[" * 100_000, (0, 10, 40)),
    ],
)
def test_any_frame_ends_within_the_picture(sent, frame):
    assert picture.framing_of(sent, np.zeros((40, 60, 3), np.uint8)) == frame


def test_a_stroke_hides_what_it_covers():
    found = picture.hidden(painted((0.25, [[0.5, 0.125], [0.5, 0.875]])), (16, 16))
    assert found[2:14, 6:10].all()  # a vertical bar, a quarter of the side wide
    assert not found[:, :5].any()
    assert not found[:, 11:].any()


def test_a_dot_hides_a_disc_and_a_pixel_counts_if_only_touched():
    found = picture.hidden(painted((0.02, [[0.53, 0.53]])), (10, 10))
    assert found[5, 5]
    assert found.sum() == 1


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (None, "nothing is painted"),
        ("", "nothing is painted"),
        (painted(), "nothing is painted"),
        (painted((2, [[0.5, 0.5]])), "all of the picture"),
        (painted((float("inf"), [[0.5, 0.5]])), "cannot be read"),
        (painted((0.1, [[1e30, 0.5]])), "cannot be read"),
        (painted((0.1, [[0.5]])), "cannot be read"),
        ('{"strokes": 3}', "cannot be read"),
        ("[]", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (painted(*[(0.1, [[0.5, 0.5]])] * (picture.STROKES + 1)), "too many strokes"),
    ],
)
def test_any_other_painting_is_refused_in_a_sentence(sent, sentence):
    with pytest.raises(ValueError, match=sentence):
        picture.hidden(sent, (16, 16))
