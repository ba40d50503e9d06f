"""Random networks by the authors' own PyTorch code, each written to a file as its family writes them.

diffusers comes from PyPI. The other families need a clone of the authors' repository in a folder, by its own name:
NVlabs/edm, yang-song/score_sde_pytorch, openai/consistency_models and ermongroup/SDEdit.
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from weights_convert.infer import Hidden
from weights_convert.priors import Options

__all__ = ["MAKERS", "Original"]

Values = dict[str, Any]
Random = np.random.Generator


class Original(NamedTuple):
    """A network of the authors' code.

    Attributes:
        told: the arguments that made it.
        path: the file or folder that it was written to.
        options: what a user has to say beside.
        module: the torch module.
        network: (x [N, C, H, W], label [N], class) → what our network is compared with.
        labels: a noise label for each of two images.
        shape: height, width and channels of an image.
        classes: number of classes, or None.
        vectors: classes are given as one vector an image.
        denoise: the authors' D(x; σ), where their code has one.
    """

    told: Values
    path: Path
    options: Options
    module: Any
    network: Callable[..., Any]
    labels: tuple[float, float]
    shape: tuple[int, int, int]
    classes: int | None = None
    vectors: bool = False
    denoise: Callable[..., Any] | None = None


def _pick(rng: Random, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _image(rng: Random, levels: int, channels: int, square: bool = False) -> tuple[int, int, int]:
    unit = 2 ** (levels - 1)
    height, width = (unit * int(rng.integers(2, 4)) for _ in range(2))
    return (height, height, channels) if square else (height, width, channels)


def _fill(module: Any, rng: Random) -> None:
    """Weights that are not zero anywhere; Fourier frequencies and other buffers stay."""
    import torch

    for name, value in module.named_parameters():
        if not value.requires_grad:
            continue
        drawn = rng.normal(size=tuple(value.shape))
        if value.ndim > 1:
            drawn = drawn / np.sqrt(max(1, value.numel() // max(value.shape)))
        elif name.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn = 0.1 * drawn
        value.data.copy_(torch.from_numpy(drawn.astype(np.float32)))
    module.eval()


# --- diffusers -------------------------------------------------------------------------


def diffusers(rng: Random, folder: Path, clones: Path | None) -> Original:
    """A UNet2DModel, as a folder with or without the fields that have their default, and with old or new names."""
    import torch
    from diffusers import UNet2DModel

    told = _skip_arguments(rng) if rng.random() < 0.3 else _plain_arguments(rng)
    module = UNet2DModel(**told)
    _fill(module, rng)
    config = dict(module.config)
    if rng.random() < 0.5:
        config = dict(told)
    config = {k: v for k, v in config.items() if not k.startswith("_")} | {"_class_name": "UNet2DModel"}
    (folder / "config.json").write_text(json.dumps(config))
    state = module.state_dict()
    if rng.random() < 0.5:
        olds = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = {_replaced(name, olds): value for name, value in state.items()}
    torch.save(state, folder / "diffusion_pytorch_model.bin")
    fourier = told["time_embedding_type"] == "fourier"

    def network(x: Any, label: Any, y: Any) -> Any:
        if fourier:  # told ln σ, and not divided by σ
            return module(x, label.exp(), y).sample * label.exp()[:, None, None, None]
        return module(x, label, y).sample

    labels = (-3.0, 2.5) if fourier else (3.0, 250.5)
    shape = _image(rng, len(told["block_out_channels"]), told["in_channels"])
    return Original(told, folder, Options(), module, network, labels, shape, told["num_class_embeds"])


def _replaced(name: str, words: dict[str, str]) -> str:
    for new, old in words.items():
        name = name.replace(f".{new}.", f".{old}.") if "attentions" in name else name
    return name


def _common_arguments(rng: Random) -> Values:
    return {
        "layers_per_block": _pick(rng, 1, 1, 1, 2),
        "center_input_sample": _pick(rng, False, True),
        "time_embedding_type": _pick(rng, "positional", "positional", "fourier"),
        "time_embedding_dim": _pick(rng, None, None, 20),
        "freq_shift": _pick(rng, 0, 1),
        "flip_sin_to_cos": _pick(rng, True, False),
        "mid_block_type": _pick(rng, "UNetMidBlock2D", "UNetMidBlock2D", "UNetMidBlock2D", None),
        "mid_block_scale_factor": _pick(rng, 1, 2**0.5, 0.7),
        "downsample_padding": _pick(rng, 0, 1),
        "downsample_type": _pick(rng, "conv", "resnet"),
        "upsample_type": _pick(rng, "conv", "resnet"),
        "dropout": _pick(rng, 0.0, 0.1),
        "act_fn": _pick(rng, "silu", "swish", "mish", "gelu", "relu", "SiLU"),
        "norm_eps": _pick(rng, 1e-5, 1e-6, 1e-3),
        "resnet_time_scale_shift": _pick(rng, "default", "scale_shift"),
        "add_attention": _pick(rng, True, True, False),
        "num_class_embeds": _pick(rng, None, None, 5),
        "sample_size": _pick(rng, None, 16, [16, 16]),
    }


def _plain_arguments(rng: Random) -> Values:
    levels, groups = _pick(rng, 1, 2, 2, 3), _pick(rng, 1, 2, 3, 4, 5, 6)
    size = _pick(rng, None, 2, 3, 4, 8)
    unit = groups if size is None else int(np.lcm(groups, size))
    widths = [unit * int(rng.integers(1 + 3 // unit, 2 + 24 // unit)) for _ in range(levels)]
    down, up = (
        [_pick(rng, "{}Block2D", "Attn{}Block2D", "Resnet{}sampleBlock2D").format(way) for _ in widths]
        for way in ("Down", "Up")
    )
    channels = _pick(rng, 3, 3, 1, 4)
    return _common_arguments(rng) | {
        "in_channels": channels,
        "out_channels": channels * _pick(rng, 1, 1, 2),
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": up,
        "attention_head_dim": size,
        "norm_num_groups": groups,
        "attn_norm_num_groups": _pick(rng, None, None, groups, 1),
    }


def _skip_arguments(rng: Random) -> Values:
    levels, attends = _pick(rng, 1, 2, 2, 3), rng.random() < 0.5
    widths = [_pick(rng, *((32, 64) if attends else (8, 16, 24))) for _ in range(levels)]
    down, up = (
        [_pick(rng, *(["Skip{}Block2D"] + ["AttnSkip{}Block2D"] * attends)).format(way) for _ in widths]
        for way in ("Down", "Up")
    )
    groups = min(widths[0] // 4, 32) if len(set(widths)) == 1 else None
    return _common_arguments(rng) | {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": up,
        "attention_head_dim": _pick(rng, None, 8),
        "norm_num_groups": _pick(rng, None, groups),
        "attn_norm_num_groups": None,
    }


# --- EDM ---------------------------------------------------------------------------------


def edm(rng: Random, folder: Path, clones: Path | None) -> Original:
    """A preconditioned SongUNet or DhariwalUNet, as a pickle with its source text or as a bare state dict."""
    import torch

    networks = _module_of(clones, "edm", "training.networks")
    told, kind = _edm_arguments(rng), _pick(rng, "EDMPrecond", "EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond")
    size = told["img_resolution"]
    module = getattr(networks, kind)(**told)
    _fill(module, rng)
    path, options = folder / "network-snapshot-000000.pkl", Options()
    if rng.random() < 0.3 and len(told.get("resample_filter", "")) < 5:  # as InverseBench: no arguments in the file
        options = Options(config=kind.lower().removesuffix("precond"))
        path = folder / "ffhq.pt"
        torch.save({"net": module.state_dict(), "ema": module.state_dict()}, path)
    else:
        path.write_bytes(pickle.dumps({"ema": module, "loss_fn": None, "dataset_kwargs": {"path": "x.zip"}}))
    return Original(
        {"class": kind, **told}, path, options, module, module.model, (-1.2, 0.8), (size, size, told["img_channels"]),
        told["label_dim"] or None, True, module,
    )  # fmt: skip


def _edm_arguments(rng: Random) -> Values:
    levels = _pick(rng, 1, 2, 2, 3)
    size = 2 ** (levels - 1) * _pick(rng, 2, 4, 6)
    sides = [size >> level for level in range(levels)]
    told: Values = {
        "img_resolution": size,
        "img_channels": _pick(rng, 3, 1, 2),
        "label_dim": _pick(rng, 0, 0, 4),
        "augment_dim": _pick(rng, 0, 9),
        "channel_mult": [_pick(rng, 1, 2, 3) for _ in sides],
        "num_blocks": _pick(rng, 1, 2),
        "attn_resolutions": [side for side in sides if rng.random() < 0.5],
        "dropout": _pick(rng, 0.0, 0.1),
        "label_dropout": _pick(rng, 0, 0.1),
        "channel_mult_emb": _pick(rng, 4, 1, 2),
    }
    if rng.random() < 0.35:
        return told | {"model_type": "DhariwalUNet", "model_channels": _pick(rng, 16, 32, 64)}
    told |= {
        "model_type": "SongUNet",
        "model_channels": _pick(rng, 8, 12, 20),
        "embedding_type": _pick(rng, "positional", "fourier"),
        "channel_mult_noise": _pick(rng, 1, 2),
        "encoder_type": _pick(rng, "standard", "skip", "residual"),
        "decoder_type": _pick(rng, "standard", "skip"),
        "resample_filter": _pick(rng, [1, 1], [1, 3, 3, 1], [1, 5, 10, 10, 5, 1]),
    }
    gone = [n for n in ("label_dropout", "channel_mult_emb", "embedding_type", "encoder_type") if rng.random() < 0.2]
    return {name: value for name, value in told.items() if name not in gone}


# --- score_sde ---------------------------------------------------------------------------


def score_sde(rng: Random, folder: Path, clones: Path | None) -> Original:
    """NCSN++, DDPM++ or DDPM with a list of averaged weights, and the configuration as JSON."""
    import torch

    _stub_compiler()
    models = _module_of(clones, "score_sde_pytorch", "models.utils")
    for name in ("ncsnpp", "ddpm"):
        importlib.import_module(f"models.{name}")
    model, data = _score_sde_arguments(rng)
    sde = _pick(rng, "vesde") if model["scale_by_sigma"] else _pick(rng, "vpsde", "subvpsde", "vesde")
    training = {"sde": sde, "continuous": True}
    made = types.SimpleNamespace(
        model=types.SimpleNamespace(**model, init_scale=0.0, fourier_scale=16, conv_size=3, ema_rate=0.999),
        data=types.SimpleNamespace(**data),
        training=types.SimpleNamespace(**training),
    )
    module = models.get_model(model["name"])(made)
    _fill(module, rng)
    trained = [value.data for value in module.parameters() if value.requires_grad]
    noise = {
        f"module.{k}": torch.zeros_like(v) if "all_modules.0.W" not in k else v for k, v in module.state_dict().items()
    }
    noise["module.sigmas"] = module.sigmas
    path = folder / "checkpoint_1.pth"
    torch.save({"model": noise, "ema": {"decay": 0.999, "num_updates": 1, "shadow_params": trained}, "step": 1}, path)
    config = folder / "config.json"
    config.write_text(json.dumps({"model": model, "data": data, "training": training}))
    fourier = model["embedding_type"] == "fourier" and model["name"] == "ncsnpp"

    def network(x: Any, label: Any, y: Any) -> Any:
        told = label.exp() if fourier else label
        if not model["scale_by_sigma"]:
            return module(x, told)
        divisor = told if fourier else module.sigmas[label.long()].float()
        return module(x, told.long() if model["name"] == "ddpm" else told) * divisor[:, None, None, None]

    size = data["image_size"]
    labels = (-3.0, 2.5) if fourier else (3.0, 250.0)
    return Original(
        {**model, **data, **training}, path, Options(config=str(config)), module, network, labels,
        (size, size, data["num_channels"]),
    )  # fmt: skip


def _stub_compiler() -> None:
    """Their filter is compiled for GPUs as it is imported; on a CPU they run another."""
    stub = types.ModuleType("torch.utils.cpp_extension")
    stub.load = lambda *_, **__: None  # type: ignore[attr-defined]
    sys.modules["torch.utils.cpp_extension"] = stub


def _score_sde_arguments(rng: Random) -> tuple[Values, Values]:
    levels, name = _pick(rng, 1, 2, 2, 3), _pick(rng, "ncsnpp", "ncsnpp", "ncsnpp", "ddpm")
    size = 2 ** (levels - 1) * _pick(rng, 4, 6)
    sides = [size >> level for level in range(levels)]
    model: Values = {
        "name": name,
        "nf": 32 if name == "ddpm" else _pick(rng, 8, 12, 20),
        "ch_mult": [_pick(rng, 1, 2) for _ in sides],
        "num_res_blocks": _pick(rng, 1, 2),
        "attn_resolutions": [side for side in sides if rng.random() < 0.5],
        "dropout": 0.1,
        "resamp_with_conv": _pick(rng, True, True, False),
        "conditional": _pick(rng, True, True, True, False),
        "nonlinearity": _pick(rng, "swish", "relu", "elu", "lrelu"),
        "normalization": "GroupNorm",
        "scale_by_sigma": _pick(rng, True, False),
        "sigma_min": 0.01,
        "sigma_max": _pick(rng, 50, 348),
        "num_scales": 1000,
        "beta_min": 0.1,
        "beta_max": 20.0,
        "embedding_type": "positional",
    }
    if name == "ncsnpp":
        model |= {
            "fir": _pick(rng, True, False),
            "fir_kernel": _pick(rng, [1, 3, 3, 1], [1, 3, 3, 1], [1, 1]),
            "skip_rescale": _pick(rng, True, False),
            "resblock_type": _pick(rng, "biggan", "ddpm"),
            "progressive": _pick(rng, "none", "output_skip", "residual"),
            "progressive_input": _pick(rng, "none", "input_skip", "residual"),
            "progressive_combine": _pick(rng, "sum", "cat"),
            "embedding_type": _pick(rng, "fourier", "positional"),
        }
    return model, {"image_size": size, "num_channels": _pick(rng, 3, 1), "centered": _pick(rng, True, False)}


# --- consistency models ------------------------------------------------------------------------


def consistency(rng: Random, folder: Path, clones: Path | None) -> Original:
    """A UNet of consistency_models. Its attention calls a CUDA kernel; here a softmax takes the kernel's place."""
    import torch

    _stub_flash_attention()
    script = _module_of(clones, "consistency_models", "cm.unet")
    levels = _pick(rng, 2, 2, 3)
    told: Values = {
        "image_size": 2 ** (levels - 1) * 4,
        "in_channels": 3,
        "out_channels": 3,
        "model_channels": 32,
        "num_res_blocks": _pick(rng, 1, 2),
        "attention_resolutions": [2**i for i in range(levels) if rng.random() < 0.5],
        "channel_mult": [_pick(rng, 1, 2) for _ in range(levels)],
        "num_heads": 4,
        "num_head_channels": _pick(rng, 16, 32),
        "use_scale_shift_norm": _pick(rng, True, False),
        "resblock_updown": _pick(rng, True, False),
        "conv_resample": _pick(rng, True, True, False),
        "num_classes": _pick(rng, None, 5),
        "use_new_attention_order": _pick(rng, True, False),
    }
    module = script.UNetModel(**told)
    _fill(module, rng)
    path = folder / "model.pt"
    torch.save(module.state_dict(), path)
    kind = _pick(rng, "edm", "cd")
    hidden = Hidden(image_size=told["image_size"], num_head_channels=told["num_head_channels"])

    def denoise(x: Any, sigma: Any, y: Any) -> Any:
        s = sigma.reshape(-1, 1, 1, 1)
        above = s - 0.002 if kind == "cd" else s  # KarrasDenoiser.get_scalings(_for_boundary_condition)
        skip = 0.25 / (above**2 + 0.25)
        out, into = above * 0.5 / (s**2 + 0.25) ** 0.5, 1 / (s**2 + 0.25) ** 0.5
        return out * module(into * x, 1000 * 0.25 * torch.log(sigma + 1e-44), y) + skip * x

    return Original(
        {"kind": kind, **told}, path, Options(config=kind, hidden=hidden), module, module, (-200.5, 300.0),
        _image(rng, levels, 3), told["num_classes"], False, denoise,
    )  # fmt: skip


def _stub_flash_attention() -> None:
    import torch

    importlib.import_module("diffusers")  # it looks for that package as it is imported, so it comes first

    class FlashAttention(torch.nn.Module):
        def __init__(self, **_: Any) -> None:
            super().__init__()

        def forward(self, qkv: Any, **_: Any) -> tuple[Any, None]:
            q, k, v = qkv.unbind(2)  # [N, P, heads, channels]
            weights = torch.softmax(torch.einsum("nthc,nshc->nhts", q, k) / q.shape[-1] ** 0.5, -1)
            return torch.einsum("nhts,nshc->nthc", weights, v)[:, :, None].squeeze(2), None

    stub = types.ModuleType("flash_attn.flash_attention")
    stub.FlashAttention = FlashAttention  # type: ignore[attr-defined]
    sys.modules["flash_attn"], sys.modules["flash_attn.flash_attention"] = types.ModuleType("flash_attn"), stub


# --- DDPM in PyTorch ---------------------------------------------------------------------------


def ddpm(rng: Random, folder: Path, clones: Path | None) -> Original:
    """The port of DDPM as a bare state dict."""
    import torch

    port = _module_of(clones, "SDEdit", "models.diffusion")
    levels = _pick(rng, 1, 2, 2, 3)
    size = 2 ** (levels - 1) * 4
    told = {
        "ch": 32,
        "out_ch": _pick(rng, 3, 3, 6),
        "ch_mult": [_pick(rng, 1, 2) for _ in range(levels)],
        "num_res_blocks": _pick(rng, 1, 2),
        "attn_resolutions": [size >> i for i in range(levels) if rng.random() < 0.5],
        "dropout": 0.0,
        "in_channels": 3,
        "resamp_with_conv": _pick(rng, True, True, False),
    }
    made = types.SimpleNamespace(
        model=types.SimpleNamespace(**told, type="simple"),
        data=types.SimpleNamespace(image_size=size),
        diffusion=types.SimpleNamespace(num_diffusion_timesteps=1000),
    )
    module = port.Model(made)
    _fill(module, rng)
    path = folder / "celeba.ckpt"
    torch.save(module.state_dict(), path)
    network = lambda x, label, y: module(x, label)  # noqa: E731
    options = Options(hidden=Hidden(image_size=size))
    return Original(told, path, options, module, network, (3.0, 250.0), (size, size, 3))


def _module_of(clones: Path | None, repository: str, name: str) -> Any:
    """A module of a clone; modules of the same name from another clone are forgotten."""
    if clones is None or not (clones / repository).is_dir():
        raise FileNotFoundError(f"there is no clone of {repository}; give its folder with --originals.")
    place = str((clones / repository).resolve())
    if place not in sys.path[:1]:
        top = {"models", "training", "cm", "torch_utils", "dnnlib", "sde_lib", "op", "utils"}
        for loaded in [n for n in sys.modules if n.partition(".")[0] in top]:
            del sys.modules[loaded]
        sys.path[:] = [place, *(p for p in sys.path if p != place)]
    return importlib.import_module(name)


MAKERS = {"diffusers": diffusers, "edm": edm, "score-sde": score_sde, "consistency": consistency, "ddpm": ddpm}
"""Family → a function that draws a network and writes its file."""
