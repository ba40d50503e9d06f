"""Pictures to batches: what is read, skipped and refused; order, weights, shares of hosts, and taking up again."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxdiff.training.config import DataConfig, Source
from jaxdiff.training.data import open_images, prepare, stream


def _take(data, count, size=4, batch_size=4, **options):
    batches = stream(data, size, batch_size, seed=options.pop("seed", 0), **options)
    return [next(batches) for _ in range(count)]


def _flat(folder, values, size=4):
    """Pictures of one grey value each, so that a picture is known by its value."""
    folder.mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(folder / f"{value:03d}.png")
    return str(folder)


def _values(batches):
    return np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])


def test_every_picture_once_an_epoch_in_another_order_each(tmp_path):
    data = prepare(DataConfig((Source(_flat(tmp_path / "a", range(16))),), holdout=0), 4)
    values = _values(_take(data, 8)).reshape(2, 16)
    assert sorted(values[0]) == sorted(values[1]) == list(range(16))
    assert list(values[0]) != list(values[1])
    assert list(values[0]) != sorted(values[0])
    again, other = _values(_take(data, 8)), _values(_take(data, 8, seed=1))
    assert (again == values.ravel()).all()
    assert (other != values.ravel()).any()


def test_weights_count_pictures(tmp_path):
    sources = (Source(_flat(tmp_path / "a", range(30))), Source(_flat(tmp_path / "b", range(100, 110)), 6.0))
    data = prepare(DataConfig(sources, holdout=0), 4)
    values = _values(_take(data, 90))
    assert abs(np.mean(values >= 100) - 60 / 90) < 0.02
    counts = [np.sum(values == v) for v in range(100, 110)]
    assert max(counts) - min(counts) <= 1


def test_a_place_in_the_stream_is_taken_up_mid_epoch(tmp_path):
    sources = (Source(_flat(tmp_path / "a", range(10))), Source(_flat(tmp_path / "b", range(100, 107)), 2.0))
    data = prepare(DataConfig(sources, holdout=0), 4)
    batches = stream(data, 4, 4, seed=3)
    for _ in range(5):
        next(batches)
    place = batches.get_state()
    expected = [next(batches) for _ in range(6)]
    other = stream(data, 4, 4, seed=3)
    other.set_state(place)
    for a, b in zip(expected, (next(other) for _ in range(6)), strict=True):
        assert all((a[k] == b[k]).all() for k in a)


def test_hosts_share_each_batch(tmp_path):
    data = prepare(DataConfig((Source(_flat(tmp_path / "a", range(20))),), holdout=0), 4)
    whole = _take(data, 3, batch_size=8)
    parts = [_take(data, 3, batch_size=8, shard=(host, 2)) for host in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert len(first["index"]) == len(second["index"]) == 4
        together = dict(
            zip(np.r_[first["index"], second["index"]], np.r_[first["image"], second["image"]], strict=True)
        )
        assert sorted(together) == sorted(batch["index"])
        assert all((together[i] == image).all() for i, image in zip(batch["index"], batch["image"], strict=True))


def test_flips_half_of_them_and_none_when_off(tmp_path):
    ramp = np.repeat(np.arange(4, dtype=np.uint8)[None, :, None] * 10, 4, 0).repeat(3, -1)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    data = prepare(DataConfig((Source(str(tmp_path)),), holdout=0), 4)
    mirrored = [image[0, 0, 0] == 30 for batch in _take(data, 50) for image in batch["image"]]
    assert 60 < sum(mirrored) < 140
    for batch in _take(data, 3, flip=False):
        assert (batch["image"] == ramp).all()


def test_sizes_and_modes_are_brought_to_one(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (9, 16), np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 255, (16, 9, 4), np.uint8)).save(tmp_path / "rgba.png")
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).convert("P").save(tmp_path / "palette.gif")
    Image.fromarray(rng.integers(0, 255, (2, 3, 3), np.uint8)).save(tmp_path / "small.jpg")
    data = prepare(DataConfig((Source(str(tmp_path)),), holdout=0), 4)
    assert data.skipped == 0
    assert {images[i].shape for images, chosen in data.train for i in chosen} == {(4, 4, 3)}
    wide = open_images(tmp_path, 4, random_crop=True)
    assert {wide[i].shape for i in range(4)} == {(4, 7, 3), (7, 4, 3), (4, 4, 3), (4, 6, 3)}


def test_grey_of_16_bits_keeps_its_shades(tmp_path):
    ramp = np.linspace(0, 65535, 16).reshape(4, 4)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "ramp.png")
    found = open_images(tmp_path, 4)[0]
    np.testing.assert_array_equal(found, np.repeat(np.round(ramp / 257)[..., None], 3, -1))


def test_shrinking_is_antialiased(tmp_path):
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(np.stack([checks] * 3, -1)).save(tmp_path / "checks.png")
    assert np.abs(open_images(tmp_path, 8)[0].astype(int) - 127).max() <= 3


def test_random_crops_move_along_the_longer_side(tmp_path):
    ramp = np.repeat(np.arange(12, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, -1)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    data = prepare(DataConfig((Source(str(tmp_path)),), holdout=0, random_crop=True), 4)
    left = {int(image[0, 0, 0]) for batch in _take(data, 30, flip=False) for image in batch["image"]}
    assert left == set(range(9))


def test_zip_and_folder_give_the_same(tmp_path):
    folder = tmp_path / "a"
    _flat(folder, range(12))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for picture in sorted(folder.iterdir()):
            file.write(picture, picture.name)
        file.writestr("__MACOSX/._000.png", b"junk")
        file.writestr("README.txt", "no picture")
    a, b = (prepare(DataConfig((Source(str(p)),), holdout=1), 4) for p in (folder, tmp_path / "a.zip"))
    assert (a.holdout == b.holdout).all()
    assert (_values(_take(a, 4)) == _values(_take(b, 4))).all()


@pytest.mark.parametrize("cache_gib", [0.0, 4.0])
def test_damaged_pictures_are_skipped_and_counted(tmp_path, cache_gib):
    _flat(tmp_path, range(10))
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "png")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:-2000])
    (tmp_path / "text.jpg").write_text("no picture")
    seen = []
    config = DataConfig((Source(str(tmp_path)),), holdout=0, cache_gib=cache_gib)
    data = prepare(config, 4, report=lambda *counts: seen.append(counts))
    assert data.skipped == 2
    assert sorted(data.train[0][0].skipped) == ["cut.png", "text.jpg"]
    assert len(data) == 10
    assert seen[-1] == (12, 12)
    assert set(_values(_take(data, 5))) == set(range(10))


def test_held_out_pictures_are_not_trained_on(tmp_path):
    sources = (Source(_flat(tmp_path / "a", range(60))), Source(_flat(tmp_path / "b", range(100, 130))))
    data = prepare(DataConfig(sources, holdout=6), 4)
    held = set(data.holdout[:, 0, 0, 0].tolist())
    assert len(held) == 6
    assert len(data) == 84
    assert held.isdisjoint(_values(_take(data, 60)).tolist())
    assert any(v < 100 for v in held)
    assert any(v >= 100 for v in held)
    apart = prepare(DataConfig(sources[:1], holdout=6, holdout_path=sources[1].path), 4)
    assert len(apart) == 60
    assert set(apart.holdout[:, 0, 0, 0].tolist()) == {100, 106, 112, 117, 123, 129}, "evenly spaced over the folder"


def test_classes_are_sub_folders(tmp_path):
    _flat(tmp_path / "all" / "cat", range(5))
    _flat(tmp_path / "all" / "dog", range(100, 105))
    config = DataConfig((Source(str(tmp_path / "all")),), holdout=0)
    data = prepare(config, 4, num_classes=3)
    assert data.classes == ["cat", "dog"]
    for batch in _take(data, 5):
        assert (batch["label"] == (batch["image"][:, 0, 0, 0] >= 100)).all()
    with pytest.raises(ValueError, match="at most 1 sub-folders"):
        prepare(config, 4, num_classes=1)
    _flat(tmp_path / "all", [7])
    with pytest.raises(ValueError, match="images outside any"):
        prepare(config, 4, num_classes=3)


def test_held_out_pictures_of_another_folder_have_their_classes(tmp_path):
    for part in ("all", "apart"):
        _flat(tmp_path / part / "cat", range(5))
        _flat(tmp_path / part / "dog", range(100, 105))
    config = DataConfig((Source(str(tmp_path / "all")),), holdout=7, holdout_path=str(tmp_path / "apart"))
    data = prepare(config, 4, num_classes=2)
    assert data.holdout_labels.tolist() == [0] * 4 + [1] * 3, "evenly spaced: not of the first class alone"
    assert prepare(config, 4).holdout_labels is None
    _flat(tmp_path / "apart" / "cow", [50])
    with pytest.raises(ValueError, match="sub-folder 'cow', which is no class"):
        prepare(config, 4, num_classes=2)
    _flat(tmp_path / "apart", [50])
    with pytest.raises(ValueError, match="outside any sub-folder, which is no class"):
        prepare(config, 4, num_classes=2)


def test_what_is_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no")
    for path, sentence in [
        (empty, "no image in"),
        (tmp_path / "nowhere", "no folder or zip"),
        (tmp_path / "bad.zip", "cannot be read as a zip"),
        (broken, "none of the 1 images"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            prepare(DataConfig((Source(str(path)),)), 4)
    with pytest.raises(ValueError, match="--data"):
        prepare(DataConfig(()), 4)
    good = (Source(_flat(tmp_path / "good", range(3))),)
    for path, sentence in [
        (tmp_path / "nowhere", "no folder or zip .* check data.holdout_path"),
        (broken, "none of the 1 images .* check data.holdout_path"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            prepare(DataConfig(good, holdout_path=str(path)), 4)


@pytest.mark.slow
def test_what_would_fill_memory_is_skipped(tmp_path, monkeypatch):
    folder = _flat(tmp_path / "a", range(3))
    Image.new("1", (8192, 8200)).save(tmp_path / "a" / "bomb.png")
    (tmp_path / "a" / "page.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"
    )
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: Image.new("RGB", (8, 8)))
    data = prepare(DataConfig((Source(folder),), holdout=0), 4)
    assert sorted(data.train[0][0].skipped) == ["bomb.png", "page.jpg"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(tmp_path / "a" / "001.png", "001.png")
        with file.open("huge.png", "w", force_zip64=True) as entry:
            for _ in range(2**9 + 1):
                entry.write(bytes(2**20))
    data = prepare(DataConfig((Source(str(tmp_path / "a.zip")),), holdout=0), 4)
    assert data.train[0][0].skipped == ["huge.png"]
