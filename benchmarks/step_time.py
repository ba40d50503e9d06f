"""Milliseconds a step of unconditional sampling, Score ALD and DPS, beside the floor of each; compile time and memory.

Run: ``python -m benchmarks.step_time [--prior faces64] [--prior ffhq_256] [--batch 8]``. Programs are compiled ahead of
time, then run in turn (interleaved) and the median taken, since machines are noisy. A step's floor is what it cannot do
without: one network forward (unconditional, Score ALD), or one forward and one input gradient (DPS, about twice the
floating-point operations of the forward, since no parameter gradient is taken). ffhq_256 is the architecture of
ffhq_10m.pt with random weights: time does not depend on them.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import jaxdiff as jd
from jaxdiff.models import PRESETS, UNet


def denoiser_of(name: str) -> jd.Denoiser:
    """An embedded prior or converted checkpoint, or a preset's architecture with random weights."""
    if name not in PRESETS or name == "faces64":
        return jd.load_denoiser(name)
    config = PRESETS[name]
    size, channels = config.unet.image_size, config.unet.in_channels
    module = UNet(config.unet)
    x = jnp.zeros((1, size, size, channels))
    params = jax.jit(module.init)(jax.random.key(0), x, jnp.zeros(1))["params"]
    return jd.Denoiser(
        params, jd.schedules.linear(1000), module=module, image_shape=(size, size, channels), variance=config.variance
    )


def programs(denoiser: jd.Denoiser, batch: int) -> tuple[dict[str, Callable[..., Any]], tuple[Any, ...]]:
    """What is timed, by name, and the arguments that all share."""
    shape = denoiser.image_shape
    operator = jd.operators.inpaint_box(image_shape=shape, size=shape[0] // 2)
    key = jax.random.key(0)
    problem = jd.observe(key, operator, jnp.zeros(shape), 0.05)
    x = jax.random.normal(key, (batch, *shape))
    times = (jnp.int32(500), jnp.int32(490))

    def forward(x: jax.Array, t: jax.Array, s: jax.Array, denoiser: jd.Denoiser) -> jax.Array:
        return jax.vmap(lambda x: denoiser(x, t, s).x0)(x)

    def gradient(x: jax.Array, t: jax.Array, s: jax.Array, denoiser: jd.Denoiser) -> jax.Array:
        return jax.vmap(jax.grad(lambda x: jnp.sum(denoiser(x, t, s).x0 ** 2)))(x)

    def step_of(sampler: jd.samplers.Sampler) -> Callable[..., jax.Array]:
        def step(x: jax.Array, t: jax.Array, s: jax.Array, denoiser: jd.Denoiser) -> jax.Array:
            one = lambda x: sampler.step(key, jd.samplers.State(x), t, s, problem, denoiser)[0].x  # noqa: E731
            return jax.vmap(one)(x)

        return step

    named = {
        "floor: forward": forward,
        "floor: forward + input gradient": gradient,
        "unconditional step": step_of(jd.samplers.ddpm()),
        "Score ALD step": step_of(jd.samplers.score_ald()),
        "DPS step": step_of(jd.samplers.dps()),
    }
    return named, (x, *times, denoiser)


def in_a_scan(step: Callable[..., jax.Array], length: int) -> Callable[..., jax.Array]:
    """The step repeated as samplers run it, so that a loop's own cost shows."""

    def run(x: jax.Array, t: jax.Array, s: jax.Array, denoiser: jd.Denoiser) -> jax.Array:
        return jax.lax.scan(lambda x, _: (step(x, t, s, denoiser), None), x, None, length=length)[0]

    return run


def measure(name: str, batch: int, rounds: int, length: int) -> Table:
    """Compile all, then run them in turn."""
    denoiser = denoiser_of(name)
    named, arguments = programs(denoiser, batch)
    compiled, compile_seconds, memory = {}, {}, {}
    for label, function in named.items():
        begun = time.perf_counter()
        compiled[label] = jax.jit(in_a_scan(function, length)).lower(*arguments).compile()
        compile_seconds[label] = time.perf_counter() - begun
        analysis = compiled[label].memory_analysis()
        memory[label] = 0 if analysis is None else analysis.temp_size_in_bytes
    seconds: dict[str, list[float]] = {label: [] for label in named}
    for _ in range(rounds):
        for label, program in compiled.items():
            begun = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            seconds[label].append((time.perf_counter() - begun) / (length * batch))
    middle = {label: statistics.median(times) for label, times in seconds.items()}
    title = f"{name}, batch {batch}, {jax.devices()[0].device_kind}: median of {rounds} interleaved rounds of {length} steps"
    table = Table(title=title, title_justify="left")
    for column in ("program", "ms an image and step", "× forward", "× its floor", "compile s", "temporary MiB"):
        table.add_column(column, justify="left" if column == "program" else "right")
    forward = middle["floor: forward"]
    for label, value in middle.items():
        floor = middle["floor: forward + input gradient"] if "DPS" in label else forward
        table.add_row(
            label,
            f"{1000 * value:.1f}",
            f"{value / forward:.2f}",
            "–" if label.startswith("floor") else f"{value / floor:.2f}",
            f"{compile_seconds[label]:.1f}",
            f"{memory[label] / 2**20:.0f}",
        )
    return table


def main() -> None:
    """Parse flags and print a table a prior."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", action="append", help="prior or preset; may be repeated")
    parser.add_argument("--batch", type=int, default=None, help="images at a time (8 at 64×64, 1 at 256×256)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--length", type=int, default=2, help="steps a program (in a scan)")
    args = parser.parse_args()
    for name in args.prior or ["faces64", "ffhq_256"]:
        batch = args.batch or (8 if name == "faces64" else 1)
        Console(width=120).print(measure(name, batch, args.rounds, args.length))


if __name__ == "__main__":
    main()
