"""How long does a step of every method take, beside the bare network and beside what the method cannot do without?

Run:     python -m benchmarks.step_time [--prior faces64] [--batch 8] [--rounds 7] [--length 2] [--only NAME,NAME]
Shows:   median over interleaved rounds of the time that an image and step takes in a compiled loop. It is given in
         multiples of the bare network's forward pass and of the method's floor. The floor is F forward passes and B passes
         back to the input, by the method's definition. Each is timed in a loop of its own in the same rounds (a pass back:
         forward and gradient less forward). Compile time and temporary memory have their own columns. The task is box
         inpainting with its settings. ffhq_256 is the architecture with random weights: time does not depend on them.
Time:    10 minutes for faces64 on two CPU cores, most of it compilation (JAX_COMPILATION_CACHE_DIR saves it a second time).
Seen:    docs/performance.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from rich.console import Console
from rich.table import Table

import jaxdiff as jd
from jaxdiff import tasks
from jaxdiff.models import PRESETS, UNet, UNetConfig, parameter_shapes

FORWARD, GRADIENT = "forward", "forward + input gradient"
T, S = 500, 490


class Timed(NamedTuple):
    """A compiled loop over one program."""

    run: Callable[[], Any]
    compile_seconds: float
    temporary: int
    needed: tuple[int, int]


def denoiser_of(name: str) -> jd.Denoiser:
    """An embedded prior or converted checkpoint, or a preset's architecture with random weights."""
    if name not in PRESETS or name == "faces64":
        return jd.load_denoiser(name)
    config = PRESETS[name]
    size, channels = config.unet.image_size, config.unet.in_channels
    return jd.Denoiser(
        random_weights(config.unet),
        jd.schedules.linear(1000),
        module=UNet(config.unet),
        image_shape=(size, size, channels),
        variance=config.variance,
    )


def random_weights(config: UNetConfig) -> Any:
    """Parameters drawn by NumPy: to compile a large network's own initialisation takes a minute."""
    random = np.random.RandomState(0)
    shapes = parameter_shapes(config)
    named = {name: jnp.asarray(0.02 * random.standard_normal(shape), jnp.float32) for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(named, sep="/")


class Bench:
    """Compiles the programs for one prior."""

    def __init__(self, prior: str, batch: int, length: int) -> None:
        """Make what all programs share."""
        self.prior, self.batch, self.length = prior, batch, length
        self.denoiser = denoiser_of(prior)
        shape = self.denoiser.image_shape
        operator = jd.operators.inpaint_box(image_shape=shape, size=shape[0] // 2)
        self.problem = jd.observe(jax.random.key(0), operator, jnp.zeros(shape), 0.05)
        self.keys = jax.random.split(jax.random.key(1), batch)
        self.x = jax.vmap(lambda key: jax.random.normal(key, shape))(self.keys)

    def bare(self, name: str) -> Timed:
        """The network alone, or with its input gradient."""

        def forward(x: jax.Array, t: Any, denoiser: Any) -> jax.Array:
            return denoiser(x, t).x0

        def gradient(x: jax.Array, t: Any, denoiser: Any) -> jax.Array:
            x0, back = jax.vjp(lambda x: denoiser(x, t).x0, x)
            return back(x0)[0]

        function = forward if name == FORWARD else gradient

        def loop(x: Any, t: Any, denoiser: Any) -> Any:
            one = jax.vmap(function, (0, None, None))
            return jax.lax.scan(lambda x, _: (one(x, t, denoiser), None), x, None, length=self.length)[0]

        return self._compile(loop, (self.x, jnp.int32(T), self.denoiser), (0, 0))

    def method(self, name: str) -> Timed:
        """Steps of a method, from its own first state."""
        ddpm = name == "unconditional"
        sampler = jd.samplers.ddpm() if ddpm else tasks.sampler(name, "inpaint_box", self.prior)
        needed = (1, 0) if ddpm else sampler.calls[:2]
        problem, denoiser = self.problem, self.denoiser
        state = jax.jit(jax.vmap(lambda k: sampler.init(k, problem, denoiser, jnp.int32(T))))(self.keys)

        def loop(keys: Any, state: Any, t: Any, s: Any, problem: Any, denoiser: Any, sampler: Any) -> Any:
            one = jax.vmap(lambda k, state: sampler.step(k, state, t, s, problem, denoiser)[0])
            return jax.lax.scan(lambda state, _: (one(keys, state), None), state, None, length=self.length)[0]

        arguments = (self.keys, state, jnp.int32(T), jnp.int32(S), problem, denoiser, sampler)
        return self._compile(loop, arguments, needed)

    def _compile(self, function: Callable[..., Any], arguments: tuple[Any, ...], needed: tuple[int, int]) -> Timed:
        begun = time.perf_counter()
        program = jax.jit(function).lower(*arguments).compile()
        seconds = time.perf_counter() - begun
        memory = program.memory_analysis()
        temporary = 0 if memory is None else memory.temp_size_in_bytes
        return Timed(lambda: jax.block_until_ready(program(*arguments)), seconds, temporary, needed)


def measure(prior: str, batch: int, rounds: int, length: int, only: list[str]) -> Table:
    """Compile all, then run them in turn."""
    bench = Bench(prior, batch, length)
    timed = {name: bench.bare(name) for name in (FORWARD, GRADIENT)}
    for name in ["unconditional", *jd.samplers.METHODS]:
        if not only or name in only:
            timed[name] = bench.method(name)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(rounds + 1):
        for name, program in timed.items():
            # Methods of many passes a step are not shaken by noise, and are long: every other turn will do.
            if turn > 1 and turn % 2 and sum(program.needed) > 4:
                continue
            begun = time.perf_counter()
            program.run()
            if turn:
                seconds[name].append((time.perf_counter() - begun) / (length * batch))
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    title = f"{prior}, batch {batch}, {jax.devices()[0].device_kind}: median of {rounds} interleaved rounds of {length} steps"
    table = Table(title=title, title_justify="left")
    for column in ("step of", "F", "B", "ms an image", "× forward", "× its floor", "compile s", "temporary MiB"):
        table.add_column(column, justify="left" if column == "step of" else "right")
    forward, back = middle[FORWARD], middle[GRADIENT] - middle[FORWARD]
    for name, program in timed.items():
        f, b = program.needed
        floor = f"{middle[name] / (f * forward + b * back):.2f}" if f else "–"
        row = (f"{1000 * middle[name]:.1f}", f"{middle[name] / forward:.2f}", floor)
        cost = (f"{program.compile_seconds:.1f}", f"{program.temporary / 2**20:.0f}")
        table.add_row(name, *((str(f), str(b)) if f else ("", "")), *row, *cost)
    return table


def main() -> None:
    """Parse flags and print a table a prior."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", action="append", help="prior or preset; may be repeated")
    parser.add_argument("--batch", type=int, default=None, help="images at a time (8 at 64×64, 1 at 256×256)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--length", type=int, default=2, help="steps a program (in a scan)")
    parser.add_argument("--only", default="", help="some of the methods")
    args = parser.parse_args()
    for name in args.prior or ["faces64", "ffhq_256"]:
        batch = args.batch or (8 if name == "faces64" else 1)
        only = [method for method in args.only.split(",") if method]
        Console(width=120).print(measure(name, batch, args.rounds, args.length, only))


if __name__ == "__main__":
    main()
