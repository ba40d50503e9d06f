"""Random networks of OpenAI's guided-diffusion, improved-diffusion and consistency models."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from benchmarks.originals.base import Original, Random, Values, fill, image, labels, module_of, pick
from weights_convert.infer import Hidden
from weights_convert.priors import Options


def guided_diffusion(rng: Random, folder: Path, clones: Path | None) -> Original:
    """A UNet of guided-diffusion with every flag of its script."""
    told = _common(rng) | _heads(rng)
    told |= {"resblock_updown": pick(rng, True, False), "use_new_attention_order": pick(rng, True, False)}
    return _with_process(rng, folder, clones, "guided-diffusion", "guided_diffusion", told)


def improved_diffusion(rng: Random, folder: Path, clones: Path | None) -> Original:
    """A UNet of improved-diffusion."""
    # Its head takes model_channels, and its AvgPool2d has no size: other values make a network that fails.
    told = _common(rng) | {"conv_resample": True}
    told |= {"channel_mult": [1, *told["channel_mult"][1:]]}
    told |= {"num_heads": pick(rng, 1, 2, 4), "num_heads_upsample": pick(rng, -1, -1, 2)}
    return _with_process(rng, folder, clones, "improved-diffusion", "improved_diffusion", told)


def _common(rng: Random) -> Values:
    levels, channels = pick(rng, 1, 2, 2, 3), pick(rng, 3, 3, 1)
    return {
        "image_size": 2 ** (levels - 1) * 4,
        "in_channels": channels,
        "out_channels": channels * pick(rng, 1, 2),
        "model_channels": pick(rng, 32, 32, 64),
        "num_res_blocks": pick(rng, 1, 1, 2),
        "attention_resolutions": [2**i for i in range(levels) if rng.random() < 0.5],
        "channel_mult": [pick(rng, 1, 2, 3) for _ in range(levels)],
        "dropout": pick(rng, 0.0, 0.1),
        "use_scale_shift_norm": pick(rng, True, False),
        "conv_resample": pick(rng, True, True, False),
        "num_classes": pick(rng, None, None, 5),
    }


def _heads(rng: Random) -> Values:
    """Heads by number or by channels, and perhaps others on the way up, where the number decides."""
    if rng.random() < 0.5:
        return {"num_head_channels": pick(rng, 8, 16, 32), "num_heads": pick(rng, 1, 4)}
    return {"num_heads": pick(rng, 1, 2, 4), "num_heads_upsample": pick(rng, -1, -1, 2, 8)}


def _hidden_heads(told: Values) -> Values:
    """The heads in the words of ``jaxdiff convert``."""
    if told.get("num_head_channels", -1) != -1:
        return {"num_head_channels": told["num_head_channels"]}
    up = told.get("num_heads_upsample", -1)
    return {"num_heads": told["num_heads"], "num_heads_upsample": None if up == -1 else up}


def _with_process(
    rng: Random, folder: Path, clones: Path | None, repository: str, package: str, told: Values
) -> Original:
    import torch

    unet, script = (module_of(clones, repository, f"{package}.{name}") for name in ("unet", "script_util"))
    size = told if repository == "guided-diffusion" else {k: v for k, v in told.items() if k != "image_size"}
    module = unet.UNetModel(**size)
    fill(module, rng)
    learned = told["out_channels"] == 2 * told["in_channels"]
    small = pick(rng, False, True)
    process = {
        "steps": pick(rng, 1000, 1000, 4000, 250),
        "noise_schedule": pick(rng, "linear", "cosine"),
        "predict_xstart": pick(rng, False, False, True),
        "rescale_timesteps": pick(rng, False, True),
    }
    diffusion = script.create_gaussian_diffusion(**process, learn_sigma=learned, sigma_small=small)
    path = folder / "ema_0.9999_000010.pt"
    torch.save(module.state_dict(), path)
    hidden = Hidden(
        image_size=told["image_size"], **_hidden_heads(told),
        attention_order="new" if told.get("use_new_attention_order") else "legacy",
        schedule=process["noise_schedule"], num_steps=process["steps"], rescale_timesteps=process["rescale_timesteps"],
        prediction="x0" if process["predict_xstart"] else "eps", variance="fixed_small" if small and not learned else None,
    )  # fmt: skip

    def step(x: Any, t: Any, y: Any) -> tuple[Any, Any]:
        named = {} if y is None else {"y": y}
        found = diffusion.p_mean_variance(module, x, t, clip_denoised=False, model_kwargs=named)
        return found["pred_xstart"], found["log_variance"]

    network = lambda x, label, y: module(x, label, y)  # noqa: E731
    return Original(
        {**told, **process}, path, Options(hidden=hidden), module, network, labels(rng),
        image(rng, len(told["channel_mult"]), told["in_channels"]), told["num_classes"], step=step,
    )  # fmt: skip


# --- consistency models ---------------------------------------------------------------


def consistency(rng: Random, folder: Path, clones: Path | None) -> Original:
    """A UNet of consistency_models. Its attention calls a CUDA kernel; here a softmax takes the kernel's place."""
    import torch

    stub_flash_attention()
    script = module_of(clones, "consistency_models", "cm.unet")
    told = _common(rng) | {"in_channels": 3, "out_channels": 3}
    told |= {"num_head_channels": pick(rng, 16, 32)}  # its attention takes heads of 16, 32 and 64 channels only
    told |= {"resblock_updown": pick(rng, True, False), "use_new_attention_order": pick(rng, True, False)}
    module = script.UNetModel(**told)
    fill(module, rng)
    path = folder / "model.pt"
    torch.save(module.state_dict(), path)
    kind = pick(rng, "edm", "cd", "ct")
    hidden = Hidden(image_size=told["image_size"], **_hidden_heads(told))
    denoiser = _denoiser(clones, distillation=kind != "edm")

    def denoise(x: Any, sigma: Any, y: Any) -> Any:
        named = {} if y is None else {"y": y}
        return denoiser.denoise(module, x, sigma, **named)[1]

    return Original(
        {"kind": kind, **told}, path, Options(config=kind, hidden=hidden), module, module, (-200.5, 300.0),
        image(rng, len(told["channel_mult"]), 3), told["num_classes"], False, denoise,
    )  # fmt: skip


def _denoiser(clones: Path | None, *, distillation: bool) -> Any:
    """The authors' preconditioning. It imports packages for training and metrics, which D(x; σ) does not need."""
    for name in ("piq", "mpi4py", "blobfile"):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            stub = types.ModuleType(name)
            stub.LPIPS = stub.MPI = None  # type: ignore[attr-defined]
            sys.modules[name] = stub
    made = module_of(clones, "consistency_models", "cm.karras_diffusion").KarrasDenoiser
    return made(sigma_data=0.5, sigma_max=80.0, sigma_min=0.002, distillation=distillation, loss_norm="l2")


def stub_flash_attention() -> None:
    """A softmax under the name of the package whose CUDA kernel consistency_models calls."""
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
