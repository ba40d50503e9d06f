"""Record deepinv's DDRM, DiffPIR and DPS on a shared denoiser, with every draw.

Run:     PYTHON -m benchmarks.record_deepinv [FOLDER], PYTHON with torch and deepinv (jaxdiff is not needed).
         FOLDER is tests/golden/deepinv by default.
Writes:  shared.npz: weights of the denoiser, image, mask, kernel, one measurement an operator, draws, versions.
         METHOD_OPERATOR.npz: what the denoiser was given at each step, and the last image.
         All on [-1, 1], channels last, float32. ``parity_deepinv`` replays them. DDRM and DiffPIR run in float64, since the
         latter's proximal step loses three digits in float32. DPS runs as it is: a state in float64, a network in float32.
Time:    20 seconds on one CPU core.
"""

from __future__ import annotations

import contextlib
import copy
import pathlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from benchmarks._peer import stub_torchvision

stub_torchvision()
import deepinv as dinv  # noqa: E402
from deepinv.sampling.sde_solver import BaseSDESolver  # noqa: E402

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "deepinv"
SHAPE = (3, 12, 16)
STEPS = 8
NOISE = 0.1
"""Of the measurement, on [-1, 1]."""
KERNEL = np.array([[0.02, 0.10, 0.03], [0.01, 0.55, 0.12], [0.06, 0.04, 0.07]], np.float32)
"""Not symmetric, and no frequency of it falls below NOISE, where deepinv's DDRM stops to look at y."""
OPTIONS = {"eta": 0.85, "etab": 0.9, "lambda_": 7.0, "zeta": 0.3, "weight": 20.0}
DATA_STD = 0.7


class Shared(torch.nn.Module):
    """D(x; σ) = c_skip x + c_out F(c_in x, log σ), F two circular convolutions with a tanh between them.

    Attributes:
        unit: whether images are on [0, 1], as deepinv's own denoisers take them; the function is the same.
        seen: each input, on [-1, 1].
    """

    def __init__(self, width: int = 16) -> None:
        """Small random weights."""
        super().__init__()
        self.unit, self.seen = False, []
        shapes = {"first": (width, 3, 3, 3), "bias": (width,), "level": (width,), "second": (3, width, 3, 3)}
        for name, shape in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(0.2 * torch.randn(shape)))

    def forward(self, x: torch.Tensor, sigma: Any, **_: Any) -> torch.Tensor:
        """The denoised image."""
        sigma = torch.as_tensor(sigma, dtype=x.dtype)
        if self.unit:
            x, sigma = 2 * x - 1, 2 * sigma
        self.seen.append(x.detach())
        total = torch.sqrt(sigma**2 + DATA_STD**2)
        bias = self.bias + self.level * torch.log(sigma) / 4
        hidden = torch.tanh(circular(x / total, self.first) + bias.reshape(*bias.shape[:-1], -1, 1, 1))
        found = (DATA_STD / total) ** 2 * x + sigma * DATA_STD / total * circular(hidden, self.second)
        return (found + 1) / 2 if self.unit else found


def circular(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """3×3 cross-correlation of periodic images."""
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="circular"), weight)


def images(count: int) -> torch.Tensor:
    """Soft blobs of saturated colours: many pixels near ±1, so that clipping acts."""
    rough = torch.randn(count, *SHAPE)
    for _ in range(4):
        rough = functional.avg_pool2d(functional.pad(rough, (1, 1, 1, 1), mode="circular"), 3, stride=1)
    return torch.tanh(3 * rough / rough.std())


def train(network: Shared, rounds: int = 400) -> None:
    """Denoising at random levels: few steps, since any function would do."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(rounds):
        x, sigma = images(16), torch.exp(torch.randn(()) * 1.5 - 0.5)
        found = network(x + sigma * torch.randn_like(x), sigma)
        loss = torch.mean((found - x) ** 2) * (1 + (DATA_STD / sigma) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.requires_grad_(False)


class Draws:
    """Standard normal draws that are kept; every run has the same stream."""

    def __init__(self) -> None:
        """Nothing drawn yet."""
        self.random, self.kept = np.random.RandomState(1), []

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """One more, rounded to float32."""
        self.kept.append(torch.from_numpy(self.random.standard_normal(tuple(shape)).astype(np.float32)))
        return self.kept[-1].to(dtype)

    @contextlib.contextmanager
    def record(self) -> Iterator[None]:
        """Replace every source of noise that the three methods use."""

        def shaped(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, **_: Any) -> torch.Tensor:
            return self(shape, dtype)

        def like(x: torch.Tensor, **_: Any) -> torch.Tensor:
            return self(x.shape, x.dtype)

        solver = mock.patch.object(BaseSDESolver, "randn_like", lambda _, x, seed=None: like(x))
        with mock.patch.multiple(torch, randn=shaped, randn_like=like), solver:
            yield


def last(x: torch.Tensor) -> np.ndarray:
    """[..., 1, C, H, W] → [..., H, W, C] in float32."""
    return np.moveaxis(x.detach().to(torch.float32).squeeze(-4).numpy(), -3, -1)


def operators(dtype: torch.dtype) -> dict[str, Any]:
    """The three operators."""
    mask = torch.from_numpy(np.random.RandomState(2).rand(1, *SHAPE[1:]) < 0.5).to(dtype).expand(SHAPE)
    kernel = torch.from_numpy(KERNEL)[None, None].to(dtype)
    return {
        "inpainting": dinv.physics.Inpainting(SHAPE, mask=mask.clone()),
        "blur": dinv.physics.BlurFFT(SHAPE, filter=kernel),
        "downsampling": dinv.physics.Downsampling(SHAPE, filter=kernel, factor=2, padding="circular"),
    }


def run(method: str, physics: Any, network: Shared, y: torch.Tensor) -> torch.Tensor:
    """The restored image on [-1, 1]; deepinv's options are its own defaults but for the numbers."""
    ones = physics.A(torch.ones(1, *SHAPE, dtype=y.dtype))
    network.unit, network.seen = method in ("diffpir", "dps"), []
    physics.noise_model = dinv.physics.GaussianNoise(NOISE / 2 if network.unit else NOISE)
    data = (y + ones) / 2 if network.unit else y.clone()  # DDRM writes into the y that it is given
    if method == "ddrm":
        levels = np.geomspace(10, 0.05, STEPS)
        return dinv.sampling.DDRM(network, levels, eta=OPTIONS["eta"], etab=OPTIONS["etab"])(data, physics)
    if method == "diffpir":
        options = {"sigma": NOISE / 2, "lambda_": OPTIONS["lambda_"], "zeta": OPTIONS["zeta"], "max_iter": STEPS + 1}
        return 2 * dinv.sampling.DiffPIR(network, dinv.optim.data_fidelity.L2(), **options)(data, physics) - 1
    options = {"num_steps": STEPS + 1, "weight": OPTIONS["weight"], "minus_one_one": network.unit}
    found = dinv.sampling.DPS(network, **options)(data, physics)
    return 2 * found - 1 if network.unit else found


RUNS = (
    *(("ddrm", name) for name in ("inpainting", "blur")),
    *(("diffpir", name) for name in ("inpainting", "blur", "downsampling")),
    *(("dps", name) for name in ("inpainting", "blur", "downsampling")),
    ("dps_native", "inpainting"),
)
"""``dps_native``: with ``minus_one_one=False``, where deepinv's clip to [-1, 1] falls on the image's own range."""


def main(folder: pathlib.Path = GOLDEN) -> None:
    """Write the goldens."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Shared()
    train(network)
    x, noise = images(1), torch.randn(1, *SHAPE)
    single, double = operators(torch.float32), operators(torch.float64)
    shared = {name: value.detach().numpy() for name, value in network.named_parameters()}
    shared |= {"image": last(x), "mask": last(single["inpainting"].mask), "kernel": KERNEL}
    shared |= {name: np.float32(value) for name, value in OPTIONS.items()}
    diffpir = dinv.sampling.DiffPIR(network, None)
    shared["alpha_bar"] = diffpir.compute_alpha(diffpir.betas, torch.arange(1000)).numpy()
    shared |= {"deepinv": np.array(dinv.__version__), "torch": np.array(torch.__version__)}
    measured = {}
    for name, physics in single.items():
        clean = physics.A(x)
        measured[name] = clean + NOISE * noise[..., : clean.shape[-2], : clean.shape[-1]]
        shared |= {f"{name}_clean": last(clean), f"{name}_y": last(measured[name])}
    precise = copy.deepcopy(network).double()
    folder.mkdir(parents=True, exist_ok=True)
    for method, name in RUNS:
        draws, guided = Draws(), method.startswith("dps")
        model, physics = (network, single[name]) if guided else (precise, double[name])
        with draws.record():
            found = run(method, physics, model, measured[name] if guided else measured[name].double())
        # DDRM draws in the basis of V: its own V takes the draws to images.
        kept = torch.stack([physics.V(z) if method == "ddrm" else z for z in draws.kept])
        record = {"iterates": last(torch.stack(model.seen)), "output": last(found)}
        if (method, name) == ("ddrm", "blur"):
            record["noise"] = last(kept)
        elif len(kept) > len(shared.get("noise", ())):
            shared["noise"] = last(kept)
        np.savez_compressed(folder / f"{method}_{name}.npz", **record)
        error = float(torch.sqrt(torch.mean((found - x) ** 2)))
        print(f"{method}_{name}: {len(model.seen)} calls, {len(kept)} draws, error {error:.3f}")
    np.savez_compressed(folder / "shared.npz", **shared)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
