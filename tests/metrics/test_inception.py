"""Inception's features beside pytorch-fid's, and the file of its weights."""

import argparse
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from benchmarks.record_inception import SIZES, pictures
from jaxdiff import metrics
from jaxdiff.metrics.inception import FILE, inception_shapes
from tests.support.networks import random_inception
from weights_convert import inception as convert

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "inception.npz"


@pytest.fixture(scope="module")
def state():
    return random_inception()


@pytest.fixture(scope="module")
def params(state):
    return convert.from_torch(state)


def test_the_features_are_those_of_pytorch_fid(params):
    run = jax.jit(metrics.inception_features)
    with np.load(GOLDEN) as recorded:
        for (height, width), picture in zip(SIZES, pictures(), strict=True):
            found = np.asarray(run(2 * picture[None] - 1, params))
            wanted = recorded[f"{height}x{width}"]
            assert found.shape == (1, 2048)
            np.testing.assert_allclose(found[0], wanted, rtol=0, atol=5e-6 * np.abs(wanted).max())


def test_the_network_has_the_parameters_of_inception():
    # Keras counts so many trainable ones without the top: kernels, and one bias a channel.
    assert sum(np.prod(shape) for shape in inception_shapes().values()) == 21_768_352


def test_only_colour_or_grey_pictures_are_taken(params):
    for shape in ((64, 64, 3), (1, 64, 64, 2)):
        with pytest.raises(ValueError, match="must be"):
            metrics.inception_features(jnp.zeros(shape), params)


def test_without_weights_the_command_that_makes_them_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="jaxdiff convert inception"):
        metrics.inception_params()


def _arguments(*words):
    parser = argparse.ArgumentParser()
    convert.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_weights_are_read_where_they_were_written(tmp_path, monkeypatch, state, params, capsys):
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "inception.safetensors"
    safetensors.numpy.save_file(state | {"fc.weight": np.zeros((1008, 2048), np.float32)}, source)
    assert convert.run(_arguments(source)) == 0
    assert (tmp_path / "cache" / FILE).is_file()
    read = metrics.inception_params()
    assert read.keys() == params.keys() == inception_shapes().keys()
    assert all((read[name] == params[name]).all() for name in params)
    assert "21,7" in capsys.readouterr().out
    with pytest.raises(ValueError, match="exists already"):
        convert.run(_arguments(source))


@pytest.mark.parametrize("fault", ["missing", "mis-shaped", "not finite"])
def test_other_weights_are_refused(state, fault):
    name = "Mixed_7c.branch_pool.bn.running_var"
    wrong = dict(state)
    if fault == "missing":
        del wrong[name]
    else:
        wrong[name] = np.full(192 if fault == "not finite" else 191, -1.0, np.float32)
    with pytest.raises(ValueError, match=f"{fault} {name}"):
        convert.from_torch(wrong)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    file = tmp_path / "x.pth"
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"x\.pth"):
        convert.run(_arguments(file, tmp_path / "out.safetensors"))
    assert not (tmp_path / "out.safetensors").exists()
