"""Readers of every family, on files of the original codes and on files that lie, recurse, or would run a program."""

import datetime
import json
import math
import os
import pathlib
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy
from flax import serialization

from weights_convert.sources import read_source

FAMILIES = pathlib.Path(__file__).parents[1] / "golden" / "families"
W = np.arange(12, dtype=np.float32).reshape(3, 4)


def count(source):
    return sum(math.prod(shape) for shape in source.tensors.shapes.values())


# --- files that the original codes wrote ----------------------------------------------------


def test_an_edm_pickle():
    source = read_source(FAMILIES / "edm_ncsnpp.pkl")
    assert (source.family, source.key, len(source.tensors)) == ("edm", "ema", 205)
    assert source.config["class_name"] == "EDMPrecond"
    assert source.config["attributes"]["sigma_data"] == 0.5
    network = source.config["parts"]["model"]
    assert network["class_name"] == "SongUNet"
    assert network["init_kwargs"]["resample_filter"] == [1, 3, 3, 1]
    assert network["init_kwargs"]["attn_resolutions"] == [8]
    assert source.tensors.shapes["model.map_noise.freqs"] == (8,)
    assert source.tensors["model.map_noise.freqs"].std() > 1, "a Fourier embedding of scale 16"
    assert source.dropped[0] == "model.map_augment.weight"
    assert "loss_fn" in source.dropped
    with open(FAMILIES / "edm_ncsnpp.pkl", "rb") as file:
        data = file.read()
    value = source.tensors["model.enc.16x16_conv.weight"]
    assert value.tobytes() in data


def test_averages_of_score_sde_by_name():
    source = read_source(FAMILIES / "score_ve_ncsnpp.pth")
    assert (source.family, source.key, len(source.tensors)) == ("score-sde", "ema", 223)
    assert source.config == pytest.approx({"sigma_max": 348.0, "sigma_min": 0.01, "num_scales": 2000})
    assert set(source.dropped) == {"sigmas", "optimizer", "step"}
    assert source.tensors.shapes["all_modules.0.W"] == (8,)
    raw = read_source(FAMILIES / "score_ve_ncsnpp.pth", key="model")
    assert raw.tensors.shapes == source.tensors.shapes
    name = "all_modules.4.Conv_0.weight"
    assert not np.array_equal(raw.tensors[name], source.tensors[name]), "averages are not the last weights"
    np.testing.assert_array_equal(raw.tensors["all_modules.0.W"], source.tensors["all_modules.0.W"])


def test_a_folder_of_diffusers():
    source = read_source(FAMILIES / "diffusers_ddpm")
    assert (source.family, len(source.tensors), count(source)) == ("diffusers", 182, 141259)
    assert source.config["unet"]["downsample_padding"] == 0
    assert source.config["unet"]["attn_norm_num_groups"] is None, "the default of the class"
    assert source.config["scheduler"]["variance_type"] == "fixed_small"
    by_file = read_source(FAMILIES / "diffusers_ddpm" / "diffusion_pytorch_model.safetensors")
    assert by_file.config == source.config
    assert by_file.tensors.shapes == source.tensors.shapes


# --- diffusers, written here -----------------------------------------------------------------


def folder_of(path, tensors, config=None, **files):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"} | (config or {})))
    for name, part in files.items() or {"diffusion_pytorch_model.safetensors": tensors}.items():
        (path / name).write_bytes(safetensors.numpy.save(part))
    return path


NAMES = ("time_embedding.linear_1.weight", "down_blocks.0.resnets.0.norm1.weight", "conv_out.weight")
UNET = {name: W for name in NAMES}


def test_shards_and_class_defaults(tmp_path):
    parts = {f"diffusion_pytorch_model-0000{i}-of-00003.safetensors": {n: W + i} for i, n in enumerate(NAMES)}
    folder = folder_of(tmp_path / "x", {}, **parts)
    index = {"weight_map": dict(zip(NAMES, parts, strict=True))}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    source = read_source(folder)
    assert set(source.tensors) == set(NAMES)
    np.testing.assert_array_equal(source.tensors["conv_out.weight"], W + 2)
    assert source.config["unet"]["attention_head_dim"] == 8
    assert source.config["unet"]["norm_eps"] == 1e-5
    index["weight_map"]["conv_out.weight"] = "../../etc/passwd"
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="names files that are not there"):
        read_source(folder)


def test_shards_of_a_variant_and_names_of_a_parallel_module(tmp_path):
    parts = {
        f"diffusion_pytorch_model.fp16-0000{i}-of-00003.safetensors": {f"module.{n}": W} for i, n in enumerate(NAMES)
    }
    folder = folder_of(tmp_path / "x", {}, **parts)
    index = {"weight_map": {f"module.{n}": file for n, file in zip(NAMES, parts, strict=True)}}
    (folder / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(index))
    assert set(read_source(folder).tensors) == set(NAMES)


def test_averaged_weights_that_diffusers_saved_beside_others(tmp_path):
    averaging = {"decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 3, "power": 2 / 3}
    averaging |= {"update_after_step": 0, "use_ema_warmup": True, "layers_per_block": 1}
    folder_of(tmp_path / "unet_ema", {n: W + 1 for n in NAMES}, averaging)
    folder_of(tmp_path / "unet", UNET)
    for place in (tmp_path, tmp_path / "unet_ema"):
        source = read_source(place)
        np.testing.assert_array_equal(source.tensors["conv_out.weight"], W + 1)
        assert source.config["unet"]["layers_per_block"] == 1
        assert "decay" not in source.config["unet"]


def test_weights_by_the_names_of_accelerate(tmp_path):
    folder = folder_of(tmp_path / "x", {}, **{"model.safetensors": UNET})
    assert read_source(folder).key == "model.safetensors"


def test_old_names_of_attention(tmp_path):
    old = {"mid_block.attentions.0.query.weight": W[:, :, None, None], "mid_block.attentions.0.proj_attn.bias": W[0]}
    source = read_source(folder_of(tmp_path / "x", UNET | old))
    assert source.tensors.shapes["mid_block.attentions.0.to_q.weight"] == (3, 4)
    np.testing.assert_array_equal(source.tensors["mid_block.attentions.0.to_q.weight"], W)
    np.testing.assert_array_equal(source.tensors["mid_block.attentions.0.to_out.0.bias"], W[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "its network is UNet2DConditionModel, which is not read"),
        ({"mystery": 3}, "options that are not known: mystery"),
    ],
)
def test_other_configurations(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        read_source(folder_of(tmp_path / "x", UNET, config))


def test_folders_without_what_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"a folder without config\.json"):
        read_source(tmp_path)
    folder = folder_of(tmp_path / "x", UNET)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no diffusion_pytorch_model\.safetensors or \.bin"):
        read_source(folder)
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes(safetensors.numpy.save(UNET))
    with pytest.raises(ValueError, match=r"without config\.json beside it; give the whole folder"):
        read_source(lone)


# --- flax -------------------------------------------------------------------------------------


def test_the_averages_of_a_flax_checkpoint(tmp_path):
    params = {"Dense_0": {"kernel": W, "bias": W[0]}, "ResnetBlockBigGANpp_0": {"Conv_0": {"kernel": W[None, None]}}}
    state = {"step": 7, "optimizer": {"target": params}, "params_ema": params, "rng": np.zeros(2, np.uint32)}
    path = tmp_path / "checkpoint_26"
    path.write_bytes(serialization.msgpack_serialize(state))
    source = read_source(path)
    assert (source.family, source.key) == ("score-sde", "params_ema")
    assert set(source.dropped) == {"step", "optimizer", "rng"}
    np.testing.assert_array_equal(source.tensors["ResnetBlockBigGANpp_0/Conv_0/kernel"], W[None, None])
    for length in (5, 100, len(path.read_bytes()) - 100):
        path.write_bytes(serialization.msgpack_serialize(state)[:length])
        with pytest.raises(ValueError, match="cannot be read"):
            read_source(path)


# --- which family, and where ------------------------------------------------------------------

GUIDED = {
    "time_embed.0.weight": W,
    "input_blocks.0.0.weight": W,
    "middle_block.1.qkv.weight": W[..., None],
    "out.2.weight": W,
}
CONSISTENCY = GUIDED | {"middle_block.1.qkv.weight": W[..., None, None]}
DDPM = {"temb.dense.0.weight": W, "down.0.block.0.norm1.weight": W[0], "conv_out.weight": W}
SONG = {"model.map_layer0.weight": W, "model.map_layer1.weight": W, "model.enc.16x16_conv.weight": W}


@pytest.mark.parametrize(
    ("tensors", "family"),
    [(GUIDED, "guided-diffusion"), (CONSISTENCY, "consistency"), (DDPM, "ddpm"), (SONG, "edm")],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_families_are_told_from_contents(torch_files, tensors, family, legacy):
    source = read_source(torch_files.checkpoint("edm-cd_score_sde.pt", tensors, legacy=legacy))
    assert source.family == family
    assert set(source.tensors) == set(tensors)
    wrapped = torch_files.checkpoint("y.pt", tensors, legacy=legacy, wrap=lambda d: {"net": {}, "ema": d, "step": 3})
    assert read_source(wrapped).family == family
    with pytest.raises(ValueError, match="not of score-sde"):
        read_source(wrapped, family="score-sde")


@pytest.mark.parametrize("prefix", ["", "net.", "module.model."])
def test_a_network_of_edm_is_read_with_or_without_its_preconditioner(torch_files, prefix):
    bent = {prefix + name.removeprefix("model."): value for name, value in SONG.items()}
    source = read_source(torch_files.checkpoint("x.pt", bent))
    assert (source.family, set(source.tensors)) == ("edm", set(SONG))


ONE = np.array(3.0, np.float32)


@pytest.mark.parametrize(
    ("names", "key"),
    [
        ({"model_state_dict": DDPM, "loss": ONE}, "model_state_dict"),
        ({"ema": {"decay": ONE, "shadow": DDPM}, "model": DDPM}, "ema.shadow"),
        ({"model": {"type": "simple"}, **DDPM, "step": ONE}, ""),
    ],
)
def test_numbers_beside_the_weights_do_not_hide_them(torch_files, names, key):
    data = {}

    def described(value, place="x"):
        if isinstance(value, dict):
            return {name: described(inner, f"{place}.{name}") for name, inner in value.items()}
        if isinstance(value, np.ndarray):
            data[place] = value.tobytes()
            return torch_files.tensor(place, value)
        return value

    source = read_source(torch_files.zip("x.pt", described(names), data))
    assert (source.family, source.key, set(source.tensors)) == ("ddpm", key, set(DDPM))


def test_lightning_prefixes_and_foreign_objects(torch_files, tmp_path):
    callback = torch_files.Call(torch_files.Global("pytorch_lightning.callbacks", "ModelCheckpoint"), ("loss",))
    marker = tmp_path / "ran"
    state = {f"{place}.{name}": value for place in ("net", "ema_net") for name, value in GUIDED.items()}
    state["loss.weight"] = W

    def wrap(described):
        return {"callbacks": {"x": callback}, "state_dict": described, "made": str(marker), "epoch": 3}

    source = read_source(torch_files.checkpoint("x.ckpt", state, wrap=wrap))
    assert set(source.tensors) == set(GUIDED)
    assert source.key == "state_dict"
    assert {"net.time_embed.0.weight", "loss.weight", "callbacks", "epoch"} <= set(source.dropped)


def test_the_list_that_ddpm_saves(torch_files):
    described = OrderedDict((k, torch_files.tensor(str(i), v)) for i, (k, v) in enumerate(DDPM.items()))
    averaged = OrderedDict((k, torch_files.tensor(f"e{i}", v + 1)) for i, (k, v) in enumerate(DDPM.items()))
    data = {str(i): v.tobytes() for i, v in enumerate(DDPM.values())}
    data |= {f"e{i}": (v + 1).tobytes() for i, v in enumerate(DDPM.values())}
    source = read_source(torch_files.zip("x.ckpt", [described, {"lr": 1.0}, 3, 7, averaged], data))
    np.testing.assert_array_equal(source.tensors["conv_out.weight"], W + 1)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a.weight": W}, "of no family that is known .*; its first names are a.weight"),
        ({"unet.emb_fourier.freqs": W}, "those of EDM2, which is not read"),
        (
            {"first_stage_model.encoder.conv_in.weight": W}
            | {f"model.diffusion_model.{n}": v for n, v in GUIDED.items()},
            "it is a latent diffusion model",
        ),
        ({f"{place}.{name}": W for place in "ab" for name in DDPM}, "holds several networks, under 'a', 'b'"),
    ],
)
def test_what_is_no_family_or_several(torch_files, tensors, message):
    with pytest.raises(ValueError, match=message):
        read_source(torch_files.checkpoint("x.pt", tensors))


def test_a_list_of_averages_that_does_not_fit(torch_files):
    names = ("module.sigmas", "module.all_modules.0.W", "module.all_modules.1.weight", "module.all_modules.3.weight")
    model = OrderedDict((name, torch_files.tensor("0", W)) for name in names)
    for shadow in (
        [torch_files.tensor("0", W)],
        [torch_files.tensor("0", W), torch_files.tensor("0", W[:2], numel=12)],
    ):
        saved = {"model": model, "ema": {"shadow_params": shadow}}
        with pytest.raises(ValueError, match="averaged weight"):
            read_source(torch_files.zip("x.pth", saved, {"0": W.tobytes()}))


# --- EDM pickles, written here ----------------------------------------------------------------


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
    with pytest.raises(ValueError, match="cannot be read") as found:
        read_source(path)
    message = str(found.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < 1000
    return message


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
        torch_files.checkpoint("z.pt", GUIDED, wrap=lambda d: {"state_dict": d, "callbacks": call}),
        torch_files.checkpoint("l.pt", GUIDED, legacy=True, wrap=lambda d: {"state_dict": d, "callbacks": call}),
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
    described = torch_files.checkpoint("x.pt", GUIDED, wrap=lambda d: {"state_dict": d, "options": values})
    assert read_source(described).family == "guided-diffusion"


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


def test_a_damaged_weight_is_noticed(tmp_path):
    whole = bytearray((FAMILIES / "score_ve_ncsnpp.pth").read_bytes())
    source = read_source(FAMILIES / "score_ve_ncsnpp.pth")
    name = "all_modules.4.Conv_0.weight"
    place = bytes(whole).index(source.tensors[name].tobytes())
    whole[place + 5] ^= 1
    path = tmp_path / "x.pth"
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="checksum differs"):
        read_source(path).tensors[name]


def test_no_number_is_read_before_it_is_asked_for(torch_files):
    path = torch_files.checkpoint("x.pt", GUIDED)
    source = read_source(path)
    path.unlink()
    assert source.tensors.shapes["out.2.weight"] == (3, 4)
    with pytest.raises(OSError, match="No such file"):
        source.tensors["out.2.weight"]
