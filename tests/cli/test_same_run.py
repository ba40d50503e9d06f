"""``jaxdiff restore --method NAME``, or ``sample --sampler NAME``, and ``jd.sample(..., jd.samplers.NAME())`` are one run."""

import jax
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff.cli import restore, sample
from jaxdiff.samplers import METHODS, UNCONDITIONAL
from tests.support.networks import tiny_denoiser
from tests.support.tiers import fast_only

STEPS = 6
ROUNDED = {"pnp_dm"}
"""It rounds otherwise in a batch of one than alone; the other methods agree to the bit."""


@pytest.mark.parametrize("method", fast_only(["mmps"], sorted(METHODS)))
def test_python_and_the_command_line_give_the_same_run(jaxdiff, face, tmp_path, monkeypatch, method):
    prior, seen = tiny_denoiser((64, 64, 3), clip=True), {}
    run = restore.restore_many

    def spy(keys, denoiser, problems, *rest, **options):
        seen["problem"] = jax.tree.map(lambda leaf: leaf[0], problems)
        seen["x"] = run(keys, denoiser, problems, *rest, **options).x[0]
        raise ValueError("that is enough")  # scores and pictures are not asked for

    monkeypatch.setattr(restore, "load_prior", lambda args: prior)
    monkeypatch.setattr(restore, "restore_many", spy)
    code, _, err = jaxdiff(
        "restore", face, "--task", "gaussian_blur", "--method", method, "--steps", STEPS, "--out", tmp_path / "out"
    )
    assert (code, "that is enough" in err) == (2, True), err
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0)
    x, _ = jd.sample(key, prior, seen["problem"], METHODS[method](), steps=STEPS)
    assert np.isfinite(seen["x"]).all()
    if method in ROUNDED:
        np.testing.assert_allclose(seen["x"], x, atol=1e-5)
    else:
        np.testing.assert_array_equal(seen["x"], x)


@pytest.mark.parametrize("sampler", fast_only(["heun"], sorted(UNCONDITIONAL)))
def test_python_and_the_command_line_draw_the_same(jaxdiff, tmp_path, monkeypatch, sampler):
    prior, seen = tiny_denoiser((32, 32, 3), clip=True), {}
    run = sample.restore_many

    def spy(*arguments, **options):
        seen["x"] = run(*arguments, **options).x[0]
        raise ValueError("that is enough")  # no pictures are asked for

    monkeypatch.setattr(sample, "load_prior", lambda args: prior)
    monkeypatch.setattr(sample, "restore_many", spy)
    words = ("--sampler", sampler, "--steps", STEPS, "--count", 1, "--out", tmp_path / "out.png")
    code, _, err = jaxdiff("sample", *words)
    assert (code, "that is enough" in err) == (2, True), err
    x, _ = jd.sample(jax.random.fold_in(jax.random.key(0), 0), prior, None, UNCONDITIONAL[sampler](), steps=STEPS)
    assert np.isfinite(seen["x"]).all()
    np.testing.assert_array_equal(seen["x"], x)
