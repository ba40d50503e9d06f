"""Pickles as EDM writes them, with their program inside; files that lie, recurse, or would run a program."""

import datetime
import os
import pathlib
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from tests.support.refusals import refusal_by
from weights_convert.sources import read_source

FAMILIES = pathlib.Path(__file__).parents[1] / "golden" / "families"
W = np.arange(12, dtype=np.float32).reshape(3, 4)
DDPM = {"temb.dense.0.weight": W, "down.0.block.0.norm1.weight": W[0], "conv_out.weight": W}


class Edm:
    """Writes what NVIDIA's persistence class would."""

    def __init__(self, files):
        self.files = files
        self.marker = files.folder / "ran"

    def tensor(self, array, **bent):
        inside = self.files.Persistent(
            ("storage", self.files.Global("torch", "FloatStorage"), "7", "cpu", array.size, None)
        )
        data = self.files.legacy("inside", inside, {"7": array}).read_bytes()
        storage = self.files.Call(self.files.Global("torch.storage", "_load_from_bytes"), (bent.get("data", data),))
        stride = tuple(s // 4 for s in array.strides)
        arguments = (storage, 0, bent.get("size", array.shape), stride, False, OrderedDict())
        return self.files.Call(self.files.Global("torch._utils", "_rebuild_tensor_v2"), arguments)

    def module(self, name, parameters=None, modules=None, **arguments):
        source = f"open({str(self.marker)!r}, 'w')\nraise SystemExit"
        state = {"_parameters": parameters or {}, "_buffers": {}, "_modules": modules or {}, "_init_args": ()}
        state["_init_kwargs"] = arguments
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": name, "state": state}
        return self.files.Call(self.files.Global("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))

    def network(self, parameters=None):
        parameters = parameters or {"weight": self.tensor(W)}
        enc = {"16x16_conv": self.module("Conv2d", parameters)}
        parts = {name: self.module("Linear", {"weight": self.tensor(W)}) for name in ("map_layer0", "map_layer1")}
        return self.module(
            "SongUNet", modules=parts | {"enc": self.module("ModuleDict", modules=enc)}, model_channels=8
        )


@pytest.fixture
def edm(torch_files):
    return Edm(torch_files)


def test_the_embedded_source_is_not_run(edm, torch_files):
    net = edm.module("EDMPrecond", modules={"model": edm.network()}, img_resolution=16)
    path = torch_files.plain("x.pkl", {"ema": net, "loss_fn": edm.module("EDMLoss"), "dataset_kwargs": {"path": "x"}})
    source = read_source(path)
    assert (source.family, source.key, source.dropped) == ("edm", "ema", ("loss_fn", "dataset_kwargs"))
    np.testing.assert_array_equal(source.tensors["model.enc.16x16_conv.weight"], W)
    assert source.config["init_kwargs"] == {"img_resolution": 16}
    assert source.config["parts"]["model"]["init_kwargs"] == {"model_channels": 8}
    bare = read_source(torch_files.plain("y.pkl", net))
    assert bare.tensors.shapes == source.tensors.shapes
    parallel = edm.module("DataParallel", modules={"module": net})
    assert read_source(torch_files.plain("z.pkl", parallel)).config == source.config
    assert not edm.marker.exists()


def test_easy_dictionaries(edm, torch_files):
    class EasyDict(dict):
        pass

    EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
    easy = torch_files.Call(torch_files.Global("dnnlib.util", "EasyDict"), ())
    net = edm.module("EDMPrecond", modules={"model": edm.network()}, sizes=easy)
    assert read_source(torch_files.plain("x.pkl", {"ema": net})).config["init_kwargs"] == {"sizes": None}


def refusal(path):
    return refusal_by(read_source, path)


ATTACKS = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("__builtin__", "apply"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("operator", "attrgetter"),
    ("pickle", "loads"),
    ("ctypes", "CDLL"),
    ("webbrowser", "open"),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=".".join)
def test_code_is_refused_and_not_run(edm, torch_files, attack):
    call = torch_files.Call(torch_files.Global(*attack), (f"touch {edm.marker}",))
    net = edm.module("EDMPrecond", modules={"model": edm.network()})
    for path in (
        torch_files.plain("x.pkl", {"ema": net, "loss_fn": call}),
        torch_files.plain("y.pkl", call),
        torch_files.checkpoint("z.pt", DDPM, wrap=lambda d: {"state_dict": d, "callbacks": call}),
        torch_files.checkpoint("l.pt", DDPM, legacy=True, wrap=lambda d: {"state_dict": d, "callbacks": call}),
    ):
        assert f"the Python object {'.'.join(attack)}" in refusal(path)
    assert not edm.marker.exists()


class Reduced:
    """What ``pickle.load`` would run."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def test_a_pickle_that_python_would_run(tmp_path):
    marker = tmp_path / "ran"
    attack = {"ema": Reduced(os.system, (f"touch {marker}",))}
    for protocol in range(2, 6):
        path = tmp_path / "x.pkl"
        path.write_bytes(pickle.dumps(attack, protocol=protocol))
        assert "system" in refusal(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the file is hostile indeed"


def test_data_of_the_standard_library_is_inert(torch_files):
    values = {"path": pathlib.PurePosixPath("a/b"), "when": datetime.date(2020, 1, 2), "names": {"a", "b"}}
    described = torch_files.checkpoint("x.pt", DDPM, wrap=lambda d: {"state_dict": d, "options": values})
    assert read_source(described).family == "ddpm"


def test_modules_that_hold_each_other(edm, torch_files):
    again = edm.network()
    both = {"map": edm.module("M"), "model": again, "more": again}
    assert "nested in each other" in refusal(torch_files.plain("x.pkl", edm.module("EDMPrecond", modules=both)))
    deep = edm.module("M", {"weight": edm.tensor(W)})
    for _ in range(40):
        deep = edm.module("M", modules={"model": deep})
    assert "nested in each other" in refusal(torch_files.plain("y.pkl", deep))


@pytest.mark.parametrize(
    ("bent", "message"),
    [
        ({"size": (4, 4)}, "reaches outside"),
        ({"size": (2**40, 2**20)}, "reaches outside"),
        ({"data": b"nothing" * 9}, "damaged"),
        ({"data": b""}, "damaged|cut off"),
    ],
)
def test_tensors_that_lie_about_their_storage(edm, torch_files, bent, message):
    parameters = {"weight": edm.tensor(W, **bent)}
    net = edm.module("EDMPrecond", modules={"model": edm.network(parameters)})
    with pytest.raises(ValueError, match=message):
        read_source(torch_files.plain("x.pkl", {"ema": net}))


@pytest.mark.parametrize("name", ["edm_ncsnpp.pkl", "score_ve_ncsnpp.pth"])
def test_truncations_are_noticed(tmp_path, name):
    whole = (FAMILIES / name).read_bytes()
    path = tmp_path / name
    for length in (0, 1, 20, 5000, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refusal(path)


def test_bytes_that_are_not_there(tmp_path):
    path = tmp_path / "x.pkl"
    for opcode, width in ((b"B", "<I"), (b"\x8e", "<Q")):
        path.write_bytes(b"\x80\x04" + opcode + struct.pack(width, 2**31) + b".")
        assert "cut off" in refusal(path)
