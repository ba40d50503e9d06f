"""Random networks of diffusers' UNet2DModel, each with a scheduler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.originals.base import Original, Random, Values, fill, image, labels, pick
from weights_convert.priors import Options


def diffusers(rng: Random, folder: Path, clones: Path | None) -> Original:
    """A UNet2DModel, as a folder with or without the fields that have their default, and with old or new names."""
    import torch
    from diffusers import UNet2DModel

    told = _skip_arguments(rng) if rng.random() < 0.3 else _plain_arguments(rng)
    module = UNet2DModel(**told)
    fill(module, rng)
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

    process = _process(rng, folder, module, fourier)
    shape = image(rng, len(told["block_out_channels"]), told["in_channels"])
    return Original(
        told | {"scheduler": process.pop("scheduler")}, folder, Options(), module, network,
        log_sigmas() if fourier else labels(rng), shape, told["num_class_embeds"], **process,
    )  # fmt: skip


def log_sigmas() -> tuple[float, float]:
    """ln σ of two noise levels, which their code takes the logarithm of itself."""
    return float(np.log(np.float32(0.05))), float(np.log(np.float32(12.0)))


def _process(rng: Random, folder: Path, module: Any, fourier: bool) -> Values:
    """What the scheduler makes of the network: D(x; σ), or x̂₀ and log-variance at a timestep."""
    import diffusers

    learned = module.config.out_channels == 2 * module.config.in_channels
    rest = () if learned else REST  # their steps have no place for a variance
    kind = pick(rng, "ScoreSdeVeScheduler", None) if fourier else pick(rng, *["DDPMScheduler"] * 4, None, *rest)
    if kind is None and not fourier:
        return {"scheduler": None}
    given = _scheduler_arguments(rng, learned) if kind == "DDPMScheduler" else {}
    scheduler = getattr(diffusers, kind or "ScoreSdeVeScheduler")(**given)
    if kind is not None:
        scheduler.save_pretrained(folder)

    def step(x: Any, t: Any, y: Any) -> tuple[Any, Any]:
        import torch

        out, channels = module(x, t, y).sample, x.shape[1]
        # Its tables are of float32. So that their own rounding is known, they are made in float64 for a float64 image.
        scheduler.alphas = 1 - scheduler.betas.to(x.dtype)
        scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
        x0s, logs = [], []
        for one, x_t, time in zip(out, x, t, strict=True):
            x0s.append(scheduler.step(one[None], time, x_t[None]).pred_original_sample)
            variance = scheduler._get_variance(time, predicted_variance=one[None, channels:])
            if scheduler.variance_type == "fixed_small_log":  # a standard deviation, for all its name
                variance = variance**2
            variance = variance if "learned" in scheduler.variance_type else variance.log()
            logs.append(variance.expand(x_t[None].shape))
        return torch.cat(x0s), torch.cat(logs)

    def explode(x: Any, sigma: Any, y: Any) -> Any:
        inside, s = ((x + 1) / 2, sigma / 2) if module.config.center_input_sample else (x, sigma)
        x0 = inside + s[:, None, None, None] ** 2 * module(inside, s, y).sample  # the output is the score
        return 2 * x0 - 1 if module.config.center_input_sample else x0

    def consistent(x: Any, sigma: Any, y: Any) -> Any:
        s = sigma[:, None, None, None]
        skip, out = scheduler.get_scalings_for_boundary_condition(s)
        told = 1000 * 0.25 * (sigma + 1e-44).log()
        return skip * x + out * module(x / (s**2 + 0.25) ** 0.5, told, y).sample

    told = {"scheduler": {"class": kind, **given}}
    if kind == "DDPMScheduler":
        return told | {"step": step}
    return told | {"denoise": consistent if kind == "CMStochasticIterativeScheduler" else explode}


REST = ("ScoreSdeVeScheduler", "CMStochasticIterativeScheduler")


def _scheduler_arguments(rng: Random, learned: bool) -> Values:
    kinds = ("learned_range",) if learned else ("fixed_small", "fixed_small_log", "fixed_large")
    return {
        "num_train_timesteps": pick(rng, 1000, 1000, 400),
        "beta_start": pick(rng, 1e-4, 0.001),
        "beta_end": pick(rng, 0.02, 0.012),
        "beta_schedule": pick(rng, "linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"),
        "prediction_type": pick(rng, "epsilon", "sample", "v_prediction"),
        "variance_type": pick(rng, *kinds),
        "clip_sample": False,
    }


def _replaced(name: str, words: dict[str, str]) -> str:
    for new, old in words.items():
        name = name.replace(f".{new}.", f".{old}.") if "attentions" in name else name
    return name


def _common_arguments(rng: Random) -> Values:
    return {
        "layers_per_block": pick(rng, 1, 1, 1, 2),
        "center_input_sample": pick(rng, False, True),
        "time_embedding_type": pick(rng, "positional", "positional", "fourier"),
        "time_embedding_dim": pick(rng, None, None, 20),
        "freq_shift": pick(rng, 0, 1),
        "flip_sin_to_cos": pick(rng, True, False),
        "mid_block_type": pick(rng, "UNetMidBlock2D", "UNetMidBlock2D", "UNetMidBlock2D", None),
        "mid_block_scale_factor": pick(rng, 1, 2**0.5, 0.7),
        "downsample_padding": pick(rng, 0, 1),
        "downsample_type": pick(rng, "conv", "resnet"),
        "upsample_type": pick(rng, "conv", "resnet"),
        "dropout": pick(rng, 0.0, 0.1),
        "act_fn": pick(rng, "silu", "swish", "mish", "gelu", "relu", "SiLU"),
        "norm_eps": pick(rng, 1e-5, 1e-6, 1e-3),
        "resnet_time_scale_shift": pick(rng, "default", "scale_shift"),
        "add_attention": pick(rng, True, True, False),
        "num_class_embeds": pick(rng, None, None, 5),
        "sample_size": pick(rng, None, 16, [16, 16]),
    }


def _plain_arguments(rng: Random) -> Values:
    levels, groups = pick(rng, 1, 2, 2, 3), pick(rng, 1, 2, 3, 4, 5, 6)
    size = pick(rng, None, 2, 3, 4, 8)
    unit = groups if size is None else int(np.lcm(groups, size))
    widths = [unit * int(rng.integers(1 + 3 // unit, 2 + 24 // unit)) for _ in range(levels)]
    down, up = (
        [pick(rng, "{}Block2D", "Attn{}Block2D", "Resnet{}sampleBlock2D").format(way) for _ in widths]
        for way in ("Down", "Up")
    )
    channels = pick(rng, 3, 3, 1, 4)
    return _common_arguments(rng) | {
        "in_channels": channels,
        "out_channels": channels * pick(rng, 1, 1, 2),
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": up,
        "attention_head_dim": size,
        "norm_num_groups": groups,
        "attn_norm_num_groups": pick(rng, None, None, groups, 1),
    }


def _skip_arguments(rng: Random) -> Values:
    levels, attends = pick(rng, 1, 2, 2, 3), rng.random() < 0.5
    widths = [pick(rng, *((32, 64) if attends else (8, 16, 24))) for _ in range(levels)]
    down, up = (
        [pick(rng, *(["Skip{}Block2D"] + ["AttnSkip{}Block2D"] * attends)).format(way) for _ in widths]
        for way in ("Down", "Up")
    )
    groups = min(widths[0] // 4, 32) if len(set(widths)) == 1 else None
    return _common_arguments(rng) | {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": up,
        "attention_head_dim": pick(rng, None, 8),
        "norm_num_groups": pick(rng, None, groups),
        "attn_norm_num_groups": None,
    }
