"""``jaxdiff restore`` on photos larger than the prior, and on several pictures at once."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image as PILImage
from skimage import data

from jaxdiff.cli import pictures, restore
from jaxdiff.denoisers import Denoiser
from jaxdiff.engine import Outcome
from jaxdiff.engine.bookmark import Bookmark
from tests.support.networks import tiny_denoiser

FAST = ("--method", "ddnm", "--steps", 2)
INDEX = {"report.html", ".jaxdiff.json"}


def pixels(path):
    with PILImage.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def grey(monkeypatch):
    """Every restoration is grey 0, without a network: the list of runs that were asked for."""
    asked = []

    def run(keys, denoiser, problems, sampler, **more):
        asked.append((jax.random.key_data(keys), jax.tree.map(np.asarray, problems)))
        return Outcome(np.zeros((len(keys), 64, 64, 3), np.float32), np.zeros(len(keys)), 0.0)

    monkeypatch.setattr(restore, "restore_many", run)
    return asked


@pytest.fixture
def photo(tmp_path):
    """A photo of 90×120 whose left half is dark and whose right half is bright."""
    values = np.full((90, 120, 3), 60, np.uint8)
    values[:, 60:] = 200
    PILImage.fromarray(values).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_restored_square_is_put_back_into_the_photo(jaxdiff, photo, grey, tmp_path):
    out = tmp_path / "out"
    command = ("restore", photo, "--task", "super_resolution", "--frame", "10,20,70", *FAST, "--out", out)
    code, _, err = jaxdiff(*command)
    assert code == 0, err
    before, after, seen = pixels(photo), pixels(out / "photo_restored.png"), pixels(out / "photo_measured.png")
    assert after.shape == seen.shape == pixels(out / "framing.png").shape == before.shape
    changed = (after != before).any(-1)
    assert np.flatnonzero(changed.any(1))[[0, -1]].tolist() == [10, 79]
    assert np.flatnonzero(changed.any(0))[[0, -1]].tolist() == [20, 89]
    assert (after[20:70, 30:80] == 128).all()
    assert len(np.unique(seen[45, 30:80], axis=0)) < 20, "the measured pixels are shown as squares"
    assert f"open {out / 'report.html'}" in err
    report = (out / "report.html").read_text("utf-8")
    assert report.index("The whole photo") < report.index("Measured and restored")
    assert jaxdiff(*command)[0] == 2, "its files are ours"
    assert jaxdiff(*command, "--overwrite")[0] == 0


@pytest.mark.slow
def test_the_known_pixels_of_a_scratched_photo_stay_in_full_size(jaxdiff, photo, grey, tmp_path):
    mask = np.full((90, 120), 255, np.uint8)
    mask[30:60, 5:100] = 0
    PILImage.fromarray(mask).save(tmp_path / "mask.png")
    flags = ("--measured", "--task", "inpaint_mask", "--mask", tmp_path / "mask.png", "--align", "centre")
    code, _, err = jaxdiff("restore", photo, *flags, *FAST, "--out", tmp_path / "out")
    assert code == 0, err
    before, after = pixels(photo), pixels(tmp_path / "out" / "photo_restored.png")
    hole = mask == 0
    hole[:, :15] = hole[:, 105:] = False
    np.testing.assert_array_equal(after[~hole], before[~hole])
    assert (after[40:50, 15:90] == 128).all(), "with no soft edge where the frame ends"
    assert (after[hole] != before[hole]).any(-1).all()
    assert "11% of the missing pixels are outside the frame" in err
    ((_, problem),) = grey
    unseen = problem.operator.mask[0, ..., 0] == 0  # a pixel that touches the scratch is not known
    assert np.flatnonzero(unseen.any(1)).tolist() == [*range(21, 43)]
    assert not (tmp_path / "out" / "photo_measured.png").exists()


def test_align_finds_the_face(jaxdiff, grey, tmp_path):
    PILImage.fromarray(data.astronaut()).save(tmp_path / "a.png")
    command = ("restore", "--align", tmp_path / "a.png", "--task", "denoise", *FAST, "--out", tmp_path / "out")
    code, _, err = jaxdiff(*command)
    assert code == 0, err
    assert "the frame is the face, --frame 3" in err


@pytest.mark.slow
def test_pictures_are_restored_as_they_would_be_alone(jaxdiff, photo, face, grey, tmp_path):
    flags = ("--task", "inpaint_random", "--align", "centre", *FAST, "--count", 2)
    code, printed, err = jaxdiff("restore", photo, face, *flags, "--out", tmp_path / "both")
    assert code == 0, err
    made = {"photo-inpaint_random-ddnm", "face-inpaint_random-ddnm"}
    assert {path.name for path in (tmp_path / "both").iterdir()} == made | INDEX
    assert "mean of 2 pictures" in printed
    index = (tmp_path / "both" / "report.html").read_text("utf-8")
    assert set(re.findall(r'href="([^"]*/report.html)"', index)) == {f"{name}/report.html" for name in made}
    assert jaxdiff("restore", face, *flags, "--out", tmp_path / "alone")[0] == 0
    (keys, problems), (own_keys, own) = grey
    np.testing.assert_array_equal(keys[2:], own_keys)
    for several, single in zip(jax.tree.leaves(problems), jax.tree.leaves(own), strict=True):
        np.testing.assert_array_equal(several[2:], single)
    for name in ("report.html", ".jaxdiff.json"):  # they tell the command line, and the report's checksum
        (tmp_path / "alone" / name).unlink()
    for path in (tmp_path / "alone").iterdir():
        assert path.read_bytes() == (tmp_path / "both" / "face-inpaint_random-ddnm" / path.name).read_bytes(), path


def test_a_folder_is_all_its_pictures_each_once(jaxdiff, face, photo, grey, tmp_path):
    code, _, err = jaxdiff("restore", tmp_path, face, "--resize", "--task", "denoise", *FAST, "--out", tmp_path / "o")
    assert code == 0, err
    assert len(grey[0][0]) == 2
    assert (tmp_path / "o" / "face-denoise-ddnm" / "metrics.csv").exists()


def test_what_diverged_is_named_and_the_others_are_written(jaxdiff, face, photo, grey, tmp_path, monkeypatch):
    whole = restore.restore_many

    def run(keys, *rest, **more):
        outcome = whole(keys, *rest, **more)
        outcome.x[1] = np.nan
        return outcome

    monkeypatch.setattr(restore, "restore_many", run)
    code, _, err = jaxdiff("restore", face, photo, "--resize", "--task", "denoise", *FAST, "--out", tmp_path / "o")
    assert code == 2
    assert f"ddnm diverged on {photo}" in err
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"face-denoise-ddnm"} | INDEX
    assert f"These diverged and have no results: {photo}" in (tmp_path / "o" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_the_page_over_all_is_of_the_last_command_and_replaces_no_other_file(jaxdiff, face, photo, grey, tmp_path):
    command = ("restore", face, photo, "--resize", *FAST, "--out", tmp_path / "o", "--task")
    assert jaxdiff(*command, "denoise")[0] == 0
    code, _, err = jaxdiff(*command, "inpaint_random")
    assert code == 0, err
    page = tmp_path / "o" / "report.html"
    assert "face-inpaint_random-ddnm" in page.read_text("utf-8")
    page.write_text("mine")
    code, _, err = jaxdiff(*command, "inpaint_box")
    assert code == 2
    assert "report.html is not ours" in err
    assert page.read_text() == "mine"
    assert not (tmp_path / "o" / "face-inpaint_box-ddnm").exists()


def bad(tmp_path, face, photo):
    """Arguments → words of the sentence."""
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:150])
    (tmp_path / "empty").mkdir()
    PILImage.new("L", (50, 40), 255).save(tmp_path / "mask.png")
    text, cut, none = tmp_path / "text.png", tmp_path / "cut.png", tmp_path / "none.png"
    mask = ("--measured", "--task", "inpaint_mask", "--mask", tmp_path / "mask.png")
    return {
        (face, text, photo, cut, none, "--resize"): ["text.png", "cut.png", "none.png", "there is no file"],
        (photo, photo.with_name("text.png"), "--align"): ["text.png"],
        (face, tmp_path / "empty"): ["there is no picture in", "empty"],
        (face, photo): ["photo.png is 120×90", "--resize"],
        (photo, "--frame", "1,2"): ["--frame 1,2", "TOP,LEFT,SIDE"],
        (photo, "--frame", "a,b,c"): ["--frame a,b,c", "TOP,LEFT,SIDE"],
        (photo, "--frame", "40,0,60"): ["photo.png", "40,0,60 is not within the photo", "120×90"],
        (photo, "--frame", "0,0,0"): ["0,0,0 is not within"],
        (photo, "--align", "--frame", "0,0,9"): ["not allowed with"],
        (photo, "--align", "--resize"): ["not allowed with"],
        (photo, "--align=nose"): ["nose", "face"],
        (photo, "--align", "centre", *mask): ["mask.png is 50×40", "120×90"],
        (photo, "--align", "centre", "--measured", "--task", "phase_retrieval"): ["does not measure"],
    }


def test_bad_input_is_one_sentence_and_leaves_nothing(jaxdiff, face, photo, grey, tmp_path):
    out = tmp_path / "out"
    for words, wanted in bad(tmp_path, face, photo).items():
        task = () if "--task" in words else ("--task", "denoise")
        code, _, err = jaxdiff("restore", *words, *task, *FAST, "--out", out)
        last = err.strip().splitlines()[-1]
        assert code == 2, words
        assert all(word in last for word in wanted), (words, last)
        assert "Traceback" not in err
        assert not out.exists(), words
    assert not grey


@pytest.mark.slow
def test_several_pictures_are_one_program_and_the_numbers_of_each(jaxdiff, face, photo, tmp_path, monkeypatch):
    prior = tiny_denoiser((64, 64, 3), clip=True)
    monkeypatch.setattr(restore, "load_prior", lambda args: prior)
    flags = ("--task", "gaussian_blur", "--align", "centre", "--method", "dps", "--steps", 4)
    assert jaxdiff("restore", photo, face, *flags, "--out", tmp_path / "both")[0] == 0
    assert jaxdiff("restore", photo, *flags, "--out", tmp_path / "alone")[0] == 0
    both, alone = tmp_path / "both" / "photo-gaussian_blur-dps", tmp_path / "alone"
    a, b = (pixels(folder / "restored_1.png").astype(int) for folder in (both, alone))
    assert np.abs(a - b).max() <= 1  # rounding differs with the batch


def test_the_check_of_a_run_and_the_run_trace_the_network_once(jaxdiff, face, tmp_path, monkeypatch):
    traced, call = [], Denoiser.__call__
    monkeypatch.setattr(Denoiser, "__call__", lambda *a, **more: traced.append(1) or call(*a, **more))
    monkeypatch.setattr(restore, "load_prior", lambda args: tiny_denoiser((64, 64, 3), clip=True))
    flags = ("--task", "denoise", "--method", "dps", "--steps", 20)  # in two parts
    assert jaxdiff("restore", face, *flags, "--out", tmp_path / "o")[0] == 0
    assert len(traced) == 1


@pytest.mark.slow
def test_a_killed_run_of_several_goes_on(jaxdiff, face, photo, tmp_path, monkeypatch):
    prior = tiny_denoiser((64, 64, 3), clip=True)
    monkeypatch.setattr(restore, "load_prior", lambda args: prior)
    monkeypatch.setattr(Bookmark, "every", 0.0)
    whole, write, chunks = restore.restore_many, Bookmark.write, []
    monkeypatch.setattr(Bookmark, "write", lambda *a, **more: chunks.append(1) or write(*a, **more))

    def killed(*arguments, report, **more):
        def stop(count):
            if count:
                raise KeyboardInterrupt

        return whole(*arguments, report=stop, **more)

    command = ("restore", face, photo, "--resize", "--task", "denoise", "--method", "dps", "--steps", 20)
    command += ("--out", tmp_path / "o")
    with monkeypatch.context() as patch:
        patch.setattr(restore, "restore_many", killed)
        assert jaxdiff(*command)[0] == 130
    assert [path.suffix for path in (tmp_path / "o").iterdir()] == [".npz"], "the state, and no folder yet"
    assert jaxdiff(*command)[0] == 0
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"face-denoise-dps", "photo-denoise-dps"} | INDEX
    assert len(chunks) == 2, "the first half of the steps is not repeated"


def test_pictures_are_found_once_in_the_order_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pictures.find(["b.png", "a.png", "./b.png"]) == [Path("b.png"), Path("a.png")]


def test_names_tell_pictures_apart():
    assert pictures.names_of([Path("a.png"), Path("a.jpg")]) == ["a.png", "a.jpg"]
    assert len(set(pictures.names_of([Path("x/y/a.png"), Path("z/y/a.png")]))) == 2
