"""What do the main programs cost, in counts that no other job on the machine can disturb?

Run:     python -m benchmarks.costs [--update]
Shows:   FLOPs and bytes accessed (XLA's cost analysis of the compiled program), number of fusions, and temporary memory.
         The programs are the network's forward pass, the same with its input gradient, and one step of three methods; one
         image, no weights.
Update:  ``--update`` writes the counts for this jaxlib and platform to tests/golden/costs.json, which
         tests/contracts/test_costs.py compares with. The commit says why a count rose.
Time:    1 minute.
Seen:    docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
from flax import traverse_util
from jax.extend import core

import jaxdiff as jd
from jaxdiff.models import PRESETS, UNet, UNetConfig, parameter_shapes

FILE = Path(__file__).parent.parent / "tests" / "golden" / "costs.json"
COUNTS = ("flops", "bytes", "fusions", "temporary")

NETWORKS = {
    "tiny": UNetConfig(
        image_size=16,
        out_channels=6,
        model_channels=32,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_factors=(2,),
        num_head_channels=32,
        use_scale_shift_norm=True,
        resblock_updown=True,
    ),
    "faces64": PRESETS["faces64"].unet,
}
"""``tiny`` has what the FFHQ network has (resampling blocks, attention, learned variance) and compiles in seconds."""

Program = tuple[Callable[..., Any], tuple[Any, ...]]


PRODUCTS_ONLY = {"ffhq_256": PRESETS["ffhq_256"].unet}
"""Traced, not compiled: its counts of products are printed beside."""


def key_of() -> str:
    """What the counts depend on besides our code."""
    version = ".".join(jaxlib.__version__.split(".")[:2])
    return f"{jax.default_backend()} {platform.machine()} jaxlib {version}"


def programs(config: UNetConfig) -> dict[str, Program]:
    """Each program by name and the abstract arguments that it is lowered for."""
    x, t, denoiser, _ = _abstract(config)

    def forward(x: jax.Array, t: jax.Array, denoiser: jd.Denoiser) -> jax.Array:
        return denoiser(x, t).x0

    def gradient(x: jax.Array, t: jax.Array, denoiser: jd.Denoiser) -> tuple[jax.Array, jax.Array]:
        x0, back = jax.vjp(lambda x: denoiser(x, t).x0, x)
        return x0, back(x0)[0]

    return {
        "forward": (forward, (x, t, denoiser)),
        "forward + input gradient": (gradient, (x, t, denoiser)),
        "unconditional step": step_of(config, jd.samplers.ddpm),
        "Score ALD step": step_of(config, jd.samplers.score_ald),
        "DPS step": step_of(config, jd.samplers.dps),
    }


def step_of(config: UNetConfig, make: Callable[[], Any]) -> Program:
    """One step of a method, and its abstract arguments."""
    _, t, denoiser, problem = _abstract(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    sampler = jax.eval_shape(make)
    state = jax.eval_shape(lambda *a: a[0].init(*a[1:]), sampler, key, problem, denoiser, t)

    def step(key: Any, state: Any, t: Any, s: Any, denoiser: Any, problem: Any, sampler: Any) -> Any:
        return sampler.step(key, state, t, s, problem, denoiser)

    return step, (key, state, t, t, denoiser, problem, sampler)


def _abstract(config: UNetConfig) -> tuple[Any, Any, Any, Any]:
    """An image, a timestep, a prior and a measurement, all without values."""
    shape = (config.image_size, config.image_size, config.in_channels)
    named = {k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in parameter_shapes(config).items()}
    learned = "learned_range" if config.learn_sigma else "fixed_small"
    denoiser = jd.Denoiser(
        traverse_util.unflatten_dict(named, sep="/"),
        jax.eval_shape(lambda: jd.schedules.linear(1000)),
        module=UNet(config),
        image_shape=shape,
        variance=learned,
    )
    operator = jd.operators.inpaint_box(image_shape=shape, size=shape[0] // 2)
    problem = jax.eval_shape(lambda: jd.observe(jax.random.key(0), operator, jnp.zeros(shape), 0.05))
    return jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((), jnp.int32), denoiser, problem


def counts(program: Program) -> dict[str, float]:
    """The counts of one program, compiled for this machine."""
    function, arguments = program
    compiled = jax.jit(function).lower(*arguments).compile()
    analysis = compiled.cost_analysis()
    cost: dict[str, float] = analysis[0] if isinstance(analysis, list) else analysis
    memory = compiled.memory_analysis()
    return {
        "flops": int(cost["flops"]),
        "bytes": int(cost["bytes accessed"]),
        "fusions": compiled.as_text().count(" fusion("),
        "temporary": int(memory.temp_size_in_bytes),
    }


def products(program: Program) -> dict[str, int]:
    """Multiplications and additions (2 a product) by primitive, read from the traced program: no XLA in it."""
    function, arguments = program
    total: dict[str, int] = {}
    for equation, times in _equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        name = equation.primitive.name
        if name in ("conv_stride_1", "conv_general_dilated"):
            kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.size
            work = 2 * out * kernel[0] * kernel[1] * kernel[2]
        elif name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            work = 2 * equation.outvars[0].aval.size
            for axis in contracted:
                work *= shape[axis]
        else:
            continue
        total[name] = total.get(name, 0) + times * work
    return total


def _equations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """All equations, those of inner programs too, and how many times each is computed.

    Of a condition the cheaper branch counts: that of every step but the last, where some methods denoise once more.
    """
    for equation in jaxpr.eqns:
        yield equation, times
        inner = [v for v in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program) if _is_program(v)]
        if equation.primitive.name == "cond":
            inner = [min(inner, key=lambda program: len(getattr(program, "jaxpr", program).eqns))]
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        for program in inner:
            yield from _equations(getattr(program, "jaxpr", program), times * repeats)


def _is_program(value: Any) -> bool:
    return isinstance(value, core.ClosedJaxpr | core.Jaxpr)


def measure(names: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """The counts of every program on the named networks."""
    return {name: {label: counts(program) for label, program in programs(NETWORKS[name]).items()} for name in names}


def stored() -> dict[str, Any]:
    """What the file holds, by ``key_of``."""
    return json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}


def main() -> None:
    """Print the table, and update the file if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="store the counts for this jaxlib and platform")
    args = parser.parse_args()
    found = measure(list(NETWORKS))
    print(f"{key_of()}, one image\n")
    print(
        "| network | program | GFLOP | × forward | MB accessed | fusions | temporary MiB |\n|---|---|---|---|---|---|---|"
    )
    for name, table in found.items():
        for label, row in table.items():
            ratio = row["flops"] / table["forward"]["flops"]
            print(
                f"| {name} | {label} | {row['flops'] / 1e9:.3f} | {ratio:.2f} | {row['bytes'] / 1e6:.1f} "
                f"| {row['fusions']} | {row['temporary'] / 2**20:.1f} |"
            )
    print("\n| network | program | GFLOP of convolutions and matrix products, as traced |\n|---|---|---|")
    for name, config in (NETWORKS | PRODUCTS_ONLY).items():
        for label, program in programs(config).items():
            print(f"| {name} | {label} | {sum(products(program).values()) / 1e9:.3f} |")
    if args.update:
        text = json.dumps(stored() | {key_of(): found}, indent=1, sort_keys=True)
        FILE.write_text(text + "\n", encoding="utf-8")
        print(f"\nwritten: {FILE.name}; say in the commit why a count rose")


if __name__ == "__main__":
    main()
