"""Record input gradients of the authors' networks and their features of noise labels, which tests compare with ours.

Run:     python -m benchmarks.record_gradients --originals FOLDER
Needs:   torch and diffusers, and clones in FOLDER (``benchmarks.originals`` names them).
Shows:   how far the authors' output is from the recorded one; writes tests/golden/families/gradients.npz with
         ∇ₓ⟨v, F(x)⟩ of each recorded network, where v is ``projection`` and F is the output that is not divided by σ; and
         features.npz with sinusoids and Fourier features.
Time:    20 seconds on two CPU cores.
"""

from __future__ import annotations

import argparse
import types
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.originals.base import module_of as clone_module
from benchmarks.originals.openai import stub_flash_attention
from benchmarks.originals.score_sde import stub_compiler
from benchmarks.parity_families import GOLDEN, cases, error, projection
from benchmarks.parity_unet import recipe
from weights_convert.sources import read_source

Case = dict[str, Any]


def module_of(case: Case, clones: Path) -> Any:
    """The authors' network, without weights."""
    family, config = case["family"], dict(case.get("config", {}))
    if family == "diffusers":
        from diffusers import UNet2DModel

        return UNet2DModel(**config)
    if family == "edm":
        return getattr(clone_module(clones, "edm", "training.networks"), case["class_name"])(
            **config | {"use_fp16": False}
        )
    if family == "consistency_models":
        stub_flash_attention()
        return clone_module(clones, "consistency_models", "cm.unet").UNetModel(**config)
    data = types.SimpleNamespace(image_size=case.get("image_size", config.pop("image_size", 0)), num_channels=3)
    if family == "pesser":
        config |= {"in_channels": 3, "dropout": 0.0, "resamp_with_conv": True, "type": "simple"}
        steps = types.SimpleNamespace(num_diffusion_timesteps=1000)
        made = types.SimpleNamespace(model=types.SimpleNamespace(**config), data=data, diffusion=steps)
        return clone_module(clones, "SDEdit", "models.diffusion").Model(made)
    stub_compiler()
    models = clone_module(clones, "score_sde_pytorch", "models.utils")
    clone_module(clones, "score_sde_pytorch", f"models.{case['model']['name']}")
    data.centered, training = case["centered"], types.SimpleNamespace(continuous=case["continuous"])
    made = types.SimpleNamespace(model=types.SimpleNamespace(**case["model"]), data=data, training=training)
    return models.get_model(case["model"]["name"])(made)


def load(module: Any, case: Case) -> Any:
    """The network with its recorded weights."""
    import torch

    own = module.state_dict()
    if case["file"] is None:
        weights = recipe({name: tuple(value.shape) for name, value in own.items() if "resample_filter" not in name})
    else:
        source = read_source(GOLDEN / case["file"])
        weights = {name: value for part in (source.tensors, source.unused) for name, value in part.items()}
    given = {
        name: torch.from_numpy(np.array(value, np.float32)).reshape(own[name].shape) for name, value in weights.items()
    }
    missing = module.load_state_dict(given, strict=False).missing_keys
    if wrong := [name for name in missing if not name.endswith(("sigmas", "resample_filter"))]:
        raise ValueError(f"{case['npz']} has no {', '.join(wrong)}.")
    return module.eval()


def gradient(name: str, case: Case, clones: Path) -> np.ndarray:
    """∇ₓ⟨v, F(x)⟩, [N, C, H, W]; prints how near the output is to the recorded one."""
    import torch

    with np.load(GOLDEN / case["npz"]) as file:
        arrays = {key: torch.from_numpy(value) for key, value in file.items()}
    module, timed = load(module_of(case, clones), case), "net_x" not in arrays
    x = arrays["x" if timed else "net_x"].clone().requires_grad_()
    label = next(arrays[key] for key in ("net_t", "labels", "t", "sigma") if key in arrays).flatten()
    if case["family"] == "diffusers":
        out = module(x, label).sample
    elif case["family"] == "edm":
        out = module.model(x, label, arrays.get("labels"))
    else:
        out = module(x, label, *([arrays["y"]] if "y" in arrays else []))
    recorded = arrays["out" if timed else "F"].numpy()
    print(f"{name:26s} output {error(out.detach().numpy(), recorded):.1e}")
    divisor = label[:, None, None, None] if "x0" in arrays else 1.0
    (out * divisor * torch.from_numpy(projection(recorded.shape))).sum().backward()
    return x.grad.numpy()


LABELS, LOG_SIGMAS = (0.25, 17.0, 250.25, 999.0), (-3.0, 0.7, 3.9)
"""Timesteps, and logarithms of noise levels, whose features are recorded."""


def features(clones: Path) -> dict[str, np.ndarray]:
    """Features [N, C] as "CODE C SHIFT" or "CODE fourier", and the frequencies of the latter; the sines come first."""
    import torch
    from diffusers.models import embeddings

    t, log_sigma, found = torch.tensor(LABELS), torch.tensor(LOG_SIGMAS), dict[str, torch.Tensor]()
    edm = clone_module(clones, "edm", "training.networks")
    for dim in (16, 128):
        for shift in (0, 1):
            found[f"diffusers {dim} {shift}"] = embeddings.get_timestep_embedding(t, dim, False, shift)
            waves = edm.PositionalEmbedding(dim, endpoint=bool(shift))(t)
            found[f"edm {dim} {shift}"] = torch.cat(waves.split(dim // 2, 1)[::-1], 1)
    fourier = edm.FourierEmbedding(64, scale=16)
    found |= {"frequencies": fourier.freqs, "edm fourier": torch.cat(fourier(log_sigma).split(32, 1)[::-1], 1)}
    stub_compiler()
    for dim in (16, 128):
        embed = clone_module(clones, "score_sde_pytorch", "models.layers").get_timestep_embedding
        found[f"score_sde {dim} 1"] = embed(t, dim)
    ours = clone_module(clones, "score_sde_pytorch", "models.layerspp").GaussianFourierProjection(32, scale=16)
    theirs = embeddings.GaussianFourierProjection(32, log=False)
    for code, module, name in (("score_sde", ours, "W"), ("diffusers", theirs, "weight")):
        getattr(module, name).data.copy_(fourier.freqs)
        found[f"{code} fourier"] = module(log_sigma)
    return {name: value.detach().numpy() for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--originals", type=Path, required=True, help="folder of clones")
    args = parser.parse_args()
    np.savez_compressed(GOLDEN / "features.npz", **features(args.originals))
    np.savez_compressed(
        GOLDEN / "gradients.npz", **{name: gradient(name, case, args.originals) for name, case in cases().items()}
    )


if __name__ == "__main__":
    main()
