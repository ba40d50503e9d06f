"""Random networks of score_sde."""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.originals.base import Original, Random, Values, fill, labels, module_of, pick
from benchmarks.originals.diffusers_unet import log_sigmas
from weights_convert.priors import Options


def score_sde(rng: Random, folder: Path, clones: Path | None) -> Original:
    """NCSN++, DDPM++ or DDPM with a list of averaged weights, and the configuration as JSON."""
    import torch

    stub_compiler()
    models = module_of(clones, "score_sde_pytorch", "models.utils")
    for name in ("ncsnpp", "ddpm"):
        importlib.import_module(f"models.{name}")
    model, data = _arguments(rng)
    fourier = model["embedding_type"] == "fourier" and model["name"] == "ncsnpp"
    sde = "vesde" if model["scale_by_sigma"] else pick(rng, "vpsde", "vpsde", "subvpsde", "vesde")
    whole = model["name"] == "ddpm" and model["scale_by_sigma"]  # told the index of a level
    continuous = sde == "subvpsde" or fourier or (not whole and pick(rng, True, False))
    training = {"sde": sde, "continuous": continuous}
    made = types.SimpleNamespace(
        model=types.SimpleNamespace(**model, init_scale=0.0, fourier_scale=16, conv_size=3, ema_rate=0.999),
        data=types.SimpleNamespace(**data),
        training=types.SimpleNamespace(**training),
    )
    module = models.get_model(model["name"])(made)
    fill(module, rng)
    trained = [value.data for value in module.parameters() if value.requires_grad]
    noise = {
        f"module.{k}": torch.zeros_like(v) if "all_modules.0.W" not in k else v for k, v in module.state_dict().items()
    }
    noise["module.sigmas"] = module.sigmas
    path = folder / "checkpoint_1.pth"
    torch.save({"model": noise, "ema": {"decay": 0.999, "num_updates": 1, "shadow_params": trained}, "step": 1}, path)
    config = folder / "config.json"
    config.write_text(json.dumps({"model": model, "data": data, "training": training}))

    def score(x: Any, told: Any) -> Any:
        return module(x, told.long() if whole else told)

    def network(x: Any, label: Any, y: Any) -> Any:
        told = label.exp() if fourier else label
        if not model["scale_by_sigma"]:
            return score(x, told)
        divisor = told if fourier else module.sigmas[label.long()].to(x.dtype)
        return score(x, told) * divisor[:, None, None, None]

    size = data["image_size"]
    early, late = log_sigmas() if fourier else labels(rng)
    if whole or (model["scale_by_sigma"] and not fourier):
        late = float(int(late))
    return Original(
        {**model, **data, **training}, path, Options(config=str(config)), module, network,
        (early, late), (size, size, data["num_channels"]),
        **_process(clones, model, data["centered"], sde, continuous, score),
    )  # fmt: skip


def _process(
    clones: Path | None, model: Values, centered: bool, sde: str, continuous: bool, score: Callable[..., Any]
) -> Values:
    """D(x; σ) by Tweedie's formula from ``models.utils.get_score_fn``; at whole timesteps for the discrete chain."""
    import torch

    processes, levels = module_of(clones, "score_sde_pytorch", "sde_lib"), model["num_scales"]
    if sde == "vesde":
        process = processes.VESDE(model["sigma_min"], model["sigma_max"], levels)
    else:
        process = getattr(processes, {"vpsde": "VPSDE", "subvpsde": "subVPSDE"}[sde])(
            model["beta_min"], model["beta_max"], levels
        )
    across = lambda value: value[:, None, None, None]  # noqa: E731

    def exploding(x: Any, sigma: Any) -> Any:
        told = sigma
        if not continuous:  # of the levels, falling, the nearest
            falling = torch.flip(process.discrete_sigmas, [0]).log()
            told = (falling[None] - sigma.log()[:, None]).abs().argmin(1)
        return x + across(sigma) ** 2 * score(x, told)

    def preserving(x: Any, sigma: Any) -> Any:
        # The noise σ a of x_t = a (x₀ + σ z) is √(1−a²), or 1−a² of the sub-VP chain.
        s = sigma.double()
        log_a = -(s**2).log1p() / 2 if sde == "vpsde" else -torch.asinh(s / 2)
        low, more = model["beta_min"], model["beta_max"] - model["beta_min"]
        t = -4 * log_a / (low + (low**2 - 4 * more * log_a).sqrt())
        a = log_a.exp().to(x.dtype)
        return x - across(sigma) * score(across(a) * x, (t * 999).to(x.dtype))

    def denoise(x: Any, sigma: Any, y: Any) -> Any:
        move = exploding if sde == "vesde" else preserving
        return move(x, sigma) if centered else 2 * move((x + 1) / 2, sigma / 2) - 1

    def step(x: Any, t: Any, y: Any) -> tuple[Any, Any]:
        find = module_of(clones, "score_sde_pytorch", "models.utils").get_score_fn
        found = find(process, _Called(score), continuous=False)(x, t / (levels - 1))
        std, mean = process.sqrt_1m_alphas_cumprod[t], process.sqrt_alphas_cumprod[t]
        return (x + across(std) ** 2 * found) / across(mean), None

    if sde == "vesde" and not continuous:  # at two of its levels: between them their code has no σ
        levels_of = process.discrete_sigmas[[300, 800]] * (1 if centered else 2)
        return {"denoise": denoise, "sigmas": tuple(levels_of.tolist())}
    if continuous:
        return {"denoise": denoise}
    return {"step": step} if centered else {}


class _Called:
    """What their functions take for a model in evaluation."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def eval(self) -> None:
        pass

    def __call__(self, x: Any, told: Any) -> Any:
        return self.call(x, told)


def stub_compiler() -> None:
    """Their filter is compiled for GPUs as it is imported; on a CPU they run another."""
    stub = types.ModuleType("torch.utils.cpp_extension")
    stub.load = lambda *_, **__: None  # type: ignore[attr-defined]
    sys.modules["torch.utils.cpp_extension"] = stub


def _arguments(rng: Random) -> tuple[Values, Values]:
    levels, name = pick(rng, 1, 2, 2, 3), pick(rng, "ncsnpp", "ncsnpp", "ncsnpp", "ddpm")
    size = 2 ** (levels - 1) * pick(rng, 4, 6)
    sides = [size >> level for level in range(levels)]
    model: Values = {
        "name": name,
        "nf": 32 if name == "ddpm" else pick(rng, 8, 12, 20),
        "ch_mult": [pick(rng, 1, 2) for _ in sides],
        "num_res_blocks": pick(rng, 1, 2),
        "attn_resolutions": [side for side in sides if rng.random() < 0.5],
        "dropout": 0.1,
        "resamp_with_conv": pick(rng, True, True, False),
        "conditional": pick(rng, True, True, True, False),
        "nonlinearity": pick(rng, "swish", "relu", "elu", "lrelu"),
        "normalization": "GroupNorm",
        "scale_by_sigma": pick(rng, True, False),
        "sigma_min": 0.01,
        "sigma_max": pick(rng, 50, 348),
        "num_scales": 1000,
        "beta_min": 0.1,
        "beta_max": 20.0,
        "embedding_type": "positional",
    }
    if name == "ncsnpp":
        model |= {
            "fir": pick(rng, True, False),
            "fir_kernel": pick(rng, [1, 3, 3, 1], [1, 3, 3, 1], [1, 1]),
            "skip_rescale": pick(rng, True, False),
            "resblock_type": pick(rng, "biggan", "ddpm"),
            "progressive": pick(rng, "none", "output_skip", "residual"),
            "progressive_input": pick(rng, "none", "input_skip", "residual"),
            "progressive_combine": pick(rng, "sum", "cat"),
            "embedding_type": pick(rng, "fourier", "positional"),
        }
    return model, {"image_size": size, "num_channels": pick(rng, 3, 1), "centered": pick(rng, True, False)}
