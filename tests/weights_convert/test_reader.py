"""The torch reader on real files of both formats, and on files that lie."""

import json
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest

from tests.support.refusals import refusal_by
from weights_convert import torch_pickle
from weights_convert.reader import read_state_dict, read_tensors, sha256

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_nested_file_that_torch_wrote(form):
    state = read_state_dict(GOLDEN / "torch" / f"nested_{form}.pt")
    assert state.key == "model"
    found = state.tensors
    np.testing.assert_array_equal(found["0.weight"], np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3) * 0.25)
    np.testing.assert_array_equal(found["2.bias"], np.arange(2, dtype=np.float32) * 0.25 + 3)
    np.testing.assert_array_equal(found["half"], np.arange(5, dtype=np.float16) / np.float16(3))
    np.testing.assert_allclose(found["bfloat16"], np.arange(5) / 3, rtol=2**-8)
    np.testing.assert_array_equal(found["double"], np.arange(3) / 7)
    base = np.arange(60, dtype=np.float32)
    np.testing.assert_array_equal(found["transposed"], base.reshape(6, 10).T)
    np.testing.assert_array_equal(found["slice"], base[20:40:3])
    assert found["scalar"].shape == ()
    assert found["scalar"] == 2.5
    assert found["empty"].shape == (0, 3)
    np.testing.assert_array_equal(found["steps"], [1, 2, 3])


def test_a_whole_network_that_torch_wrote():
    tensors = read_tensors(GOLDEN / "trained32.pt")
    assert len(tensors) == 306
    assert sum(value.size for value in tensors.values()) == 2_007_462
    assert all(np.isfinite(value).all() for value in tensors.values())


def test_a_pickled_module_is_refused_by_name():
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.container\.Sequential"):
        read_tensors(GOLDEN / "torch" / "whole_module.pt")


TENSORS = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "a.bias": np.arange(3, dtype=np.float16)}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (None, ""),
        (lambda d: {"state_dict": d, "epoch": 3}, "state_dict"),
        (lambda d: {"model": {"x": 1}, "ema": {"state_dict": d}}, "ema.state_dict"),
        (
            lambda d: {"model": d, "hyper": {"lr": 1e-4, "betas": (0.9, 0.99), "names": ["a", None, True, -5, 2**40]}},
            "model",
        ),
    ],
)
def test_state_dicts_are_found_wherever_training_codes_put_them(torch_files, legacy, wrap, key):
    path = torch_files.checkpoint("x.pt", TENSORS, legacy=legacy, location="cuda:1", wrap=wrap)
    state = read_state_dict(path)
    assert state.key == key
    assert set(state.tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(state.tensors[name], value)


def test_data_parallel_prefix_and_explicit_key(torch_files):
    prefixed = {f"module.{k}": v for k, v in TENSORS.items()}
    path = torch_files.checkpoint("x.pt", prefixed, wrap=lambda d: {"odd place": {"inner": d}})
    with pytest.raises(ValueError, match="its keys are odd place: name the right one with --key"):
        read_tensors(path)
    assert set(read_state_dict(path, key="odd place.inner").tensors) == set(TENSORS)
    with pytest.raises(ValueError, match="nothing under the key 'model'"):
        read_state_dict(path, key="model")


def test_parameters_are_tensors(torch_files):
    def wrap(d):
        return {
            k: torch_files.Call(torch_files.Global("torch._utils", "_rebuild_parameter"), (v, True, {}))
            for k, v in d.items()
        }

    assert set(read_tensors(torch_files.checkpoint("x.pt", TENSORS, wrap=wrap))) == set(TENSORS)


def test_bfloat16_safetensors(tmp_path):
    import ml_dtypes
    import safetensors.numpy

    value = np.array([1.0, -2.5, 3.140625], ml_dtypes.bfloat16)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save({"w": value}))
    found = read_tensors(path)["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, value.astype(np.float32))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64"])
def test_safetensors_of_types_that_numpy_lacks(tmp_path, dtype):
    data = bytes({"F4": 4, "C64": 64}.get(dtype, 8))
    header = json.dumps({"w": {"dtype": dtype, "shape": [8], "data_offsets": [0, len(data)]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    with pytest.raises(ValueError, match=f"tensor w is of type {dtype}, which is not read; save it as float32"):
        read_tensors(path)


def test_sha256(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- hostile files ---------------------------------------------------------------------


def test_code_is_refused_and_not_run(torch_files, tmp_path):
    marker = tmp_path / "ran"
    attack = torch_files.Call(torch_files.Global("os", "system"), (f"touch {marker}",))
    for legacy in (False, True):
        path = torch_files.checkpoint("x.pt", TENSORS, legacy=legacy, wrap=lambda d: {"model": d, "x": attack})
        with pytest.raises(ValueError, match=r"asks for the Python object os\.system"):
            read_tensors(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "module_and_name", [("builtins", "eval"), ("torch", "load"), ("torch._utils", "_rebuild_tensor_v3"), ("a b", "c d")]
)
def test_other_globals_are_refused_even_if_unused(torch_files, module_and_name):
    path = torch_files.zip("x.pt", {"model": torch_files.Global(*module_and_name)}, {})
    with pytest.raises(ValueError, match="refused"):
        read_tensors(path)


@pytest.mark.parametrize("kind", ["FloatStorage", "OrderedDict"])
def test_admitted_names_cannot_be_called_at_will(torch_files, kind):
    module = "torch" if kind == "FloatStorage" else "collections"
    called = torch_files.Call(torch_files.Global(module, kind), ({"a": 1}, 2) if module == "torch" else (7,))
    with pytest.raises(ValueError, match=r"refused|damaged"):
        read_tensors(torch_files.zip("x.pt", {"model": called}, {}))


@pytest.mark.parametrize(
    "opcodes",
    [
        pickle.PROTO + b"\x02" + b"\x81.",  # NEWOBJ
        pickle.PROTO + b"\x02" + b"cbuiltins\neval\n.",
        pickle.PROTO + b"\x04" + b"\x8c\x08builtins\x8c\x04eval\x93.",  # STACK_GLOBAL
        pickle.PROTO + b"\x02" + b"(iposix\nsystem\n.",  # INST
        pickle.PROTO + b"\x02" + b"\x82\x01.",  # EXT1
        pickle.PROTO + b"\x02" + b"P1\n.",  # PERSID
        pickle.PROTO + b"\x02" + b"}b.",  # BUILD on nothing
        pickle.PROTO + b"\x02" + b"}}b.",  # BUILD on a dict
        pickle.PROTO + b"\x02" + b"h\x09.",  # GET of what was not put
        pickle.PROTO + b"\x02" + b"(.",  # a mark as the result
        pickle.PROTO + b"\x02" + b"]K\x01K\x02s.",  # SETITEM on a list
        pickle.PROTO + b"\x05" + b"\x96" + struct.pack("<Q", 2**62) + b".",  # BYTEARRAY8 of 4 EiB
        pickle.PROTO + b"\x02" + b"X\xff\xff\xff\xff.",  # text of 4 GiB that is not there
        pickle.PROTO + b"\x02" + b"})\x85)\x85s.",  # a tuple as key, without its value
        b"",
        b"\x80",
    ],
)
def test_odd_pickles_end_in_a_sentence(tmp_path, opcodes):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", opcodes)
    with pytest.raises(ValueError, match=r"x\.pt cannot be read: .*\.$"):
        read_tensors(path)


def test_shared_nesting_costs_nothing(tmp_path):
    # Sixty doublings: printing, hashing or copying this would take 2^60 steps.
    bomb = pickle.PROTO + b"\x02" + b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    for tail in (b".", b"}q\xf0h\x00h\x00s.", b"}" + b"h\x3a" + b"K\x01s."):
        path = tmp_path / "x.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", bomb + tail)
        with pytest.raises(ValueError, match="cannot be read"):
            read_tensors(path)


W = np.arange(12, dtype=np.float32)


@pytest.mark.parametrize(
    ("bent", "data", "message"),
    [
        ({"offset": 1}, W, "reaches outside"),
        ({"offset": -1}, W, "described wrongly"),
        ({"size": (13,)}, W, "reaches outside"),
        ({"size": (4, 4), "stride": (1, 1)}, W, "reaches outside"),
        ({"size": (2**40, 2**40), "stride": (0, 0)}, W, "reaches outside"),
        ({"size": (12,), "stride": (-1,)}, W, "described wrongly"),
        ({"size": (12,), "stride": (2**62,)}, W, "described wrongly"),
        ({"size": (12, 1), "stride": (1,)}, W, "described wrongly"),
        ({"size": (True,), "stride": (1,)}, W, "described wrongly"),
        ({"size": (1,) * 9, "stride": (1,) * 9}, W, "dimensions"),
        ({"numel": 13}, W, "bytes"),
        ({"numel": 2**59}, W, "bytes"),
        ({"kind": "DoubleStorage"}, W, "bytes"),
        ({"kind": "UntypedStorage"}, W, "refused"),
        ({}, W[:11], "bytes"),
    ],
)
def test_tensors_cannot_reach_outside_their_storage(torch_files, bent, data, message):
    saved = {"w": torch_files.tensor("0", W, **bent)}
    with pytest.raises(ValueError, match=message):
        read_tensors(torch_files.zip("x.pt", saved, {"0": data.tobytes()}))


def test_missing_storage(torch_files):
    with pytest.raises(ValueError, match="storage archive/data/0 is missing"):
        read_tensors(torch_files.zip("x.pt", {"w": torch_files.tensor("0", W)}, {}))


def test_compressed_entries_are_refused(torch_files):
    zeros = np.zeros(10**6, np.float32)
    path = torch_files.zip("x.pt", {"w": torch_files.tensor("0", zeros)}, {"0": zeros.tobytes()}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="compressed"):
        read_tensors(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_every_truncation_is_noticed(tmp_path, form):
    whole = (GOLDEN / "torch" / f"nested_{form}.pt").read_bytes()
    path = tmp_path / "cut.pt"
    for length in [*range(0, len(whole) - 1, 41), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.pt cannot be read: .*\.$"):
            read_tensors(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_random_damage_never_escapes_as_another_error(tmp_path, form):
    whole = bytearray((GOLDEN / "torch" / f"nested_{form}.pt").read_bytes())
    generator = np.random.default_rng(0)
    path = tmp_path / "bent.pt"
    for _ in range(300):
        bent = bytearray(whole)
        for place in generator.integers(0, len(bent), 3):
            bent[place] = generator.integers(0, 256)
        path.write_bytes(bent)
        try:
            read_tensors(path)
        except ValueError as error:
            assert "cannot be read" in str(error)  # noqa: PT017 (some damage is harmless)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello, world, this is text", "neither"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "neither"),
        (b"<!DOCTYPE html><title>Virus scan warning</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
        (b"PK\x03\x04" + b"0" * 100, "zip directory"),
        (pickle.dumps([1, 2, 3]), "cannot be read"),
        (pickle.dumps(17), "no PyTorch checkpoint"),
    ],
)
def test_other_files(tmp_path, content, message):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_tensors(path)


def test_a_zip_of_something_else_a_folder_and_nothing(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        read_tensors(path)
    with pytest.raises(ValueError, match="cannot be opened"):
        read_tensors(tmp_path)
    with pytest.raises(ValueError, match="cannot be opened"):
        read_tensors(tmp_path / "nowhere.pt")


ORDERED = b"ccollections\nOrderedDict\n"


def zip_of(path, opcodes):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + opcodes)
    return path


def refusal(path):
    return refusal_by(read_tensors, path)


@pytest.mark.parametrize("distinct", [True, False])
def test_items_are_not_copied_again_and_again(tmp_path, distinct):
    pairs = b"".join(b"J" + struct.pack("<i", i if distinct else 7) + b"N\x86" for i in range(1000))
    once = b"](" + pairs + b"eq\x00"
    again = (ORDERED + b"h\x00\x85R") * 50
    path = zip_of(tmp_path / "x.pt", b"(" + once + again + b"t.")
    assert "again and again" in refusal(path)
    arguments = b"(]" + b"N" * 2000 + b"tq\x01"
    assert "again and again" in refusal(
        zip_of(tmp_path / "y.pt", b"(" + arguments + (ORDERED + b"h\x01R") * 50 + b"t.")
    )


def test_ordered_dictionaries_as_python_2_wrote_them(torch_files):
    def wrap(described):
        return torch_files.Call(
            torch_files.Global("collections", "OrderedDict"), ([list(x) for x in described.items()],)
        )

    assert set(read_tensors(torch_files.checkpoint("x.pt", TENSORS, wrap=wrap))) == set(TENSORS)


def test_the_budget_is_one_for_a_file(monkeypatch):
    path = GOLDEN / "torch" / "nested_legacy.pt"
    with open(path, "rb") as file:
        costs = []
        for _ in range(5):
            budget = torch_pickle.Budget()
            torch_pickle.load(file, budget)
            costs.append(budget.instructions)
    monkeypatch.setattr(torch_pickle, "MAX_OPCODES", sum(costs))
    read_tensors(path)
    monkeypatch.setattr(torch_pickle, "MAX_OPCODES", max(costs) + 1)
    assert "more pickle instructions" in refusal(path)


def test_keys_that_hash_alike_and_keys_of_many_digits(tmp_path):
    alike = b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(1, 200))
    assert "too large" in refusal(zip_of(tmp_path / "x.pt", b"}(" + alike + b"u."))
    digits = b"\x8b" + struct.pack("<i", 2000) + b"\x01" * 2000  # more than Python turns into text
    assert "too large" in refusal(zip_of(tmp_path / "y.pt", b"}" + digits + b"Ns."))


def test_names_and_keys_cannot_flood_or_command_a_terminal(torch_files):
    for name in ("\x1b[2Jgone", "n" * 10**6):
        refusal(torch_files.zip("x.pt", {name: {"a": 1}}, {}))
        refusal(torch_files.checkpoint("y.pt", {name: TENSORS["a.bias"]}))


def safetensors_of(path, shape):
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_shapes_that_no_array_can_have(torch_files, tmp_path):
    saved = {"w": torch_files.tensor("0", W, size=(0, 2**59, 2**59), stride=(1, 1, 1))}
    assert "no array can have" in refusal(torch_files.zip("x.pt", saved, {"0": W.tobytes()}))
    for shape in ([0] * 65, [0, 2**62]):
        refusal(safetensors_of(tmp_path / "x.safetensors", shape))


def test_a_pipe_is_no_checkpoint(pipe):
    with pytest.raises(ValueError, match="no regular file"):
        read_tensors(pipe)


def test_text_in_a_pickle_says_nothing_on_its_own(tmp_path):
    assert "STRING" in refusal(zip_of(tmp_path / "x.pt", b"S'\\K'\n."))
