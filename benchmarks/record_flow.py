"""Record the authors' FLOWER and PnP-Flow on small Gaussian problems, with every draw.

Run:     PYTHON -m benchmarks.record_flow --flower FOLDER --pnp-flow FOLDER [--out tests/golden/flow.npz]
         PYTHON needs torch; the folders are checkouts of github.com/mehrsapo/Flower and github.com/annegnx/PnP-Flow.
         jaxdiff is not needed.
Writes:  one file: the prior N(mean, covariance) of images 4×4, two matrices A, and of each run y, its draws and its result.
         The flow's velocity is the exact one of this prior. All runs are in float64.
Time:    seconds. tests/samplers/test_flow.py replays the runs.
"""

import argparse
import importlib
import pathlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch

SIZE, STEPS, SIGMA = 16, 10, 0.2
DRAWS = {"flower": 1, "pnp_flow": 3}
"""Draws of a step."""
RATE, ALPHA = 0.8, 0.5
GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "flow.npz"


def world() -> dict[str, np.ndarray]:
    """Prior, matrices and a true image."""
    rng = np.random.default_rng(0)
    row, column = np.arange(SIZE) // 4, np.arange(SIZE) % 4
    covariance = 0.25 * 0.6 ** (np.abs(row[:, None] - row) + np.abs(column[:, None] - column))
    mean = rng.normal(size=SIZE) / 3
    line = np.array([[0.6, 0.4, 0, 0], [0.3, 0.4, 0.3, 0], [0, 0.3, 0.4, 0.3], [0, 0, 0.4, 0.6]])
    return {
        "mean": mean,
        "covariance": covariance,
        "truth": mean + np.linalg.cholesky(covariance) @ rng.normal(size=SIZE),
        "mask": np.eye(SIZE)[rng.permutation(SIZE)[:9]],
        "blur": np.kron(line, line),
    }


class Velocity(torch.nn.Module):
    """v(x, t) = (E[x₀ | x] − x)/(1−t) for x = t x₀ + (1−t) z and x₀ ~ N(mean, covariance)."""

    def __init__(self, mean: np.ndarray, covariance: np.ndarray) -> None:
        """From NumPy arrays."""
        super().__init__()
        self.mean, self.covariance = torch.tensor(mean), torch.tensor(covariance)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x is [1, 1, 4, 4], t is [1]."""
        flat, time = x.reshape(SIZE), t[0]
        spread = time**2 * self.covariance + (1 - time) ** 2 * torch.eye(SIZE)
        gain = time * self.covariance @ torch.linalg.inv(spread)
        x0 = self.mean + gain @ (flat - time * self.mean)
        return ((x0 - flat) / (1 - time)).reshape(x.shape)


class Degradation:
    """A and its transpose, for images [1, 1, 4, 4]."""

    def __init__(self, matrix: np.ndarray) -> None:
        """From a matrix [m, 16]."""
        self.matrix = torch.tensor(matrix)

    def H(self, x: torch.Tensor) -> torch.Tensor:
        """A x."""
        return (self.matrix @ x.reshape(SIZE)).reshape(1, 1, 1, -1)

    def H_adj(self, y: torch.Tensor) -> torch.Tensor:
        """Aᵀ y."""
        return (self.matrix.T @ y.reshape(-1)).reshape(1, 1, 4, 4)


@contextmanager
def checkout(folder: str, kept: list[torch.Tensor]) -> Iterator[None]:
    """The package ``pnpflow`` is that of a checkout; its results go to ``kept`` in place of files."""
    names = ("pnpflow.utils", "pnpflow.image_generation", "pnpflow.image_generation.models",
             "pnpflow.image_generation.models.utils", "torchvision", "torchvision.transforms")  # fmt: skip
    stubs = {name: types.ModuleType(name) for name in names}
    utils = stubs["pnpflow.utils"]
    utils.save_images = lambda clean, noisy, restored, *_, **__: kept.append(restored)
    for name in ("psnr", "ssim", "lpips"):
        setattr(utils, f"compute_{name}", lambda *_, **__: None)
        setattr(utils, f"compute_average_{name}", lambda *_, **__: None)
    with mock.patch.dict(sys.modules, stubs), mock.patch.object(sys, "path", [folder, *sys.path]):
        stubs["pnpflow"] = importlib.import_module("pnpflow")
        for name in names:
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(stubs[parent], last, stubs[name])
        yield


def run(method: str, folder: str, matrix: np.ndarray, here: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """One restoration by the authors' code: y, all draws in their order, and the result."""
    rng, drawn, kept = np.random.default_rng(seed), [], []

    def randn_like(x: torch.Tensor, **_: object) -> torch.Tensor:
        drawn.append(rng.normal(size=tuple(x.shape)))
        return torch.tensor(drawn[-1])

    args = types.SimpleNamespace(
        method=method, model="ot", noise_type="gaussian", num_samples=DRAWS[method], max_batch=1, save_results=True,
        compute_time=False, compute_memory=False, steps=STEPS, steps_pnp=STEPS, lr_pnp=RATE, alpha=ALPHA,
        gamma_style="alpha_1_minus_t",
    )  # fmt: skip
    clean, degradation = torch.tensor(here["truth"]).reshape(1, 1, 4, 4), Degradation(matrix)
    with checkout(folder, kept), mock.patch.object(torch, "randn_like", randn_like):
        kind = getattr(importlib.import_module(f"pnpflow.methods.{method}"), method.upper())
        velocity = Velocity(here["mean"], here["covariance"])
        kind(velocity, torch.device("cpu"), args).solve_ip([(clean, 0)], degradation, SIGMA)
    measured = degradation.H(clean).numpy() + SIGMA * drawn[0]
    draws = np.stack([draw.reshape(4, 4, 1) for draw in drawn[1:]])
    return {"y": measured.ravel(), "draws": draws, "result": kept[-1].numpy().reshape(4, 4, 1)}


def main() -> None:
    """Record all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flower", required=True)
    parser.add_argument("--pnp-flow", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=GOLDEN)
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    here = world()
    out = {name: here[name] for name in ("mean", "covariance", "mask", "blur")}
    out |= {"sigma": np.float64(SIGMA), "steps": np.int64(STEPS), "rate": np.float64(RATE), "alpha": np.float64(ALPHA)}
    for method, folder in (("flower", args.flower), ("pnp_flow", args.pnp_flow)):
        for seed, name in enumerate(("mask", "blur")):
            found = run(method, folder, here[name], here, seed)
            out |= {f"{method}_{name}_{part}": value for part, value in found.items()}
    np.savez_compressed(args.out, **out)


if __name__ == "__main__":
    main()
