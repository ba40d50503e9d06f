"""No file of the user is lost, a command that was stopped while it wrote goes on, and odd input is refused in a sentence."""

import argparse
import errno
import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import schedules
from jaxdiff.cli import pictures, restore, sample
from jaxdiff.cli.options import at_least_one, check_steps
from jaxdiff.evaluation import restored
from jaxdiff.evaluation.folder import MANIFEST, ResultsFolder
from tests.support.networks import tiny_denoiser


@pytest.fixture
def prior(monkeypatch):
    found = tiny_denoiser((64, 64, 3), clip=True)
    for room in (restore, sample):
        monkeypatch.setattr(room, "load_prior", lambda args: found)
    return found


def test_a_sheet_of_samples_replaces_no_picture_of_the_user(jaxdiff, face, prior, tmp_path):
    before = face.read_bytes()
    words = ("sample", "--count", 1, "--steps", 2, "--out")
    for more in ((), ("--overwrite",)):
        code, _, err = jaxdiff(*words, face, *more)
        assert code == 2
        assert "face.png is not ours" in err
    assert face.read_bytes() == before
    sheet = tmp_path / "sheet.png"
    assert jaxdiff(*words, sheet)[0] == 0
    assert "add --overwrite" in jaxdiff(*words, sheet)[2]
    assert jaxdiff(*words, sheet, "--overwrite")[0] == 0
    sheet.write_bytes(before)
    assert "sheet.png is not ours" in jaxdiff(*words, sheet, "--overwrite")[2]


def test_a_contact_sheet_replaces_nothing_unless_told_to(jaxdiff, face, tmp_path):
    assert "is read by this command" in jaxdiff("tasks", face, "--size", 32, "--out", face, "--overwrite")[2]
    (tmp_path / "mine.png").write_text("mine")
    assert "add --overwrite" in jaxdiff("tasks", face, "--size", 32, "--out", tmp_path / "mine.png")[2]
    assert (tmp_path / "mine.png").read_text() == "mine"


@pytest.mark.parametrize("stopped_at", ["restored_1.png", "report.html"])
def test_a_restoration_that_was_stopped_while_it_wrote_goes_on(jaxdiff, face, prior, tmp_path, monkeypatch, stopped_at):
    words = ("restore", face, "--task", "denoise", "--method", "ddnm", "--steps", 2, "--out", tmp_path / "o")
    with monkeypatch.context() as patch:
        for name in ("save_image", "write_page"):
            whole = getattr(restored, name)

            def stopping(path, *more, whole=whole, **options):
                whole(path, *more, **options)
                if path.name == stopped_at:
                    raise KeyboardInterrupt

            patch.setattr(restored, name, stopping)
        assert jaxdiff(*words)[0] == 130
    assert (tmp_path / "o" / stopped_at).exists()
    assert "add --overwrite" in jaxdiff(*words, "--seed", 1)[2], "another run is not the one that was stopped"
    assert jaxdiff(*words)[0] == 0
    assert (tmp_path / "o" / "report.html").exists()
    assert "add --overwrite" in jaxdiff(*words)[2], "a run that has ended does not go on"
    PILImage.new("RGB", (4, 4)).save(tmp_path / "o" / "restored_1.png")
    assert "restored_1.png is not ours" in jaxdiff(*words, "--overwrite")[2]


def test_results_below_a_folder_are_no_pictures_to_restore(jaxdiff, face, prior, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--method", "ddnm", "--steps", 2)
    assert jaxdiff("restore", ".", "--task", "denoise", *words)[0] == 0
    assert pictures.find(["."]) == [face.relative_to(tmp_path)]
    assert len(pictures.find(["out/face-denoise-ddnm"])) > 1, "unless their own folder is named"
    with pytest.raises(ValueError, match="are results of jaxdiff"):
        pictures.find(["out"])


def test_a_name_that_is_not_utf8_is_refused_at_once(jaxdiff, face, prior, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    os.rename(face, name)
    code, _, err = jaxdiff("restore", tmp_path, "--task", "denoise", "--out", tmp_path / "o")
    assert code == 2
    assert r"caf\xe9.png is not UTF-8" in err
    assert not (tmp_path / "o").exists()


def test_pictures_whose_paths_read_the_same_have_folders_of_their_own(tmp_path):
    paths = [tmp_path / "a-b" / "c" / "x.png", tmp_path / "a" / "b" / "c" / "x.png"]
    assert len(set(pictures.names_of(paths))) == 2


@pytest.mark.parametrize("words", [("info", "~nobody-of-this-name"), ("sample", "--prior", "~nobody-of-this-name/x")])
def test_a_tilde_of_no_user_is_a_file_that_is_not_there(jaxdiff, words):
    code, _, err = jaxdiff(*words)
    assert code == 2
    assert "~nobody-of-this-name" in err
    assert len(err.splitlines()) == 1


def test_a_prior_of_few_timesteps_has_shorter_runs_by_default():
    prior = tiny_denoiser((8, 8, 3), schedules.linear(50))
    assert check_steps(prior, None) == 50
    assert check_steps(prior, None, 20) == 20
    with pytest.raises(ValueError, match="--steps 51 is not possible with this prior"):
        check_steps(prior, 51)


def test_a_count_has_a_largest_value():
    with pytest.raises(ValueError, match="is not possible: it is at most 2147483647"):
        at_least_one(argparse.Namespace(count=10**400), "count")


def test_a_full_disk_is_told_with_what_to_do(jaxdiff, face, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("jaxdiff.cli.tasks.contact_sheet", full)
    code, _, err = jaxdiff("tasks", face, "--size", 32, "--out", tmp_path / "sheet.png")
    assert code == 2
    assert err.splitlines() == [
        "jaxdiff: a file cannot be written (No space left on device); free some space, or choose another --out."
    ]


def test_a_grey_prior_restores_the_grey_values_of_a_picture(jaxdiff, face, tmp_path, monkeypatch):
    grey = tiny_denoiser((64, 64, 1), clip=True)
    monkeypatch.setattr(restore, "load_prior", lambda args: grey)
    code, _, err = jaxdiff(
        "restore", face, "--task", "denoise", "--method", "ddnm", "--steps", 2, "--out", tmp_path / "o"
    )
    assert code == 0, err
    with PILImage.open(face) as picture, PILImage.open(tmp_path / "o" / "truth.png") as truth:
        assert truth.mode == "L"
        np.testing.assert_allclose(np.asarray(truth, float), np.asarray(picture, float).mean(-1), atol=0.51)


def test_a_manifest_without_a_run_is_known(tmp_path):
    (tmp_path / "a.png").write_text("ours")
    digest = hashlib.sha256(b"ours").hexdigest()
    (tmp_path / MANIFEST).write_text(json.dumps({"a.png": digest, "../b.png": digest, "c.png": digest}))
    assert ResultsFolder(tmp_path).ours() == {"a.png"}
    (tmp_path / MANIFEST).write_text(json.dumps({"a.png": digest, ".run": {"id": "", "names": ["../../b.png"]}}))
    assert ResultsFolder(tmp_path).ours() == set(), "a path that leads out is not ours"
