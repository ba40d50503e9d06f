"""Priors are written whole or not at all, and nothing else is overwritten."""

import pathlib

import pytest

from jaxdiff.checkpoints import load_checkpoint, save_checkpoint
from tests.support.priors import CONDITIONAL, CONFIG


def test_saving_is_whole_or_nothing(tmp_path, params, monkeypatch):
    path = tmp_path / "prior"
    save_checkpoint(path, params, CONFIG)
    with pytest.raises(ValueError, match="exists already"):
        save_checkpoint(path, params, CONFIG)
    with pytest.raises(ValueError, match="does not fit"):
        save_checkpoint(tmp_path / "other", params, CONDITIONAL)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "below", params, CONFIG)

    def fails(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", fails)
    for name in ("prior", "full.safetensors"):
        with pytest.raises(ValueError, match="No space left"):
            save_checkpoint(tmp_path / name, params, CONFIG, overwrite=True)
    monkeypatch.undo()
    assert load_checkpoint(path).config == CONFIG
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "prior"]


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("prior", "prior/thesis.txt"),
        ("prior", "prior/params/thesis.txt"),
        ("prior/prior.safetensors", "prior/note.txt"),
        ("full", "full/prior.json"),
        ("plain", "plain"),
        ("alone.safetensors", "alone.safetensors"),
        ("other.safetensors", "other.json"),
        ("prior.safetensors", "prior.json"),
        ("folder.safetensors", "folder.safetensors/thesis.txt"),
    ],
)
def test_only_a_prior_is_overwritten(tmp_path, params, place, file):
    if place.split("/")[0] == "prior":
        save_checkpoint(tmp_path / "prior", params, CONFIG)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="exists already"):
        save_checkpoint(tmp_path / place, params, CONFIG)
    with pytest.raises(ValueError, match=r"is no part of a prior .* choose another place"):
        save_checkpoint(tmp_path / place, params, CONFIG, overwrite=True)
    assert contents(tmp_path) == before


def test_a_prior_or_an_empty_folder_is_overwritten(saved, params, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (saved, tmp_path / "empty"):
        save_checkpoint(path, params, CONFIG, metadata={"note": "new"}, overwrite=True)
        assert load_checkpoint(path).metadata == {"note": "new"}
