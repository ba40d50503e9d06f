"""Priors side by side: the gain of one on another is judged image by image."""

import argparse

import numpy as np
import pytest
from PIL import Image

from benchmarks import prior_quality
from benchmarks.prior_quality import paired
from jaxdiff.files import save_image
from jaxdiff.pages import write_page
from tests.support.networks import tiny_denoiser


def test_gain_is_paired():
    first = {"PSNR [dB]": np.array([10.0, 20.0, 30.0, 40.0]), "LPIPS": np.array([0.1, 0.2, 0.3, 0.4])}
    other = {"PSNR [dB]": first["PSNR [dB]"] + np.array([1.0, 2.0, 1.0, 2.0]), "LPIPS": first["LPIPS"]}
    assert dict(paired(first, first, 1)) == {"PSNR [dB]": 25.0, "LPIPS": pytest.approx(0.25)}
    found = dict(paired(other, first, 1))
    assert found["PSNR [dB]: difference"] == 1.5
    # Differences of ±0.5 about their mean: s² = 4 · 0.25 / 3, of four.
    assert found["PSNR [dB]: standard error"] == pytest.approx((1 / 3) ** 0.5 / 2)
    assert (found["LPIPS: difference"], found["LPIPS: standard error"]) == (0, 0)


def test_denoising_is_scored_draw_by_draw(monkeypatch):
    def scores(denoiser, images, times, *, seed):
        return np.stack([np.add.outer(100.0 * np.asarray(times), 10 * seed + np.arange(len(images)))] * 2)

    monkeypatch.setattr(prior_quality, "denoising_scores_each", scores)
    found = dict(prior_quality.denoising(None, np.zeros((3, 8, 8, 3)), 2))
    np.testing.assert_array_equal(found["denoising PSNR, t = 50 [dB]"], 5000 + np.array([0, 1, 2, 10, 11, 12]))


def test_kid_is_nearly_zero_between_halves_of_one_set_and_not_between_others():
    rng = np.random.default_rng(0)
    faces, others = np.abs(rng.standard_normal((60, 32))), np.abs(rng.standard_normal((30, 32))) + np.arange(32) / 8
    same, other = (dict(prior_quality.kid(set_, faces[30:])) for set_ in (faces[:30], others))
    error = f"{prior_quality.KID}: standard error"
    assert abs(same[prior_quality.KID]) < 4 * same[error]
    assert other[prior_quality.KID] > 10 * other[error]
    # Only the direction of an embedding counts.
    assert dict(prior_quality.kid(3 * others, faces[30:])) == pytest.approx(other, rel=1e-4)


def test_draws_of_one_picture_are_not_independent():
    gains = np.array([1.0, 2.0, 1.0, 2.0])
    once = dict(paired({"PSNR": gains}, {"PSNR": np.zeros(4)}, 1))
    # Draw by draw: three draws of four pictures, whose gains are alike but for what cancels over the draws.
    noise = np.repeat([[0.3], [-0.1], [-0.2]], 4, 1)
    thrice = dict(paired({"PSNR": (gains + noise).ravel()}, {"PSNR": np.zeros(12)}, 3))
    assert thrice == {name: pytest.approx(value) for name, value in once.items()}


def test_nearest_training_image_may_be_a_mirror_image_and_damaged_files_are_skipped(tmp_path, monkeypatch, capsys):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    monkeypatch.setattr(prior_quality, "embedder", lambda: lambda x: x.reshape(len(x), -1).astype(np.float64))
    wanted = np.stack([images[1], images[2][:, ::-1]]).astype(np.float32) / 127.5 - 1
    distance, closest = prior_quality.nearest_training(wanted.reshape(2, -1), [str(tmp_path)], 8)
    np.testing.assert_allclose(distance, 0, atol=1e-3)
    np.testing.assert_allclose(closest, wanted, atol=1e-6)
    assert "skipped 1 that cannot be read" in capsys.readouterr().err
    for file in tmp_path.glob("[0-9].png"):
        file.unlink()
    with pytest.raises(ValueError, match=r"none of the images .* check --train"):
        prior_quality.nearest_training(wanted.reshape(2, -1), [str(tmp_path)], 8)


def test_priors_guided_by_a_weaker_one_stand_beside_the_others(monkeypatch):
    given = {name: tiny_denoiser((8, 8, 3)) for name in ("a", "b", "weak")}
    monkeypatch.setattr(prior_quality.jd, "load_denoiser", given.__getitem__)
    args = argparse.Namespace(priors=["a", "b"], weak="weak", weights=[0.5, 1.0], sigma_range=[0.2, 5.0])
    found = prior_quality.denoisers_of(args)
    assert list(found) == ["a", "b", "a guided 0.5", "a guided 1"]
    assert float(found["a guided 0.5"].weight) == 0.5
    slugs = {prior_quality._slug(name) for name in [*found, "runs/a/prior.safetensors", "runs/b/prior.safetensors"]}
    assert len(slugs) == 6


def test_the_report_holds_every_measure_and_the_sheets_of_this_run(tmp_path):
    names = [name.format(t) for name in prior_quality.DENOISING for t in prior_quality.TIMES]
    table = {"a": dict.fromkeys(names, 1.25), "runs/<b>": dict.fromkeys(names, 2.5), "real": {"diversity": 0.125}}
    for prior in ("a", "runs_<b>"):
        save_image(tmp_path / f"samples_{prior}.png", np.zeros((8, 8, 3), np.float32))
        save_image(tmp_path / f"nearest_{prior}.png", np.zeros((8, 8, 3), np.float32))
    args = argparse.Namespace(measure=prior_quality.MEASURES, train=[])
    page = prior_quality.page_of(table, ["a", "runs/<b>"], 3, args, tmp_path)
    text = write_page(tmp_path / "report.html", page).read_text("utf-8")
    assert all(name in text for name in [*names, "diversity", "runs/&lt;b&gt;"])
    assert text.count("<img id=") == 2, "no sheet of nearest images, which an earlier run wrote"
