"""``jaxdiff fid`` on real files, with weights that are drawn from a seed."""

import csv

import numpy as np
import pytest
import safetensors.numpy

from jaxdiff.evaluation import sets
from jaxdiff.files import save_image
from jaxdiff.metrics.inception import FILE
from tests.support.networks import random_inception
from weights_convert import inception as convert


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    safetensors.numpy.save_file(convert.from_torch(random_inception()), folder / FILE)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three sets: real ones at twice the size, noisy ones near them, and others far from them."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    for name in ("real", "near", "far"):
        (folder / name).mkdir()
    for i in range(5):
        real = np.clip(rng.normal(0.4, 0.2) + 0.1 * rng.standard_normal((1, 1, 3)) + np.zeros((16, 16, 3)), -1, 1)
        save_image(folder / "real" / f"{i}.png", real.repeat(2, 0).repeat(2, 1))
        save_image(folder / "near" / f"{i}.png", np.clip(real + 0.02 * rng.standard_normal(real.shape), -1, 1))
        save_image(folder / "far" / f"{i}.png", np.clip(0.5 * rng.standard_normal(real.shape) - 0.6, -1, 1))
    return folder


def test_a_table_of_sets_beside_real_pictures(jaxdiff, pictures, weights, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXDIFF_CACHE", str(weights))
    near, far, out = pictures / "near", pictures / "far", tmp_path / "new" / "fid.csv"
    words = ["fid", near, far, near, "--reference", pictures / "real", "--batch-size", 3, "--out", out]
    code, told, err = jaxdiff(*words)
    assert code == 0, err
    assert "5 of 5 pictures cropped and resized to 16×16" in err
    assert "FID of 5 pictures is too high" in err
    with out.open() as file:
        first, second = csv.DictReader(file)
    assert first["folder"] == str(near)
    assert (first["pictures"], second["pictures"]) == ("5", "5")
    assert 0 <= float(first["fid"]) < 0.1 * float(second["fid"])
    assert float(first["kid"]) < 0.1 * float(second["kid"])
    assert f"{float(second['fid']):.2f}" in told
    assert jaxdiff(*words)[0] == 2  # the table exists


def test_beside_published_statistics(jaxdiff, pictures, weights, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXDIFF_CACHE", str(weights))
    vectors = np.random.default_rng(1).standard_normal((60, 2048)).astype(np.float32)
    np.savez(tmp_path / "real.npz", mu=vectors.mean(0), sigma=np.cov(vectors, rowvar=False))
    known, itself = sets.published_moments(tmp_path / "real.npz"), sets.distances(vectors, vectors)
    np.testing.assert_allclose(sets.distances(vectors, known).fid, itself.fid, atol=1e-2)
    code, told, err = jaxdiff("fid", pictures / "near", "--reference", tmp_path / "real.npz")
    assert code == 0, err
    assert "–" in told  # no KID without the reference's vectors


def test_what_is_missing_is_named(jaxdiff, pictures, weights, monkeypatch, tmp_path):
    near, real = pictures / "near", pictures / "real"
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path / "none"))
    assert "jaxdiff convert inception" in jaxdiff("fid", near, "--reference", real)[2]
    monkeypatch.setenv("JAXDIFF_CACHE", str(weights))
    (tmp_path / "one").mkdir()
    save_image(tmp_path / "one" / "0.png", np.zeros((8, 8, 3)))
    assert "1 picture; a set needs at least 3" in jaxdiff("fid", tmp_path / "one", "--reference", real)[2]
    np.savez(tmp_path / "other.npz", mu=np.zeros(3), sigma=np.eye(3))
    np.savez(tmp_path / "empty.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    for name, told in {
        "other": "2048 numbers",
        "empty": "mu and sigma",
        "text": "mu and sigma",
        "absent": "mu and",
    }.items():
        code, _, err = jaxdiff("fid", near, "--reference", tmp_path / f"{name}.npz")
        assert (code, told in err) == (2, True), err
