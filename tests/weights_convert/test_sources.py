"""Which family a checkpoint is of, and where its weights are: files of the original codes, and files written here."""

import pathlib
from collections import OrderedDict

import numpy as np
import pytest
from flax import serialization

from weights_convert.sources import read_source

FAMILIES = pathlib.Path(__file__).parents[1] / "golden" / "families"
W = np.arange(12, dtype=np.float32).reshape(3, 4)


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
