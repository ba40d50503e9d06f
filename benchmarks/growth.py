"""How does the time of a restoration grow with the work? One figure, with what theory says beside each line.

Run:     python -m benchmarks.growth [--prior faces64] [--rounds 3] [--only batch,side] [--out docs/growth.png]
Shows:   seconds a DPS step (of steps with gradients: seconds a run), median over interleaved rounds, over
         - the batch;
         - the image's side, 64 to 512;
         - the particles of TDS;
         - the steps of a DDIM run that a gradient goes back through, for two ways to keep its states (``checkpoint=``);
         - the devices that eight images are split over. A CPU is made to look like eight devices, which share its cores.
         On a CPU seconds are of processor time, all cores together, which other jobs change less. More devices then take
         as long as one if splitting costs nothing; on accelerators they take a share.
         Theory is the FLOPs of the convolutions and matrix products of the program as traced, at the rate of the line's
         first point. The slope is that of log time over log work, from the first point to the last. The table has both.
         Without ``--prior`` the network is a small one with random weights and attention at an eighth of the side only.
Needs:   matplotlib.
Time:    9 minutes on two quiet CPU cores, most of it compilation.
Seen:    docs/performance.md, docs/growth.png.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxdiff as jd
from benchmarks.costs import products
from benchmarks.step_time import denoiser_of, random_weights
from benchmarks.throughput import Setting, prepare
from jaxdiff.models import UNet, UNetConfig

DEVICES = 8
SMALL = UNetConfig(
    image_size=64,
    out_channels=3,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 1, 2, 2),
    attention_factors=(),
    use_scale_shift_norm=True,
)


class Point(NamedTuple):
    """A compiled program."""

    run: Callable[[], Any]
    flops: float


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def batch(size: int, denoiser: jd.Denoiser) -> Point:
    ready = prepare(denoiser, Setting(size, "float32", 1), 1)
    return Point(ready.run, ready.flops)


def side(size: int, denoiser: jd.Denoiser) -> Point:
    return batch(1, denoiser.replace(image_shape=(size, size, 3)))  # type: ignore[attr-defined]


def devices(count: int, denoiser: jd.Denoiser) -> Point:
    ready = prepare(denoiser, Setting(DEVICES, "float32", count), 1)
    return Point(ready.run, ready.flops / (1 if on_cpu() else count))


def particles(count: int, denoiser: jd.Denoiser) -> Point:
    sampler = jd.samplers.tds(particles=count)
    operator = jd.operators.inpaint_box(image_shape=denoiser.image_shape, size=32)
    problem = jd.observe(jax.random.key(0), operator, jnp.zeros(denoiser.image_shape), 0.05)
    key, t, s = jax.random.key(1), jnp.int32(500), jnp.int32(490)
    state = jax.jit(sampler.init)(key, problem, denoiser, t)
    return compiled(lambda *a: sampler.step(*a)[0], key, state, t, s, problem, denoiser)


def gradient(steps: int, denoiser: jd.Denoiser, checkpoint: str) -> Point:
    def loss(x: jax.Array, key: jax.Array, denoiser: jd.Denoiser) -> jax.Array:
        ddim = jd.samplers.ddim()
        image, _ = jd.sample(key, denoiser, None, ddim, steps=steps, x_init=x, checkpoint=checkpoint)
        return jnp.sum(image**2)

    return compiled(jax.grad(loss), jnp.ones(denoiser.image_shape), jax.random.key(0), denoiser)


def compiled(function: Callable[..., Any], *arguments: Any) -> Point:
    program = jax.jit(function).lower(*arguments).compile()
    flops = sum(products((function, arguments)).values())
    return Point(lambda: jax.block_until_ready(program(*arguments)), flops)


LINES: dict[str, tuple[str, Callable[[int, Any], Point], tuple[int, ...]]] = {
    "batch": ("batch", batch, (1, 2, 4, 8, 16)),
    "side": ("side of the image", side, (64, 128, 256, 512)),
    "particles": ("particles (TDS)", particles, (2, 4, 8, 16)),
    "steps": ("steps with gradients", lambda n, d: gradient(n, d, "step"), (2, 4, 8, 16)),
    "steps, sqrt": ("steps with gradients", lambda n, d: gradient(n, d, "sqrt"), (4, 16)),
    "devices": ("devices, eight images", devices, (1, 2, 4, 8)),
}
"""The axis, what makes a point, and where."""


def measure(name: str, denoiser: jd.Denoiser, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds and FLOPs of each point of a line."""
    _, make, values = LINES[name]
    points = [make(value, denoiser) for value in values]
    seconds: list[list[float]] = [[] for _ in points]
    clock = time.process_time if on_cpu() else time.perf_counter
    for turn in range(rounds + 1):
        for point, times in zip(points, seconds, strict=True):
            begun = clock()
            point.run()
            if turn:  # the first one warms up
                times.append(clock() - begun)
    return [statistics.median(times) for times in seconds], [point.flops for point in points]


def slope(values: tuple[int, ...], costs: list[float]) -> float:
    return math.log(costs[-1] / costs[0]) / math.log(values[-1] / values[0])


def draw(found: dict[str, tuple[list[float], list[float]]], out: str) -> None:
    """A plot for each axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    labels = list(dict.fromkeys(LINES[name][0] for name in found))
    figure, grid = plt.subplots(1, len(labels), figsize=(2.6 * len(labels), 2.8), layout="constrained", squeeze=False)
    for label, axes in zip(labels, grid[0], strict=True):
        lines = [name for name in found if LINES[name][0] == label]
        for name, colour in zip(lines, ("tab:blue", "tab:orange"), strict=False):
            values, (seconds, flops) = LINES[name][2], found[name]
            kept = f"checkpoint {'sqrt' if 'sqrt' in name else 'step'}" if label.startswith("steps") else "measured"
            axes.plot(values, seconds, "o-", color=colour, label=kept)
            axes.plot(values, [seconds[0] * f / flops[0] for f in flops], "--", color=colour, alpha=0.5)
        axes.plot([], [], "--", color="grey", label="theory")
        axes.set(xscale="log", yscale="log", xlabel=label)
        values = max((LINES[name][2] for name in lines), key=len)
        axes.set_xticks(values, [str(value) for value in values])
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, high / 20), high * 1.5)  # a flat line looks flat
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(plt.NullLocator())
        axes.grid(True, alpha=0.2)
        axes.legend(fontsize=7)
    grid[0][0].set_ylabel("seconds of processor time" if on_cpu() else "seconds")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", help="prior or preset (default: a small network)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help=f"some of {', '.join(LINES)}: beginnings, with commas")
    parser.add_argument("--out", default="out/growth.png")
    options = parser.parse_args()
    if jax.config.jax_platforms in (None, "", "cpu"):
        jax.config.update("jax_num_cpu_devices", DEVICES)
    shape = (SMALL.image_size, SMALL.image_size, SMALL.in_channels)
    small = jd.Denoiser(random_weights(SMALL), jd.schedules.linear(1000), module=UNet(SMALL), image_shape=shape)
    denoiser, found = denoiser_of(options.prior) if options.prior else small, {}
    print("| over | seconds | slope | of theory |\n|---|---|---|---|")
    for name, (_, _, values) in LINES.items():
        if not name.startswith(tuple(options.only.split(","))):
            continue
        seconds, flops = found[name] = measure(name, denoiser, options.rounds)
        told = ", ".join(f"{value}: {second:.3g}" for value, second in zip(values, seconds, strict=True))
        print(f"| {name} | {told} | {slope(values, seconds):.2f} | {slope(values, flops):.2f} |", flush=True)
        draw(found, options.out)
    print(f"\nwritten: {options.out}")


if __name__ == "__main__":
    main()
