"""Record what pytorch-fid makes of pictures and of vectors, with weights that are drawn anew from a seed.

Run:     python -m benchmarks.record_inception tests/golden/inception.npz
Needs:   torch, torchvision and pytorch-fid==0.3.0 (``pip install --no-deps pytorch-fid==0.3.0``); jaxdiff is not needed.
Seen:    CPU, float32: features differ from ours by at most 4.6e-7 of the largest, the distance of two sets by 3.3e-7.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping

import numpy as np

SEED = 20
SIZES = ((64, 64), (299, 299), (320, 240))


def drawn_state(kernels: Mapping[str, tuple[int, ...]], seed: int = SEED) -> dict[str, np.ndarray]:
    """A state dict with random numbers, which neither die out nor grow from layer to layer.

    Args:
        kernels: shape of each convolution's weight [out, in, h, w], by the layer's name.
        seed: of the numbers.
    """
    rng, state = np.random.default_rng(seed), {}
    for layer, shape in sorted(kernels.items()):
        features = shape[0]
        deviation = np.float32((2 / np.prod(shape[1:])) ** 0.5)
        state[f"{layer}.conv.weight"] = rng.standard_normal(shape, np.float32) * deviation
        state[f"{layer}.bn.weight"] = rng.uniform(0.8, 1.2, features).astype(np.float32)
        state[f"{layer}.bn.bias"] = rng.normal(0, 0.1, features).astype(np.float32)
        state[f"{layer}.bn.running_mean"] = rng.normal(0, 0.1, features).astype(np.float32)
        state[f"{layer}.bn.running_var"] = rng.uniform(0.5, 1.5, features).astype(np.float32)
    return state


def pictures(seed: int = SEED) -> list[np.ndarray]:
    """A picture [H, W, 3] in [0, 1] for each size: waves with a little noise."""
    rng, found = np.random.default_rng(seed + 1), []
    for height, width in SIZES:
        down, right = np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij")
        waves = [np.sin(2 * np.pi * (a * down + b * right + c)) for a, b, c in rng.uniform(-4, 4, (3, 3))]
        noisy = 0.5 + 0.35 * np.stack(waves, -1) + 0.05 * rng.standard_normal((height, width, 3))
        found.append((np.clip(noisy, 0, 1) * 255).round().astype(np.float32) / 255)
    return found


def vectors(seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of vectors, [60, 24] and [40, 24], correlated and of different means."""
    rng = np.random.default_rng(seed + 2)
    mixing = rng.standard_normal((2, 24, 24)) / 5
    return rng.standard_normal((60, 24)) @ mixing[0] + 0.1, rng.standard_normal((40, 24)) @ mixing[1]


def main(out: str) -> None:
    """Run pytorch-fid, write its numbers."""
    import torch
    from pytorch_fid import fid_score, inception

    whole = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None).state_dict()
    end = ".conv.weight"
    state = drawn_state({name.removesuffix(end): tuple(v.shape) for name, v in whole.items() if name.endswith(end)})
    inception.load_state_dict_from_url = lambda *_, **__: whole | {k: torch.from_numpy(v) for k, v in state.items()}
    network = inception.InceptionV3([3]).eval()
    recorded = {}
    with torch.no_grad():
        for (height, width), picture in zip(SIZES, pictures(), strict=True):
            found = network(torch.from_numpy(picture.transpose(2, 0, 1).copy())[None])[0]
            recorded[f"{height}x{width}"] = found[0, :, 0, 0].numpy()
    a, b = vectors()
    moments = [(each.mean(0), np.cov(each, rowvar=False)) for each in (a, b)]
    recorded["fid"] = np.float64(fid_score.calculate_frechet_distance(*moments[0], *moments[1]))
    pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **recorded)


if __name__ == "__main__":
    main(sys.argv[1])
