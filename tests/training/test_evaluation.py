"""Held-out images: their classes, their scores, and what a failed evaluation costs."""

import jax
import numpy as np
import pytest

from jaxdiff.training import denoising_scores, loop, train
from jaxdiff.training.report import Progress
from jaxdiff.training.state import init_state
from tests.support.networks import quick
from tests.support.runs import rows_of
from tests.support.tiers import fast_only


@pytest.mark.slow
@pytest.mark.parametrize("apart", fast_only([True], [False, True]))
def test_held_out_images_are_denoised_with_their_own_classes(
    tiny, pictures, tmp_path, monkeypatch, small_network, apart
):
    quick(monkeypatch, small_network)
    for i, file in enumerate(sorted(pictures.iterdir())):
        for place in ("all", "apart") if i in (8, 15) else ("all",):
            folder = tmp_path / place / ("cat" if i < 12 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).write_bytes(file.read_bytes())
    config = tiny(
        steps=4,
        prior__unet__num_classes=2,
        data__sources=[{"path": str(tmp_path / "all")}],
        data__holdout_path=str(tmp_path / "apart") if apart else None,
        report__eval_every=2,
    )
    result = train(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run" / "evaluation.csv")
    assert [int(row["step"]) for row in rows] == [2, 2, 4, 4]
    data = loop._read_data(config, Progress())
    denoiser = loop.denoiser_of(config, result.state.ema["ema0_9"])
    images = data.holdout.astype(np.float32) / 127.5 - 1
    expected = denoising_scores(denoiser, images, (10, 50), labels=np.array([0, 1]))
    np.testing.assert_allclose([float(row["psnr"]) for row in rows[2:]], expected.psnr, rtol=1e-5)


@pytest.mark.slow
def test_an_evaluation_that_fails_costs_no_updates(tiny, tmp_path, monkeypatch, small_network):
    quick(monkeypatch, small_network)

    def fail(*_, **__):
        raise ValueError("no memory for it")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "denoising_scores", fail)
        for reached in (3, 6):
            with pytest.raises(ValueError, match="no memory for it"):
                train(tiny(report__eval_every=3), tmp_path / "run")
            assert (tmp_path / "run" / "checkpoints" / str(reached)).is_dir()
    assert train(tiny(report__eval_every=3), tmp_path / "run").finished


@pytest.mark.slow
def test_scores_of_classes_are_those_of_each_image_with_its_own(tiny, monkeypatch, small_network):
    quick(monkeypatch, small_network)
    config = tiny(prior__unet__num_classes=2)
    denoiser = loop.denoiser_of(config, jax.tree.map(lambda p: p + 0.1, init_state(config).params))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)

    def scores(count, label):
        one_class = denoiser.replace(label=np.int32(label))
        return np.asarray(denoising_scores(one_class, images[:count], (10, 50), batch_size=2))

    found = denoising_scores(denoiser, images, (10, 50), labels=np.array([0, 1]), batch_size=2)
    second_image = 2 * scores(2, 1) - scores(1, 1)
    np.testing.assert_allclose(found, (scores(1, 0) + second_image) / 2, rtol=1e-4)
    assert np.abs(np.asarray(found) / scores(2, 0) - 1).max() > 1e-3


@pytest.mark.slow
def test_evaluation_is_the_same_for_every_split_into_batches(tiny, monkeypatch, small_network):
    quick(monkeypatch, small_network)
    from jaxdiff.training.evaluate import draw

    config = tiny()
    denoiser = loop.denoiser_of(config, init_state(config).params)
    images = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 3)).astype(np.float32)
    a, b = (denoising_scores(denoiser, images, (10, 50), batch_size=size) for size in (2, 5))
    np.testing.assert_allclose(a, b, rtol=1e-5)
    fewer, more = (draw(denoiser, 3, steps=3, batch_size=size) for size in (2, 3))
    np.testing.assert_allclose(fewer, more, atol=1e-5)
    assert fewer.shape == (3, 8, 8, 3)


def test_scores_of_a_network_of_zeros_are_known_from_the_noise(tiny, monkeypatch, small_network):
    """v̂ = 0, so x̂₀ = √ᾱ x_t and ε̂ = √(1−ᾱ) x_t."""
    quick(monkeypatch, small_network)
    config = tiny()
    denoiser = loop.denoiser_of(config, jax.tree.map(np.zeros_like, init_state(config).params))
    images = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 3)).astype(np.float32)
    found = denoising_scores(denoiser, images, (10, 50), seed=4, batch_size=2)
    alpha_bar = np.cumprod(1 - np.linspace(0.001, 0.2, 100))  # the linear schedule of 100 steps
    for row, t in enumerate((10, 50)):
        key = jax.random.fold_in(jax.random.key(4), t)
        noise = np.stack([jax.random.normal(jax.random.fold_in(key, i), (8, 8, 3)) for i in range(3)])
        signal, spread = np.sqrt(alpha_bar[t]), np.sqrt(1 - alpha_bar[t])
        x_t = signal * images + spread * noise
        error = np.mean((np.clip(signal * x_t, -1, 1) - images) ** 2, axis=(1, 2, 3)) / 4
        np.testing.assert_allclose(found.psnr[row], np.mean(-10 * np.log10(error)), rtol=1e-5)
        np.testing.assert_allclose(found.eps_mse[row], np.mean((spread * x_t - noise) ** 2), rtol=1e-5)
