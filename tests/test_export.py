"""An exported restoration runs where jaxdiff is not, and gives what ``jd.sample`` gives."""

import errno
import json
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import jaxdiff as jd
from jaxdiff import cli, export, operators, samplers, schedules, tasks
from jaxdiff.denoisers import Denoiser
from jaxdiff.models import UNet, parameter_shapes
from jaxdiff.problems import Problem, observe
from jaxdiff.samplers import grid_for
from jaxdiff.samplers.loop import sample
from tests.support.networks import small_unet

SHAPE = (16, 16, 3)
STEPS = 3

# Only what a reader without jaxdiff has: no site of ours, no current folder, and a block on the names.
ALONE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jaxdiff", "flax", "safetensors", "orbax"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import jax.export, numpy as np
folder, name = sys.argv[1:]
run = jax.jit(jax.export.deserialize(bytearray(open(f"{folder}/{name}.jaxexport", "rb").read())).call)
inputs = dict(np.load(f"{folder}/inputs.npz"))
import os
more = (dict(np.load(f"{folder}/{name}.npz")),) if os.path.exists(f"{folder}/{name}.npz") else ()
x = run(inputs["data"], inputs["noise_std"], inputs["seed"], inputs["index"], *more)
np.save(f"{folder}/{name}.npy", np.asarray(x))
"""


@pytest.fixture(scope="module")
def prior():
    """The smallest UNet, so that the own primitive of its convolutions is in the artifact."""
    config = small_unet(channel_mult=(1, 1), num_heads=1)
    module = UNet(config)
    random = np.random.RandomState(1)
    named = {k: 0.1 * random.normal(size=s).astype(np.float32) for k, s in parameter_shapes(config).items()}
    params = jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(named, sep="/"))
    return Denoiser(params, schedules.linear(50), module=module, image_shape=SHAPE)


def alone(folder, name, **inputs):
    np.savez(folder / "inputs.npz", **inputs)
    command = [sys.executable, "-I", "-c", ALONE, str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return np.load(folder / f"{name}.npy")


@pytest.mark.slow
def test_runs_without_jaxdiff_and_equals_sample(tmp_path, prior):
    operator = operators.inpaint_box(image_shape=SHAPE, size=8)
    y = np.random.RandomState(0).uniform(-1, 1, (2, *SHAPE)).astype(np.float32)
    sampler = samplers.dps(zeta=0.5)
    index, std = np.array([3, 8], np.uint32), np.float32(0.05)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(index)
    restore = lambda k, v: sample(k, prior, Problem(operator, v, jnp.asarray(std)), sampler, steps=STEPS)[0]  # noqa: E731
    wanted = jax.jit(jax.vmap(restore))(keys, y)
    for weights in ("inside", "beside"):
        artifact = export.export_restoration(
            prior, operator, sampler, steps=STEPS, batch_size=2, platforms=("cpu", "cuda", "tpu"), weights=weights
        )
        files = export.write_artifact(tmp_path / weights, artifact)
        assert [path.suffix for path in files] == [".jaxexport", ".json", ".npz"][: 3 if weights == "beside" else 2]
        given = alone(tmp_path, weights, data=y, noise_std=std, seed=np.uint32(7), index=index)
        np.testing.assert_allclose(given, wanted, atol=2e-5)
    description = json.loads((tmp_path / "beside.json").read_text("utf-8"))
    assert description["platforms"] == ["cpu", "cuda", "tpu"]
    assert [row["name"] for row in description["inputs"]] == ["y", "noise_std", "seed", "index", "weights"]
    assert description["inputs"][0]["shape"] == [2, *SHAPE]
    assert not list(tmp_path.glob(".*")), "nothing temporary is left"


@pytest.mark.slow
def test_images_are_measured_inside(tmp_path, prior):
    operator = operators.block_average(image_shape=SHAPE, factor=4)
    image = np.random.RandomState(0).uniform(-1, 1, (1, *SHAPE)).astype(np.float32)
    sampler = samplers.ddnm()
    artifact = export.export_restoration(
        prior, operator, sampler, steps=STEPS, platforms=("cpu",), inputs="image", weights="inside"
    )
    noise_key, key = jax.random.split(jax.random.fold_in(jax.random.key(1), 5))
    problem = observe(noise_key, operator, jnp.asarray(image[0]), 0.1)
    wanted = jax.jit(lambda k, p: sample(k, prior, p, sampler, steps=STEPS)[0])(key, problem)
    given = jax.jit(artifact.exported.call)(image, np.float32(0.1), np.uint32(1), np.array([5], np.uint32))
    np.testing.assert_allclose(given[0], wanted, atol=2e-5)


def _full_for(name, atomic):
    """``atomic``, with a disk that is full when ``name`` is to be written."""

    def write(path):
        if path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return atomic(path)

    return write


class Small(nn.Module):
    @nn.compact
    def __call__(self, x, t, y=None):
        return nn.Conv(x.shape[-1], (3, 3))(x)


@pytest.mark.slow
def test_the_recipe_in_the_description_runs(tmp_path, monkeypatch):
    module = Small()
    params = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))["params"]
    tiny = Denoiser(params, schedules.linear(50), module=module, image_shape=(8, 8, 1))
    operator = operators.inpaint_box(image_shape=(8, 8, 1), size=4)
    artifact = export.export_restoration(
        tiny, operator, samplers.dps(), steps=2, batch_size=2, platforms=("cpu",), weights="beside"
    )
    export.write_artifact(tmp_path / "tiny.jaxexport", artifact)
    lines = json.loads((tmp_path / "tiny.json").read_text("utf-8"))["run"]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("\n".join(lines), names)
    assert names["x"].shape == (2, 8, 8, 1)
    assert len(lines) <= 6
    export.write_artifact("tiny", artifact)  # over its own files
    other = artifact._replace(weights={name: value + 1 for name, value in artifact.weights.items()})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in before:
        with monkeypatch.context() as broken:
            broken.setattr(export, "atomic", _full_for(name, export.atomic))
            with pytest.raises(ValueError, match="cannot be written"):
                export.write_artifact("tiny", other)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before, "the earlier artifact is whole"
    export.write_artifact("tiny", other)
    assert (tmp_path / "tiny.npz").read_bytes() != before["tiny.npz"]
    export.write_artifact("tiny", artifact._replace(weights=None))
    assert not (tmp_path / "tiny.npz").exists(), "weights that are inside are not beside, too"
    (tmp_path / "tiny.json").write_text('{"faces64": {}}')
    for path, words in (("tiny.jaxexport", r"tiny.json is there already"), ("alone", r"alone.npz is there already")):
        (tmp_path / "alone.npz").write_text("x")
        with pytest.raises(ValueError, match=words):
            export.write_artifact(path, artifact)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.entry_point(["jaxdiff", "export", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.err


def test_command_writes_an_artifact_and_runs_it(capsys, tmp_path):
    code, error = run(
        capsys, "--task", "denoise", "--method", "ddnm", "--steps", 2, "--check", "--out", tmp_path / "a" / "faces"
    )
    assert not code, error
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"faces.jaxexport", "faces.json"}
    assert "traced and lowered" in error
    assert "compiled in" in error


def test_the_command_gives_each_method_its_own_grid(capsys, tmp_path, monkeypatch):
    """As ``jaxdiff restore``: DAPS's Karras grid begins at σ = 100, and MMPS's x̂₀ is not clipped."""
    taken = {}

    def keep(denoiser, operator, sampler, **options):
        taken.update(options, sampler=sampler)
        raise ValueError("enough")

    monkeypatch.setattr(export, "export_restoration", keep)
    for method in ("daps", "mmps"):
        assert run(capsys, "--method", method, "--steps", 4, "--out", tmp_path / "x")[0] == 2
        denoiser = jd.load_denoiser("faces64")
        expected = grid_for(denoiser, tasks.sampler(method, "inpaint_box", "faces64"), 4)
        np.testing.assert_array_equal(taken["steps"].t, expected.t)
    assert run(capsys, "--settings", "defaults", "--out", tmp_path / "x")[0] == 2
    assert taken["sampler"].zeta == samplers.dps().zeta != tasks.sampler("dps", "inpaint_box", "faces64").zeta


@pytest.mark.slow
def test_bad_options_are_one_sentence(capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    out = ("--out", tmp_path / "x.jaxexport")
    bad = {
        ("--task", "inpaint_bx", *out): "inpaint_box",
        ("--method", "dsp", *out): "dps",
        ("--steps", 0, *out): "--steps 0",
        ("--batch", 0, *out): "--batch-size 0",
        ("--platforms", "cpu,gpu", *out): "cuda",
        ("--platforms", "", *out): "platforms is empty",
        ("--input", "picture", *out): "measurement",
        ("--weights", "outside", *out): "beside",
        ("--settings", tmp_path / "none.json", *out): "jaxdiff tune",
        ("--prior", "faces46", *out): "faces64",
        ("--steps", 1, "--method", "ddnm", "--out", tmp_path / "file" / "x"): "is a file",
        ("--steps", 1, "--method", "ddnm", "--out", tmp_path): "is a folder",
    }
    for arguments, word in bad.items():
        code, error = run(capsys, *arguments)
        assert code == 2, arguments
        assert error.count("jaxdiff:") == 1, error
        assert "Traceback" not in error
        assert word in error
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def _tiny_denoiser_of(params, apply):
    return jd.denoisers.from_function(apply, params, schedule=jd.schedules.linear(100), image_shape=(8, 8, 3))


@pytest.mark.parametrize(
    ("params", "apply"),
    [
        (0.5, lambda p, x, t: p * x),
        ([0.25, {"gain": jnp.ones(3) / 4}], lambda p, x, t: p[0] * x + p[1]["gain"].astype(x.dtype) * x),
    ],
)
@pytest.mark.parametrize("weights", ["inside", "beside"])
def test_parameters_may_be_any_pytree(params, apply, weights):
    denoiser, operator = (
        _tiny_denoiser_of(jax.tree.map(jnp.asarray, params), apply),
        jd.operators.denoise(image_shape=(8, 8, 3)),
    )
    sampler = jd.samplers.ddnm()
    artifact = jd.export.export_restoration(denoiser, operator, sampler, steps=2, platforms=("cpu",), weights=weights)
    y = jax.random.normal(jax.random.key(1), (1, 8, 8, 3)) / 4
    more = () if artifact.weights is None else (artifact.weights,)
    x = artifact.exported.call(y, jnp.float32(0.1), jnp.uint32(3), jnp.zeros(1, jnp.uint32), *more)
    key = jax.random.fold_in(jax.random.key(3), 0)
    expected, _ = jd.sample(key, denoiser, jd.Problem.of(operator, y[0], 0.1), sampler, steps=2)
    np.testing.assert_allclose(x[0], expected, atol=1e-5)


def test_a_prior_without_parameters_is_exported_whole():
    prior = jd.denoisers.gaussian_prior(jnp.zeros((2, 2, 1)), jnp.eye(4), jd.schedules.linear(100))
    operator, sampler = jd.operators.denoise(image_shape=(2, 2, 1)), jd.samplers.ddnm()
    artifact = jd.export.export_restoration(prior, operator, sampler, steps=2, platforms=("cpu",))
    x = artifact.exported.call(jnp.ones((1, 2, 2, 1)), jnp.float32(0.1), jnp.uint32(0), jnp.zeros(1, jnp.uint32))
    expected, _ = jd.sample(
        jax.random.fold_in(jax.random.key(0), 0),
        prior,
        jd.Problem.of(operator, jnp.ones((2, 2, 1)), 0.1),
        sampler,
        steps=2,
    )
    np.testing.assert_allclose(x[0], expected, atol=1e-5)
