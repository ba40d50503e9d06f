"""The square of a photo that a prior sees: found, cut out, put back."""

import sys

import numpy as np
import pytest
from skimage import data

from jaxdiff import assets, photos
from jaxdiff.evaluation.pictures import FACE_BOX
from jaxdiff.files import from_uint8, load_image


def noise(height, width, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (height, width, 3)).astype(np.float32)


def overlap(a, b):
    """Intersection over union of two squares."""
    rows = max(0, min(a.top + a.side, b.top + b.side) - max(a.top, b.top))
    columns = max(0, min(a.left + a.side, b.left + b.side) - max(a.left, b.left))
    return rows * columns / (a.side**2 + b.side**2 - rows * columns)


def test_the_face_of_a_photo_is_framed_as_ffhq_frames_it():
    left, top, right, _ = FACE_BOX  # set by hand
    by_hand = photos.Framing(top, left, right - left)
    found, why = photos.choose(from_uint8(data.astronaut()))
    assert overlap(found, by_hand) > 0.65
    assert why is None


def test_a_face_that_fills_its_picture_is_found():
    picture = load_image(assets.path("astronaut.png")).pixels
    assert overlap(photos.find_face(picture), photos.centre(picture)) > 0.65


def test_a_frame_that_would_stick_out_is_moved_into_the_photo():
    photo = from_uint8(data.astronaut())[30:]  # cut off above the hair
    photos.inside(photos.find_face(photo), photo)


def test_no_face_gives_the_centre_and_says_so():
    cup = from_uint8(data.coffee())
    assert photos.find_face(cup) is None
    assert photos.choose(cup) == (photos.Framing(0, 100, 400), photos.NO_FACE)


def test_a_cat_is_no_face():
    assert photos.find_face(from_uint8(data.chelsea())) is None


def test_a_scratched_face_is_found_where_the_scratches_are_known():
    photo = from_uint8(data.astronaut())
    known = np.ones((512, 512, 1), np.float32)
    known[90:96, 140:320] = known[20:190, 210:216] = known[60:64, 140:320] = 0
    clean, scratched = photos.find_face(photo), np.where(known > 0, photo, 1)
    assert overlap(photos.find_face(photos.filled(scratched, known)), clean) > 0.8


def test_no_detector_gives_the_centre_and_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    frame, why = photos.choose(noise(20, 30))
    assert frame == (0, 5, 20)
    assert "jaxdiff[photo]" in why
    with pytest.raises(ValueError, match=r"jaxdiff\[photo\]"):
        photos.find_face(noise(20, 30))


def test_a_crop_of_its_own_size_is_the_photo():
    photo = noise(20, 30)
    np.testing.assert_array_equal(photos.crop(photo, photos.Framing(2, 5, 16), 16), photo[2:18, 5:21])


def test_a_smaller_crop_is_antialiased():
    checks = np.where(np.indices((64, 64)).sum(0) % 2, 1.0, -1.0)[..., None]
    small = photos.crop(checks, photos.Framing(0, 0, 64), 16)
    assert np.abs(small[2:-2, 2:-2]).max() < 0.05  # every second pixel would be all black


@pytest.mark.parametrize("feather", [0, 0.1, 0.5])
def test_what_was_cut_out_and_not_changed_leaves_the_photo_as_it_is(feather):
    photo, frame = noise(40, 50), photos.Framing(10, 20, 16)
    np.testing.assert_allclose(
        photos.paste_back(photo, photos.crop(photo, frame, 16), frame, feather), photo, atol=1e-6
    )


def test_the_paste_is_whole_in_the_middle_soft_at_the_edge_and_nowhere_else():
    photo, frame = np.zeros((60, 60, 3), np.float32), photos.Framing(10, 20, 40)
    out = photos.paste_back(photo, np.full((8, 8, 3), 3.0), frame, 0.1)
    assert out.max() == 1  # clipped
    np.testing.assert_array_equal(out[14:46, 24:56], 1)
    assert 0 < out[10, 40, 0] < out[12, 40, 0] < 1
    out[10:50, 20:60] = 0
    assert not out.any()


def test_an_edge_on_the_edge_of_the_photo_is_sharp():
    photo = np.zeros((40, 60, 3), np.float32)
    out = photos.paste_back(photo, np.ones((8, 8, 3)), photos.Framing(0, 0, 40), 0.1)
    np.testing.assert_array_equal(out[:, :36], 1)
    assert out[20, 39, 0] < 0.2


def test_where_says_which_pixels_are_taken():
    photo, hole = np.zeros((20, 20, 3), np.float32), np.zeros((20, 20, 1))
    hole[8:12, 8:12] = 1
    out = photos.paste_back(photo, np.ones((8, 8, 3)), photos.Framing(0, 0, 20), where=hole)
    np.testing.assert_array_equal(out, np.broadcast_to(hole, out.shape))


def test_the_preview_shows_the_frame_as_it_is_and_dims_the_rest():
    photo, frame = noise(60, 80), photos.Framing(10, 20, 30)
    shown = photos.preview(photo, frame)
    np.testing.assert_array_equal(shown[10:40, 20:50], photo[10:40, 20:50])
    np.testing.assert_array_equal(shown[9, 20:50], 1)
    assert shown[0].max() <= 0


@pytest.mark.parametrize("frame", [(0, 0, 21), (-1, 0, 10), (15, 0, 10), (0, 25, 10), (0, 0, 0)])
def test_a_frame_must_be_within_the_photo(frame):
    with pytest.raises(ValueError, match="not within the photo, which is 30×20"):
        photos.crop(noise(20, 30), photos.Framing(*frame), 8)


def test_a_feather_is_a_fraction():
    with pytest.raises(ValueError, match="feather"):
        photos.paste_back(noise(20, 30), noise(8, 8), photos.Framing(0, 0, 20), 0.6)
