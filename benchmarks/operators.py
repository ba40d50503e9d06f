"""How long do one application and one adjoint of each operator take at 256x256, next to deepinv where it has the operator?

Run:     python -m benchmarks.operators [--peer PYTHON] [--rounds 9] [--only NAME,NAME]
         PYTHON is the interpreter of an environment with torch and deepinv. The operators run there in a second process,
         which takes turns with this one, round by round. Without it, only jaxdiff is timed.
Needs:   for the peer, ``pip install torch deepinv`` (any build of torch; torchvision is stubbed where it does not load).
Shows:   median microseconds a call over all rounds, one image, float32, compiled (jaxdiff) and under no_grad (deepinv), and
         the relative L2 difference of the two measurements. "solve" is (AᵀA + I)⁻¹ b, deepinv's ``prox_l2``. "in a loop"
         is one of ten gradient steps x ← x − 1e-3 Aᵀ(Ax), one compiled program here. That is what an operator costs in a
         sampler, where no call is dispatched from Python.
Time:    3 minutes with the peer.
Seen:    docs/operators.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._peer import Peer, block, serve, stub_torchvision

SIDE = 256
CASES = (
    "gaussian_blur",
    "gaussian_blur_circular",
    "motion_blur",
    "varying_blur",
    "inpaint_random",
    "super_resolution",
    "blur_downsample",
    "bayer_mosaic",
    "grayscale",
    "mri",
    "mri_multicoil",
    "ct",
    "single_pixel_camera",
)
ONLY_OURS = (
    "block_average",
    "compressed_sensing",
    "phase_retrieval",
    "coded_phase_retrieval",
    "high_dynamic_range",
    "quantize",
    "jpeg",
    "camera_blur",
)
STEPS = 10
TITLES = ("A", "adjoint", "solve", "in a loop")
SOLVED = ("gaussian_blur", "gaussian_blur_circular", "inpaint_random", "super_resolution", "blur_downsample", "mri")


def image(name: str) -> np.ndarray:
    """The image that a case is applied to, [H, W, C]: complex in two channels for resonance, one for tomography."""
    channels = {"mri": 2, "mri_multicoil": 2, "ct": 1}.get(name, 3)
    return np.random.RandomState(0).uniform(-1, 1, (SIDE, SIDE, channels)).astype(np.float32)


def kernels() -> np.ndarray:
    """Five kernels, 61x61: DPS's Gaussian, then four random ones that stand for motion."""
    offsets = np.arange(61) - 30
    taps = np.where(np.abs(offsets) <= 12, np.exp(-0.5 * (offsets / 3.0) ** 2), 0)
    random = np.random.RandomState(1).uniform(size=(4, 61, 61)) ** 8
    all_kernels = np.concatenate([np.outer(taps, taps)[None], random])
    return (all_kernels / all_kernels.sum(axis=(1, 2), keepdims=True)).astype(np.float32)


def blends() -> np.ndarray:
    """Weights of four kernels, blended from left to right, [4, H, W]."""
    place = np.linspace(0, 3, SIDE)
    ramps = np.maximum(0, 1 - np.abs(place[None, :] - np.arange(4)[:, None]))
    return np.broadcast_to(ramps[:, None, :], (4, SIDE, SIDE)).astype(np.float32)


def masks() -> tuple[np.ndarray, np.ndarray]:
    """A mask of pixels (30 % kept) and one of columns (a quarter kept), [H, W]."""
    random = np.random.RandomState(2)
    pixels = random.uniform(size=(SIDE, SIDE)) < 0.3
    columns = np.broadcast_to(random.uniform(size=SIDE) < 0.25, (SIDE, SIDE))
    return pixels.astype(np.float32), columns.astype(np.float32)


def coils() -> np.ndarray:
    """Sensitivities of eight coils, complex [8, H, W]."""
    row, column = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    angle = np.arange(8)[:, None, None] * np.pi / 4
    return np.exp(-4 * ((row - np.sin(angle) / 2) ** 2 + (column - np.cos(angle) / 2) ** 2) + 1j * angle).astype("c8")


Calls = tuple[Callable[[], object] | None, ...]


def our_operator(name: str, shape: tuple[int, ...]) -> Any:
    """The operator in jaxdiff."""
    import jax

    from jaxdiff import operators as ops

    key, k = jax.random.key(0), kernels()
    pixels, columns = masks()
    make: dict[str, Callable[[], Any]] = {
        "gaussian_blur": lambda: ops.gaussian_blur(image_shape=shape),
        "gaussian_blur_circular": lambda: ops.blur(image_shape=shape, kernel=k[0], padding="circular"),
        "motion_blur": lambda: ops.blur(image_shape=shape, kernel=k[1]),
        "varying_blur": lambda: ops.varying_blur(image_shape=shape, kernels=k[1:], weights=blends()),
        "inpaint_random": lambda: ops.inpaint_mask(image_shape=shape, mask=pixels),
        "super_resolution": lambda: ops.super_resolution(image_shape=shape, factor=4),
        "blur_downsample": lambda: ops.blur_downsample(image_shape=shape, kernel=k[0], factor=4),
        "bayer_mosaic": lambda: ops.bayer_mosaic(image_shape=shape, pattern="bggr"),
        "grayscale": lambda: ops.grayscale(image_shape=shape, weights="luma"),
        "mri": lambda: ops.mri(image_shape=shape, mask=columns, complex_image=True),
        "mri_multicoil": lambda: ops.multicoil_mri(
            image_shape=shape, mask=columns, sensitivities=coils(), complex_image=True
        ),
        "ct": lambda: ops.ct(image_shape=shape, angles=60),
        "single_pixel_camera": lambda: ops.single_pixel_camera(image_shape=shape, ratio=0.25),
        "block_average": lambda: ops.block_average(image_shape=shape, factor=4),
        "compressed_sensing": lambda: ops.compressed_sensing(key, image_shape=shape, ratio=0.25),
        "phase_retrieval": lambda: ops.phase_retrieval(image_shape=shape),
        "coded_phase_retrieval": lambda: ops.coded_phase_retrieval(key, image_shape=shape),
        "high_dynamic_range": lambda: ops.high_dynamic_range(image_shape=shape),
        "quantize": lambda: ops.quantize(image_shape=shape),
        "jpeg": lambda: ops.jpeg(image_shape=shape),
        "camera_blur": lambda: ops.camera_blur(image_shape=shape, kernel=k[1]),
    }
    return make[name]()


def ours(name: str) -> tuple[Calls, np.ndarray]:
    """The calls to time (in the order of ``TITLES``) and the measurement, by jaxdiff."""
    import jax
    import jax.numpy as jnp

    from jaxdiff.operators import LinearOperator

    x = jnp.asarray(image(name))
    operator = our_operator(name, x.shape)
    linear = isinstance(operator, LinearOperator)
    measure = jax.jit(lambda o, x: o(x))
    back = jax.jit(lambda o, x, u: o.adjoint(u) if linear else jax.vjp(o, x)[1](u)[0])
    solve = jax.jit(lambda o, x: o.solve(jnp.float32(1), x))
    descend = jax.jit(lambda o, x: jax.lax.fori_loop(0, STEPS, lambda _, x: x - 1e-3 * o.adjoint(o(x)), x))
    y = measure(operator, x)
    calls: list[Callable[[], object]] = [lambda: measure(operator, x), lambda: back(operator, x, y)]
    ready: list[Callable[[], object] | None] = [lambda call=call: jax.block_until_ready(call()) for call in calls]
    ready.append((lambda: jax.block_until_ready(solve(operator, x))) if name in SOLVED else None)
    ready.append((lambda: jax.block_until_ready(descend(operator, x))) if linear else None)
    return tuple(ready), np.asarray(y)


def their_operator(name: str, size: tuple[int, ...]) -> Any:
    """The operator in deepinv."""
    import torch
    from deepinv import physics

    k = torch.from_numpy(kernels())[:, None]
    pixels, columns = (torch.from_numpy(mask.copy())[None, None] for mask in masks())
    make: dict[str, Callable[[], Any]] = {
        "gaussian_blur": lambda: physics.Blur(filter=k[:1], padding="reflect"),
        "gaussian_blur_circular": lambda: physics.BlurFFT(img_size=size, filter=k[:1]),
        "motion_blur": lambda: physics.Blur(filter=k[1:2].flip(-1, -2), padding="reflect"),
        "varying_blur": lambda: physics.SpaceVaryingBlur(
            filters=k[1:, 0].flip(-1, -2)[None, None],
            multipliers=torch.from_numpy(blends())[None, None],
            padding="reflect",
        ),
        "inpaint_random": lambda: physics.Inpainting(img_size=size, mask=pixels[0]),
        "super_resolution": lambda: physics.DownsamplingMatlab(factor=4),
        "blur_downsample": lambda: physics.Downsampling(img_size=size, filter=k[:1], factor=4, padding="circular"),
        "bayer_mosaic": lambda: physics.Demosaicing(img_size=size),
        "grayscale": lambda: physics.Decolorize(),
        "mri": lambda: physics.MRI(mask=columns, img_size=(SIDE, SIDE)),
        "mri_multicoil": lambda: physics.MultiCoilMRI(
            mask=columns, coil_maps=torch.from_numpy(coils())[None], img_size=(SIDE, SIDE)
        ),
        "ct": lambda: physics.Tomography(angles=60, img_width=SIDE, circle=False, normalize=False),
        "single_pixel_camera": lambda: physics.SinglePixelCamera(m=SIDE * SIDE // 4, img_size=size),
    }
    return make[name]()


def theirs(name: str) -> tuple[Calls, np.ndarray]:
    """The same by deepinv."""
    import torch

    stub_torchvision()
    torch.set_grad_enabled(False)
    x = torch.from_numpy(np.ascontiguousarray(image(name).transpose(2, 0, 1)))[None]
    operator = their_operator(name, tuple(x.shape[1:]))
    y = operator.A(x)

    def adjoint() -> object:
        # Some adjoints go through torch's autograd.
        with torch.enable_grad():
            return operator.A_adjoint(y)

    solve = None
    if name in SOLVED:
        at_zero = torch.zeros_like(y)
        # prox_l2 solves (AᵀA + 1/γ) x = Aᵀ y + z/γ.
        solve = lambda: operator.prox_l2(x, at_zero, 1.0)  # noqa: E731

    def descend() -> object:
        z = x
        for _ in range(STEPS):
            z = z - 1e-3 * operator.A_adjoint(operator.A(z))
        return z

    return (lambda: operator.A(x), adjoint, solve, descend), y.numpy()


def server() -> Callable[..., list[float]]:
    """What the second process answers with: the times of the call that it is told to make."""
    calls: dict[str, tuple[Calls, np.ndarray]] = {}

    def answer(name: str, which: int = 0, save: str | None = None) -> list[float]:
        if name not in calls:
            calls.clear()
            calls[name] = theirs(name)
        if save is not None:
            np.save(save, calls[name][1])
            return []
        call = calls[name][0][which]
        return block(call) if call is not None else []

    return answer


def difference(name: str, mine: np.ndarray, other: np.ndarray) -> float:
    """Relative L2 difference of the two measurements, ours brought into their layout."""
    if name == "bayer_mosaic":  # [H, W, 1] against three channels, zero where not measured
        mine = mine.transpose(2, 0, 1)
        other = other.sum(axis=1, keepdims=True)
    elif name == "mri":  # [H, W, 1, 2] against [1, 2, H, W]
        mine = mine[:, :, 0].transpose(2, 0, 1)
    elif name == "mri_multicoil":  # [coils, H, W, 1, 2] against [1, 2, coils, H, W]
        mine = mine[:, :, :, 0].transpose(3, 0, 1, 2)
    elif name == "single_pixel_camera":
        return float("nan")  # shown as nan: another order of the patterns, kept on a full grid
    else:
        mine = mine.transpose(2, 0, 1)
    return float(np.linalg.norm(mine - other[0]) / np.linalg.norm(other))


def main() -> None:
    """Time everything and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", help="interpreter of an environment with torch and deepinv")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    if options.serve:
        return serve(server())
    peer = Peer(options.peer, "benchmarks.operators") if options.peer else None
    print("| operator | call | jaxdiff µs | deepinv µs | ratio | difference of A(x) |\n|---|---|---|---|---|---|")
    for name in CASES + ONLY_OURS:
        if options.only and name not in options.only.split(","):
            continue
        calls, y = ours(name)
        other = peer if name in CASES else None
        apart = ""
        if other is not None:
            with tempfile.TemporaryDirectory() as folder:
                other.ask(name=name, save=f"{folder}/y.npy")
                apart = f"{difference(name, y, np.load(f'{folder}/y.npy')):.1e}"
        for which, (title, call) in enumerate(zip(TITLES, calls, strict=True)):
            if call is None:
                continue
            repeats = STEPS if title == "in a loop" else 1
            block(call)
            mine: list[float] = []
            yours: list[float] = []
            for _ in range(options.rounds):
                mine += block(call)
                if other is not None:
                    yours += other.ask(name=name, which=which)
            a, b = statistics.median(mine) / repeats, statistics.median(yours) / repeats if yours else None
            theirs_text, ratio = (f"{b:,.0f}", f"{b / a:.1f}") if b else ("", "")
            shown = "gradient" if title == "adjoint" and name in ONLY_OURS[2:] else title
            print(f"| {name} | {shown} | {a:,.0f} | {theirs_text} | {ratio} | {apart} |", flush=True)
            apart = ""
    return None


if __name__ == "__main__":
    main()
