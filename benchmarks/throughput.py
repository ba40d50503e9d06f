"""How many images a second does DPS restore, and what share of the hardware's peak does it reach? With a roofline.

Run:     python -m benchmarks.throughput [--prior ffhq_256] [--batch 1,2,4] [--dtype float32,bfloat16] [--devices 1]
         [--rounds 3] [--calls 1] [--out out/roofline.png]
Shows:   for each setting the time of a DPS step (median over interleaved rounds) and images a second for ``--steps`` steps.
         Then FLOPs a second of the network's convolutions and matrix products, as traced: nothing is counted twice. Their
         share of the peak, which the same run measures: the fastest square matrix product of that type, times the number
         of devices. The roofline draws them over FLOPs a byte accessed (XLA's count for the compiled step), under the
         peaks and the measured bandwidth of memory.
Needs:   matplotlib for the picture. On one machine without accelerators several devices want
         XLA_FLAGS=--xla_force_host_platform_device_count=N.
Time:    compilation (15 s a setting at 256×256 on two CPU cores), then rounds × calls steps of each.
Seen:    docs/performance.md.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxdiff as jd
from benchmarks.costs import products
from benchmarks.step_time import denoiser_of


class Setting(NamedTuple):
    """One line of the table."""

    batch: int
    dtype: str
    devices: int


class Ready(NamedTuple):
    """A compiled step on its devices."""

    run: Callable[[], None]
    flops: float
    bytes: float
    compile_seconds: float


def best_of(call: Callable[[], Any], seconds: float) -> float:
    """Shortest time of a call within ``seconds`` of trying."""
    jax.block_until_ready(call())
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        begun = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begun)
    return min(times)


def peak(dtype: str, seconds: float = 1.0) -> float:
    """FLOP/s of the fastest square matrix product of this type, on one device."""
    sizes = (1024, 2048) if jax.default_backend() == "cpu" else (4096, 8192)
    multiply = jax.jit(lambda a: a @ a)
    found = []
    for n in sizes:
        a = jnp.full((n, n), 1 / n, dtype)
        found.append(2 * n**3 / best_of(lambda a=a: multiply(a), seconds))
    return max(found)


def bandwidth(seconds: float = 1.0) -> float:
    """Bytes a second read and written by a sum that does not fit into caches, on one device."""
    a = jnp.zeros(2**26 if jax.default_backend() == "cpu" else 2**28, jnp.float32)
    return 2 * a.nbytes / best_of(lambda: jax.jit(jnp.negative)(a), seconds)


def prepare(denoiser: jd.Denoiser, setting: Setting, calls: int) -> Ready:
    """Compile a DPS step of a whole batch, its images split over the devices."""
    batch, dtype, count = setting
    network = denoiser.replace(module=denoiser.module.clone(dtype=jnp.dtype(dtype)))  # type: ignore[attr-defined]
    shape = denoiser.image_shape
    operator = jd.operators.inpaint_box(image_shape=shape, size=shape[0] // 2)
    problem = jd.observe(jax.random.key(0), operator, jnp.zeros(shape), 0.05)
    sampler = jd.samplers.dps()
    mesh = Mesh(np.asarray(jax.devices()[:count]), ("batch",))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("batch",), ()))
    keys = jax.device_put(jax.random.split(jax.random.key(1), batch), split)
    x = jax.device_put(jax.vmap(lambda key: jax.random.normal(key, shape))(keys), split)
    times = (jnp.int32(500), jnp.int32(490))
    fixed = jax.device_put((*times, network, problem, sampler), whole)

    def step(keys: Any, x: Any, t: Any, s: Any, network: Any, problem: Any, sampler: Any) -> Any:
        one = lambda key, x: sampler.step(key, jd.samplers.State(x), t, s, problem, network)[0].x  # noqa: E731
        return jax.vmap(one)(keys, x)

    begun = time.perf_counter()
    program = jax.jit(step, donate_argnums=1, out_shardings=split).lower(keys, x, *fixed).compile()
    seconds = time.perf_counter() - begun
    cost: Any = program.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    held = [x]

    def run() -> None:
        for _ in range(calls):
            held[0] = program(keys, held[0], *fixed)
        jax.block_until_ready(held[0])

    flops = sum(products((step, (keys, x, *fixed))).values())
    return Ready(run, flops, count * cost["bytes accessed"], seconds)


def measure(args: argparse.Namespace) -> tuple[list[tuple[Setting, float, Ready]], dict[str, float], float]:
    """(setting, seconds a step, program) of each, the peaks by type, the bandwidth."""
    denoiser = denoiser_of(args.prior)
    numbers = [[int(n) for n in text.split(",")] for text in (args.batch, args.devices)]
    settings = [Setting(b, t, d) for t in args.dtype.split(",") for d in numbers[1] for b in numbers[0] if b % d == 0]
    ready = {setting: prepare(denoiser, setting, args.calls) for setting in settings}
    seconds: dict[Setting, list[float]] = {setting: [] for setting in settings}
    for turn in range(args.rounds + 1):
        for setting, program in ready.items():
            begun = time.perf_counter()
            program.run()
            if turn:  # the first one warms up
                seconds[setting].append((time.perf_counter() - begun) / args.calls)
    peaks = {dtype: peak(dtype) for dtype in args.dtype.split(",")}
    rows = [(setting, statistics.median(seconds[setting]), ready[setting]) for setting in settings]
    return rows, peaks, bandwidth()


def draw(rows: list[tuple[Setting, float, Ready]], peaks: dict[str, float], speed: float, title: str, out: str) -> None:
    """The roofline as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    unit, name = (1e12, "TFLOP/s") if max(peaks.values()) >= 1e12 else (1e9, "GFLOP/s")
    intensity = [program.flops / program.bytes for _, _, program in rows]
    low, high = min(intensity) / 4, max(*intensity, max(peaks.values()) / speed) * 4
    x = np.geomspace(low, high, 200)
    many = max(setting.devices for setting, _, _ in rows)
    styles = dict(zip(peaks, (("tab:blue", "-"), ("tab:orange", "--"), ("tab:green", ":")), strict=False))
    for dtype, top in peaks.items():
        colour, line = styles[dtype]
        label = f"{dtype}: {top / unit:.0f} {name}" + (f" a device, × {many}" if many > 1 else "")
        axes.plot(x, np.minimum(many * top, many * speed * x) / unit, line, color=colour, label=label)
    kinds = sorted({(setting.devices, setting.batch) for setting, _, _ in rows})
    shapes = dict(zip(kinds, itertools.cycle("o^sDvP*X<>"), strict=False))
    for kind, shape in shapes.items():
        text = f"batch {kind[1]}" + (f" on {kind[0]}" if many > 1 else "")
        axes.plot([], [], shape, color="grey", label=text)
    for (setting, seconds, program), where in zip(rows, intensity, strict=True):
        shape, colour = shapes[setting.devices, setting.batch], styles[setting.dtype][0]
        axes.plot(where, program.flops / seconds / unit, shape, color=colour, alpha=0.8)
    axes.set(xscale="log", yscale="log", xlabel="FLOPs a byte accessed", ylabel=name, title=title)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend(loc="upper left", fontsize=8, title=f"memory {speed / 1e9:.3g} GB/s", title_fontsize=8)
    axes.set_ylim(top=2.5 * many * max(peaks.values()) / unit)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)


def main() -> None:
    """Parse flags, print the table, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="ffhq_256", help="prior or preset (default ffhq_256)")
    parser.add_argument("--batch", default="1,2,4", help="batch sizes over all devices")
    parser.add_argument("--dtype", default="float32,bfloat16", help="types that the network computes in")
    parser.add_argument("--devices", default="1", help="numbers of devices")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=1, help="steps a turn; more on an accelerator, to hide dispatch")
    parser.add_argument("--steps", type=int, default=1000, help="steps of a whole restoration, for images a second")
    parser.add_argument("--out", default="out/roofline.png")
    args = parser.parse_args()
    rows, peaks, speed = measure(args)
    kind = jax.devices()[0].device_kind
    print(
        f"{args.prior}, DPS, {kind}; matrix peak " + ", ".join(f"{d} {v / 1e12:.3g} TFLOP/s" for d, v in peaks.items())
    )
    print(f"memory {speed / 1e9:.3g} GB/s\n")
    print(
        f"| type | devices | batch | ms an image and step | images/s at {args.steps} steps | TFLOP/s | of peak | compile s |"
    )
    print("|---" * 8 + "|")
    for setting, seconds, program in rows:
        rate = program.flops / seconds
        print(
            f"| {setting.dtype} | {setting.devices} | {setting.batch} | {1000 * seconds / setting.batch:.1f} "
            f"| {setting.batch / (seconds * args.steps):.4g} | {rate / 1e12:.3g} "
            f"| {rate / (setting.devices * peaks[setting.dtype]):.0%} | {program.compile_seconds:.0f} |"
        )
    draw(rows, peaks, speed, f"DPS step of {args.prior} on {kind}", args.out)
    print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
