"""Checkpoints by name: round trips, the embedded prior, and what is refused."""

import hashlib
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import jaxdiff as jd
from jaxdiff import assets, checkpoints
from jaxdiff.checkpoints import load_checkpoint, load_denoiser, save_checkpoint
from jaxdiff.models import UNet
from tests.support.priors import CONDITIONAL, CONFIG, UNET, description_of, random_params, unsigned


@jax.jit
def denoise(denoiser, x, t):
    return denoiser(x, t)


def test_round_trip_by_name(saved, params):
    found = load_checkpoint(saved)
    assert found.config == CONFIG
    assert found.metadata == {"note": "é"}
    assert jax.tree.structure(found.params) == jax.tree.structure(params)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, found.params, params)))


def test_the_denoiser_is_what_was_saved(saved, params):
    denoiser = load_denoiser(str(saved), clip=False)
    assert denoiser.image_shape == (8, 8, 3)
    assert denoiser.schedule.num_steps == 100
    assert (denoiser.prediction, denoiser.variance, denoiser.clip) == ("v", "fixed_large", False)
    assert denoiser.rescale_timesteps
    x = jax.random.normal(jax.random.key(0), (8, 8, 3))
    seen = jnp.array([250.0])  # t = 25 of 100 steps, rescaled
    v = jax.jit(UNet(UNET).apply)({"params": params}, x[None], seen)[0]
    level = denoiser.schedule.at(jnp.array(25))
    expected = jnp.sqrt(level.alpha_bar) * x - jnp.sqrt(level.one_minus_alpha_bar) * v
    np.testing.assert_allclose(denoise(denoiser, x, jnp.array(25)).x0, expected, atol=1e-5)


def test_half_precision_on_disk(params, tmp_path):
    for name in ("a", "a.safetensors"):
        save_checkpoint(tmp_path / name, params, CONFIG, dtype=np.float16)
        for value, original in zip(
            jax.tree.leaves(load_checkpoint(tmp_path / name).params), jax.tree.leaves(params), strict=True
        ):
            assert value.dtype == np.float32
            np.testing.assert_array_equal(value, original.astype(np.float16).astype(np.float32))
    big = jax.tree.map(lambda x: x * 1e7, params)
    with pytest.raises(ValueError, match="not finite as float16"):
        save_checkpoint(tmp_path / "big", big, CONFIG, dtype=np.float16)
    assert not (tmp_path / "big").exists()


@pytest.mark.slow
def test_labels_and_compute_type(tmp_path):
    save_checkpoint(tmp_path / "c", random_params(CONDITIONAL), CONDITIONAL)
    denoiser = load_denoiser(tmp_path / "c", dtype=jnp.bfloat16, label=3)
    assert denoiser.module.dtype == jnp.bfloat16
    assert denoiser.params["label_emb"]["embedding"].dtype == jnp.float32
    x = jnp.ones((8, 8, 3))
    one = denoise(denoiser, x, jnp.array(5))
    other = denoise(denoiser.replace(label=jnp.array(4)), x, jnp.array(5))
    assert one.x0.dtype == jnp.float32
    assert not np.allclose(one.eps, other.eps)
    with pytest.raises(ValueError, match="needs labels"):
        load_denoiser(tmp_path / "c")(x, jnp.array(5))
    with pytest.raises(ValueError, match="label 5 is not one of"):
        load_denoiser(tmp_path / "c", label=5)
    with pytest.raises(ValueError, match="not class-conditional"):
        load_denoiser("faces64", label=0)
    with pytest.raises(ValueError, match="dtype must be one of"):
        load_denoiser("faces64", dtype=jnp.float16)
    with pytest.raises(ValueError, match="float64 needs JAX's 64-bit mode"):
        load_denoiser("faces64", dtype="float64")
    plain = denoise(load_denoiser(tmp_path / "c", label=3), x, jnp.array(5))
    with jax.enable_x64(True):
        double = load_denoiser(tmp_path / "c", dtype="float64", label=3)
        found = denoise(double, x.astype(jnp.float64), jnp.array(5))
        assert found.eps.dtype == jnp.float64
        assert jd.samplers.ddpm().init(jax.random.key(0), None, double, jnp.array(5)).x.dtype == jnp.float64
        traced = str(jax.make_jaxpr(double)(x.astype(jnp.float64), jnp.array(5)))
        assert "conv" in traced
        assert not re.search(r":f32\[\d+,\d+,", traced), "the features of t alone are float32, as the original has them"
        np.testing.assert_allclose(found.x0, plain.x0, atol=1e-4)
        assert np.any(found.eps != found.eps.astype(jnp.float32))
        table = double.schedule
        np.testing.assert_allclose(table.alpha_bar + table.one_minus_alpha_bar, 1, atol=1e-15)


def test_the_embedded_prior_denoises():
    denoiser = jd.load_denoiser("faces64")
    assert denoiser.image_shape == (64, 64, 3)
    stored = assets.tensors("faces64.safetensors")
    assert {value.dtype.name for value in stored.values()} == {"float16"}
    assert sum(value.size for value in stored.values()) == 3_838_947
    # A smooth picture under noise: the prior has to take most of the noise away.
    y, x = jnp.meshgrid(jnp.linspace(-1, 1, 64), jnp.linspace(-1, 1, 64), indexing="ij")
    image = 0.5 * jnp.stack([jnp.cos(2 * x), jnp.cos(2 * y), jnp.sin(x + y)], -1)
    level = denoiser.schedule.at(jnp.array(50))
    signal, noise = jnp.sqrt(level.alpha_bar), jnp.sqrt(level.one_minus_alpha_bar)
    noisy = signal * image + noise * jax.random.normal(jax.random.key(0), image.shape)
    before = jnp.mean((noisy / signal - image) ** 2)
    after = jnp.mean((denoise(denoiser, noisy, jnp.array(50)).x0 - image) ** 2)
    assert after < before / 10


def test_every_embedded_prior_has_its_files():
    for name in checkpoints.EMBEDDED:
        metadata = load_checkpoint(name).metadata
        assert len(metadata["source"]["sha256"]) == 64
        assert "research" in metadata["licence"]
        assert assets.path(f"{name}.md").is_file()


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["faces65", "Faces64", "face64"])
def test_unknown_names_suggest_the_nearest(name):
    with pytest.raises(ValueError, match=r"\(faces64\).*Did you mean 'faces64'\?"):
        load_denoiser(name)


def test_other_paths(tmp_path):
    with pytest.raises(ValueError, match="no such path"):
        load_denoiser(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no prior\.json"):
        load_denoiser(tmp_path)
    for name in ("net.pt", "net.safetensors"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ValueError, match=r"convert it first: `jaxdiff convert .*/net"):
            load_denoiser(tmp_path / name)
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(ValueError, match="is no prior"):
        load_denoiser(tmp_path / "readme.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: "{", "cannot be read as JSON"),
        (lambda d: [], "does not describe a prior"),
        (lambda d: {**d, "format": "else"}, "does not describe a prior"),
        (lambda d: {**d, "version": 2}, "upgrade"),
        (lambda d: {**d, "prior": {**d["prior"], "schedule": "square"}}, "schedule must be one of"),
        (lambda d: {**d, "prior": {**d["prior"], "num_steps": 0}}, "num_steps must be"),
        (lambda d: {**d, "prior": {**d["prior"], "num_steps": 10**12}}, "at most 1000000"),
        (lambda d: {**d, "prior": {**d["prior"], "variance": "learned"}}, "variance='learned'"),
        (lambda d: {**d, "prior": {"unet": {}}}, "needs exactly the fields"),
        (lambda d: {**d, "prior": {**d["prior"], "unet": 3}}, "no named fields"),
        (lambda d: {**d, "prior": {**d["prior"], "unet": {"depth": 3}}}, "a UNet has no depth"),
        (lambda d: {**d, "prior": {**d["prior"], "unet": {**UNET.to_dict(), "model_channels": "big"}}}, "whole number"),
        (lambda d: {**d, "prior": {**d["prior"], "unet": {**UNET.to_dict(), "channel_mult": 3}}}, "channel_mult"),
        (
            lambda d: {**d, "prior": {**d["prior"], "unet": {**UNET.to_dict(), "channel_mult": [1, 1e308]}}},
            "at most 1024",
        ),
        (lambda d: {**d, "prior": {**d["prior"], "unet": {**UNET.to_dict(), "image_size": 10**7}}}, "at most 2048"),
        (lambda d: {**d, "prior": {**d["prior"], "unet": {**UNET.to_dict(), "model_channels": 64}}}, "does not fit"),
        (lambda d: {**d, "prior": {**d["prior"], "unet": {**UNET.to_dict(), "num_res_blocks": 2}}}, "missing"),
        (lambda d: {**d, "prior": {**d["prior"], "unet": {**UNET.to_dict(), "attention_factors": []}}}, "unknown"),
    ],
)
def test_bad_descriptions(saved, change, message):
    file = description_of(saved)
    changed = change(unsigned(json.loads(file.read_text())))
    file.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(ValueError, match=message):
        load_denoiser(saved)


def test_damaged_weights(saved):
    if saved.is_dir():
        files = sorted((f for f in (saved / "params").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    else:
        files = [saved]
    whole = files[-1].read_bytes()
    bent = bytearray(whole)
    bent[-50] ^= 1
    for content in (whole[: len(whole) // 2], whole + b"x", bytes(bent), b""):
        files[-1].write_bytes(content)
        with pytest.raises(ValueError, match="damaged or incomplete"):
            load_denoiser(saved)
    files[-1].write_bytes(whole)
    assert load_checkpoint(saved).config == CONFIG


def test_missing_weights(saved):
    if saved.is_dir():
        shutil.rmtree(saved / "params")
        with pytest.raises(ValueError, match="damaged or incomplete"):
            load_denoiser(saved)


def test_values_that_are_no_weights(tmp_path, params):
    import safetensors.numpy

    path = tmp_path / "x.safetensors"
    save_checkpoint(path, params, CONFIG)
    flat = safetensors.numpy.load_file(path)
    for bad, message in ((np.full(3, np.nan, np.float32), "NaN"), (np.zeros(3, np.int32), "not floating point")):
        path.write_bytes(safetensors.numpy.save({**flat, "out_2/bias": bad}))
        edit = unsigned(json.loads(path.with_suffix(".json").read_text()))
        edit["files"] = {"": hashlib.sha256(path.read_bytes()).hexdigest()}
        path.with_suffix(".json").write_text(json.dumps(edit))
        with pytest.raises(ValueError, match=message):
            load_denoiser(path)
    broken = traverse_util.unflatten_dict({**flat, "out_2/bias": np.array([1, np.inf, 0], np.float32)}, sep="/")
    with pytest.raises(ValueError, match="out_2/bias is not finite"):
        save_checkpoint(tmp_path / "y", broken, CONFIG)
