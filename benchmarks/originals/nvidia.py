"""Random networks of NVIDIA's EDM."""

from __future__ import annotations

import pickle
from pathlib import Path

from benchmarks.originals.base import Original, Random, Values, fill, image, labels, module_of, pick
from weights_convert.priors import Options


def edm(rng: Random, folder: Path, clones: Path | None) -> Original:
    """A preconditioned SongUNet or DhariwalUNet, as a pickle with its source text or as a bare state dict."""
    import torch

    networks = module_of(clones, "edm", "training.networks")
    told, kind = _edm_arguments(rng), pick(rng, "EDMPrecond", "EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond")
    module = getattr(networks, kind)(**told)
    fill(module, rng)
    path, options = folder / "network-snapshot-000000.pkl", Options()
    if rng.random() < 0.3 and len(told.get("resample_filter", "")) < 5:  # as InverseBench: no arguments in the file
        options = Options(config=kind.lower().removesuffix("precond"))
        path = folder / "ffhq.pt"
        torch.save({"net": module.state_dict(), "ema": module.state_dict()}, path)
    else:
        path.write_bytes(pickle.dumps({"ema": module, "loss_fn": None, "dataset_kwargs": {"path": "x.zip"}}))
    return Original(
        {"class": kind, **told}, path, options, module, module.model,
        labels(rng) if kind in ("VPPrecond", "iDDPMPrecond") else (-1.2, 0.8),
        image(rng, len(told["channel_mult"]), told["img_channels"]), told["label_dim"] or None, True, module,
    )  # fmt: skip


def _edm_arguments(rng: Random) -> Values:
    levels = pick(rng, 1, 2, 2, 3)
    size = 2 ** (levels - 1) * pick(rng, 2, 4, 6)
    sides = [size >> level for level in range(levels)]
    told: Values = {
        "img_resolution": size,
        "img_channels": pick(rng, 3, 1, 2),
        "label_dim": pick(rng, 0, 0, 4),
        "augment_dim": pick(rng, 0, 9),
        "channel_mult": [pick(rng, 1, 2, 3) for _ in sides],
        "num_blocks": pick(rng, 1, 2),
        "attn_resolutions": [side for side in sides if rng.random() < 0.5],
        "dropout": pick(rng, 0.0, 0.1),
        "label_dropout": pick(rng, 0, 0.1),
        "channel_mult_emb": pick(rng, 4, 1, 2),
    }
    if rng.random() < 0.35:
        return told | {"model_type": "DhariwalUNet", "model_channels": pick(rng, 16, 32, 64)}
    told |= {
        "model_type": "SongUNet",
        "model_channels": pick(rng, 8, 12, 20),
        "embedding_type": pick(rng, "positional", "fourier"),
        "channel_mult_noise": pick(rng, 1, 2),
        "encoder_type": pick(rng, "standard", "skip", "residual"),
        "decoder_type": pick(rng, "standard", "skip"),
        "resample_filter": pick(rng, [1, 1], [1, 3, 3, 1], [1, 5, 10, 10, 5, 1]),
    }
    gone = [n for n in ("label_dropout", "channel_mult_emb", "embedding_type", "encoder_type") if rng.random() < 0.2]
    return {name: value for name, value in told.items() if name not in gone}
