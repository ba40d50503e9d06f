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
from jaxdiff.models import PriorConfig, UNet, UNetConfig, parameter_shapes

UNET = UNetConfig(image_size=8, model_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_factors=(2,))
CONFIG = PriorConfig(
    UNET, schedule="cosine", num_steps=100, prediction="v", variance="fixed_large", rescale_timesteps=True
)
CONDITIONAL = PriorConfig(
    UNetConfig(
        image_size=8,
        model_channels=32,
        num_res_blocks=1,
        channel_mult=(1,),
        num_classes=5,
        out_channels=6,
        use_scale_shift_norm=True,
    )
)


@jax.jit
def denoise(denoiser, x, t):
    return denoiser(x, t)


def make(config):
    shapes = parameter_shapes(config.unet)
    generator = np.random.default_rng(0)
    flat = {name: generator.standard_normal(shape).astype(np.float32) * 0.1 for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.fixture(scope="module")
def params():
    return make(CONFIG)


@pytest.fixture(params=["orbax", "safetensors"])
def saved(request, params, tmp_path):
    path = tmp_path / ("prior" if request.param == "orbax" else "prior.safetensors")
    save_checkpoint(path, params, CONFIG, metadata={"note": "é"})
    return path


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
    save_checkpoint(tmp_path / "c", make(CONDITIONAL), CONDITIONAL)
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


def description_of(path):
    return path / "prior.json" if path.is_dir() else path.with_suffix(".json")


def unsigned(description):
    """As older priors are, and those that were edited on purpose."""
    return {name: value for name, value in description.items() if name != "checksum"}


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

    monkeypatch.setattr(checkpoints.pathlib.Path, "write_text", fails)
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


# --- hostile priors ------------------------------------------------------------------------


def signed(path, change=lambda description: None):
    """Edit the description of a pair of files and set its checksums right, as an attacker would."""
    file = path.with_suffix(".json")
    description = unsigned(json.loads(file.read_text()))
    description["files"] = {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    change(description)
    file.write_text(json.dumps(description))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64", "I32"])
def test_types_that_hold_no_weights(params, tmp_path, dtype):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, params, CONFIG)
    data = bytes({"F4": 4, "C64": 64, "I32": 32}.get(dtype, 8))
    header = json.dumps({"out_2/bias": {"dtype": dtype, "shape": [8], "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    signed(path)
    with pytest.raises(ValueError, match=rf"x\.safetensors .*out_2/bias is of type {dtype}, not floating point"):
        load_checkpoint(path)


def test_a_changed_description_is_noticed(saved):
    file = description_of(saved)
    written = json.loads(file.read_text())
    assert "checksum" not in load_checkpoint(saved).metadata
    changed = json.loads(json.dumps(written))
    changed["prior"]["unet"]["dropout"] = 0.5
    file.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"{file.name} is damaged: it does not fit its checksum"):
        load_checkpoint(saved)
    file.write_text(json.dumps(unsigned(changed)))  # edited on purpose, or older
    assert load_checkpoint(saved).config.unet.dropout == 0.5
    file.write_text(json.dumps(written, indent=7, sort_keys=True))  # the layout does not matter
    assert load_checkpoint(saved).config == CONFIG


def test_metadata_of_any_kind_keeps_its_checksum(params, tmp_path):
    metadata = {"sizes": (1, 2), "numbers": {3: 0.1}, "name": "é\udc80"[:1], "rate": float("inf")}
    save_checkpoint(tmp_path / "p", params, CONFIG, metadata=metadata)
    assert load_checkpoint(tmp_path / "p").metadata["numbers"] == {"3": 0.1}


def test_embedded_priors_have_a_checksum():
    for name in checkpoints.EMBEDDED:
        description = json.loads(assets.path(f"{name}.json").read_text())
        assert description["checksum"] == checkpoints._checksum(description)


def test_files_beside_the_weights_are_not_read(params, tmp_path, pipe):
    path = tmp_path / "prior"
    save_checkpoint(path, params, CONFIG)
    (path / "params").rename(tmp_path / "much")
    (path / "params").symlink_to(tmp_path / "much")
    pipe.rename(tmp_path / "much" / "pipe")
    (tmp_path / "much" / "secret").write_text("x")
    (tmp_path / "much" / "secret").chmod(0)
    seen = []
    original = checkpoints.open_regular
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints, "open_regular", lambda file: seen.append(file.name) or original(file))
        assert load_checkpoint(path).config == CONFIG
    assert not {"secret", "pipe"} & set(seen)


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname", "a/../../outside"])
def test_recorded_files_stay_in_their_folder(saved, tmp_path, name):
    (tmp_path / "outside").write_text("x")
    file = description_of(saved)
    description = unsigned(json.loads(file.read_text()))
    description["files"][name] = hashlib.sha256(b"x").hexdigest()
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load_checkpoint(saved)


def test_pipes_and_names_that_no_file_can_have(params, tmp_path, pipe):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, params, CONFIG)
    for part in (path, path.with_suffix(".json")):
        part.rename(tmp_path / "kept")
        part.symlink_to(pipe)
        with pytest.raises(ValueError, match=r"no regular file|is a checkpoint as another program"):
            load_checkpoint(path)
        part.unlink()
        (tmp_path / "kept").rename(part)
    for name in ("x" * 300, "x" * 10**6):
        with pytest.raises(ValueError, match="no such path") as found:
            load_checkpoint(name)
        assert len(str(found.value)) < 1500
    with pytest.raises(ValueError, match="cannot be written"):
        save_checkpoint(tmp_path / ("x" * 300), params, CONFIG)


def test_names_in_a_prior_cannot_flood_or_command_a_terminal(params, tmp_path):
    import safetensors.numpy

    path = tmp_path / "x.safetensors"
    save_checkpoint(path, params, CONFIG)
    for name in ("\x1b[2Jgone", "n" * 10**6):
        path.write_bytes(safetensors.numpy.save({name: np.zeros(3, np.float32)}))
        for change in (lambda d: None, lambda d, name=name: d["prior"]["unet"].update({name: 1})):
            signed(path, change)
            with pytest.raises(ValueError, match=r"x\.") as found:
                load_checkpoint(path)
            assert str(found.value).isprintable()
            assert len(str(found.value)) < 1500
