"""What does ``jd.fast_cpu`` bring, and how near to the machine's limit does training come? Processes take turns.

Run:     python -m benchmarks.fast_cpu [--rounds 5] [--only convolution,training] [--python PYTHON …]
         One process runs with ``JAXDIFF_FAST=off`` and one with it on, for this Python and each ``--python`` (of environments
         with another JAX).
Needs:   jaxdiff[train].
Shows:   median milliseconds of wall time and, in brackets, of processor time a core, which other jobs on the machine change
         less; for products TFLOP/s, too. The cases are a copy and a group norm with SiLU of 32 MiB, the network's own group
         norm with SiLU (256×256 × 128) with and without its gradient, the three products of 3×3 convolutions, the faces64
         network with and without its input gradient (batch 8), and an update of training (batch 32, images/s).
Time:    5 minutes on two quiet CPU cores, most of it compilation.
Seen:    docs/performance.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks._peer import Peer, serve

SHAPES = ((64, 32), (32, 64), (16, 96))
"""Side and channels of faces64's convolutions."""
BATCH, IMAGES, TRAINED = 16, 8, 32
GRADIENTS = ("kernel gradient by convolution", "kernel gradient by images")
PRODUCTS = ("forward", "input gradient", *GRADIENTS, *(f"1×1 {name}" for name in GRADIENTS))
CASES = (
    "memory: copy",
    "memory: group norm + SiLU",
    "norm: GroupNorm + SiLU",
    "norm: GroupNorm + SiLU, input gradient",
    *(f"convolution {side}×{side}×{width}: {what}" for side, width in SHAPES for what in PRODUCTS),
    "network: faces64",
    "network: faces64 + input gradient",
    "training: update",
)


def memory(name: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    x = jnp.ones((1, 256, 256, 128))
    normed = lambda x: jax.nn.silu((x - jnp.mean(x, (1, 2), keepdims=True)) * 2)  # noqa: E731
    program = jax.jit((lambda x: x + 1) if name.endswith("copy") else normed)
    return lambda: program(x)


def norm(name: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    from jaxdiff.models.layers import GroupNorm

    variables = {"params": {"scale": jnp.ones(128), "bias": jnp.zeros(128)}}
    act = lambda x: jax.nn.silu(GroupNorm().apply(variables, x))  # noqa: E731
    x, v = (jax.random.normal(jax.random.key(i), (1, 256, 256, 128)) for i in (0, 1))
    program = jax.jit((lambda x, v: jax.vjp(act, x)[1](v)) if name.endswith("gradient") else lambda x, v: act(x))
    return lambda: program(x, v)


def convolution(name: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    from jaxdiff.models.convolution import _filter_by_images, _filter_convolved, convolve

    side, width = next((s, c) for s, c in SHAPES if f" {s}×{s}×{c}:" in name)
    x = jax.random.normal(jax.random.key(0), (BATCH, side, side, width))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, width, width))
    what = name.partition(": ")[2]
    padding = ((0, 0), (0, 0)) if what.startswith("1×1") else ((1, 1), (1, 1))
    same = lambda x, k: convolve(x, k, padding)  # noqa: E731
    functions = {
        "forward": same,
        "input gradient": lambda x, k: jax.vjp(lambda x: same(x, k), jnp.zeros_like(x))[1](x)[0],
        "kernel gradient by convolution": lambda x, k: _filter_convolved(x, x, padding=padding),
        "kernel gradient by images": lambda x, k: _filter_by_images(x, x, padding=padding),
    }
    program = jax.jit(functions[what.removeprefix("1×1 ")])
    return lambda: program(x, kernel)


def network(name: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    import jaxdiff as jd

    denoiser = jd.load_denoiser("faces64")
    call = lambda x: denoiser.module.apply({"params": denoiser.params}, x, jnp.full(IMAGES, 500.0))  # noqa: E731
    program = jax.jit(jax.grad(lambda x: jnp.sum(call(x) ** 2)) if "gradient" in name else call)
    x = jax.random.normal(jax.random.key(0), (IMAGES, *denoiser.image_shape))
    return lambda: program(x)


def training(name: str) -> Callable[[], Any]:
    del name
    import numpy as np

    import jaxdiff as jd
    from jaxdiff.training import load_config
    from jaxdiff.training.state import data_mesh, init_state, make_update

    config = load_config("faces64_minutes", {"data.sources": [{"path": "."}], "optimizer.batch_size": TRAINED})
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, teachers=()))
    # The embedded prior's weights are of the same network: to draw new ones takes a minute of compilation.
    update, state = make_update(config, data_mesh()), [init_state(config, jd.load_denoiser("faces64").params)]
    side = config.prior.unet.image_size
    images = np.random.RandomState(0).randint(0, 256, (TRAINED, side, side, 3)).astype(np.uint8)
    batch = {"image": images, "index": np.arange(TRAINED, dtype=np.uint32)}

    def step() -> Any:
        state[0], metrics = update(state[0], batch)
        return metrics

    return step


def server() -> Callable[..., Any]:
    """Answers with seconds of wall time and of processor time a core, of one call."""
    import jax

    import jaxdiff as jd

    choice, ready = jd.fast_cpu(), dict[str, Callable[[], Any]]()

    def answer(name: str = "") -> Any:
        if not name:
            return (
                f"JAX {jax.__version__}, {'oneDNN' if choice.onednn else 'own kernels'}, memory {'kept' * choice.kept}"
            )
        if name not in ready:
            ready[name] = globals()[name.partition(":")[0].partition(" ")[0]](name)
            for _ in range(3):  # the first calls compile, and fetch the memory that later ones keep
                jax.block_until_ready(ready[name]())
        wall, processor, calls = time.perf_counter(), time.process_time(), 0
        while not calls or time.perf_counter() - wall < 0.2:
            jax.block_until_ready(ready[name]())
            calls += 1
        cores = jax.device_count()
        return (time.perf_counter() - wall) / calls, (time.process_time() - processor) / calls / cores

    return answer


def told(name: str, seconds: float) -> str:
    """TFLOP/s or images/s, where a case has them."""
    if name.startswith("convolution"):
        side, width = next((s, c) for s, c in SHAPES if f" {s}×{s}×{c}:" in name)
        taps = 1 if "1×1" in name else 9
        return f"{2 * taps * width**2 * side**2 * BATCH / seconds / 1e12:.3f} TFLOP/s"
    return f"{TRAINED / seconds:.1f} images/s" if name.startswith("training") else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="beginnings of cases, with commas")
    parser.add_argument("--python", action="append", default=[], help="another interpreter beside this one")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(server())
    peers = [
        Peer(python, "benchmarks.fast_cpu", environment={"JAXDIFF_FAST": fast})
        for python in (sys.executable, *options.python)
        for fast in ("off", "on")
    ]
    print("| case | " + " | ".join(peer.ask() for peer in peers) + " |\n|---" + "|---" * len(peers) + "|")
    for name in CASES:
        if not name.startswith(tuple(options.only.split(","))):
            continue
        rounds = [[peer.ask(name=name) for peer in peers] for _ in range(options.rounds)]
        cells = []
        for times in zip(*rounds, strict=True):
            wall, processor = (statistics.median(column) for column in zip(*times, strict=True))
            cells.append(f"{1e3 * wall:.1f} ({1e3 * processor:.1f}) ms {told(name, processor)}".strip())
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    for peer in peers:
        peer.close()


if __name__ == "__main__":
    main()
