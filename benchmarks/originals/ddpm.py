"""Random networks of the PyTorch port of DDPM, by SDEdit's code."""

from __future__ import annotations

import types
from pathlib import Path

from benchmarks.originals.base import Original, Random, fill, labels, module_of, pick
from weights_convert.infer import Hidden
from weights_convert.priors import Options


def ddpm(rng: Random, folder: Path, clones: Path | None) -> Original:
    """The port of DDPM as a bare state dict."""
    import torch

    port = module_of(clones, "SDEdit", "models.diffusion")
    levels = pick(rng, 1, 2, 2, 3)
    size = 2 ** (levels - 1) * 4
    told = {
        "ch": 32,
        "out_ch": pick(rng, 3, 3, 6),
        "ch_mult": [pick(rng, 1, 2) for _ in range(levels)],
        "num_res_blocks": pick(rng, 1, 2),
        "attn_resolutions": [size >> i for i in range(levels) if rng.random() < 0.5],
        "dropout": 0.0,
        "in_channels": 3,
        "resamp_with_conv": pick(rng, True, True, False),
    }
    made = types.SimpleNamespace(
        model=types.SimpleNamespace(**told, type="simple"),
        data=types.SimpleNamespace(image_size=size),
        diffusion=types.SimpleNamespace(num_diffusion_timesteps=1000),
    )
    module = port.Model(made)
    fill(module, rng)
    path = folder / "celeba.ckpt"
    torch.save(module.state_dict(), path)
    network = lambda x, label, y: module(x, label)  # noqa: E731
    options = Options(hidden=Hidden(image_size=size))
    return Original(told, path, options, module, network, labels(rng), (size, size, 3))
