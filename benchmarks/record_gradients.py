"""Record input gradients of the authors' networks, which ``parity_families`` compares with ours.

Run:     python -m benchmarks.record_gradients --originals FOLDER
Needs:   torch and diffusers, and clones in FOLDER (``benchmarks.originals`` names them).
Shows:   how far the authors' output is from the recorded one; writes tests/golden/families/gradients.npz with
         ∇ₓ⟨v, F(x)⟩ of each recorded network, where v is ``projection`` and F is the output that is not divided by σ.
Time:    20 seconds on two CPU cores.
"""

from __future__ import annotations

import argparse
import types
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.originals import _module_of, _stub_compiler, _stub_flash_attention
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
        return getattr(_module_of(clones, "edm", "training.networks"), case["class_name"])(
            **config | {"use_fp16": False}
        )
    if family == "consistency_models":
        _stub_flash_attention()
        return _module_of(clones, "consistency_models", "cm.unet").UNetModel(**config)
    data = types.SimpleNamespace(image_size=case.get("image_size", config.pop("image_size", 0)), num_channels=3)
    if family == "pesser":
        config |= {"in_channels": 3, "dropout": 0.0, "resamp_with_conv": True, "type": "simple"}
        steps = types.SimpleNamespace(num_diffusion_timesteps=1000)
        made = types.SimpleNamespace(model=types.SimpleNamespace(**config), data=data, diffusion=steps)
        return _module_of(clones, "SDEdit", "models.diffusion").Model(made)
    _stub_compiler()
    models = _module_of(clones, "score_sde_pytorch", "models.utils")
    _module_of(clones, "score_sde_pytorch", f"models.{case['model']['name']}")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--originals", type=Path, required=True, help="folder of clones")
    args = parser.parse_args()
    np.savez_compressed(
        GOLDEN / "gradients.npz", **{name: gradient(name, case, args.originals) for name, case in cases().items()}
    )


if __name__ == "__main__":
    main()
