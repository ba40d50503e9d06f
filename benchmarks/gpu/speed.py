"""How fast are the network, a guided step and DPS, by batch and type, beside the matrix rate of the same run?"""

import importlib.util
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxdiff as jd
from benchmarks.gpu.record import Record
from benchmarks.step_time import denoiser_of
from jaxdiff import samplers

TYPES = ("bfloat16", "float32")
T, S = 500, 490


def run(record: Record, prior: str, until: float, *, side: int, batches: tuple[int, ...], peer: bool) -> None:
    """Rows: images/s and share of the matrix rate; then peak memory, a trace of the guided step, and the peers."""
    rates = {name: _matrix_rate(jnp.dtype(name), side) for name in TYPES}
    for name, rate in rates.items():
        record.write("matrix rate", dtype=name, teraflops=rate / 1e12, side=side)
    denoiser = denoiser_of(prior)
    for batch in batches:
        for name in TYPES:
            if record.left() < until:
                return
            _programs(
                record, denoiser.replace(module=denoiser.module.clone(dtype=jnp.dtype(name))), batch, name, rates[name]
            )
    _trace(record, denoiser.replace(module=denoiser.module.clone(dtype=jnp.dtype(TYPES[0]))), batches[-1])
    if peer:
        _peers(record, min(record.left() - until, 90))


def _programs(record: Record, denoiser: jd.Denoiser, batch: int, dtype: str, rate: float) -> None:
    x = jax.random.normal(jax.random.key(0), (batch, *denoiser.image_shape))
    programs: dict[str, Callable[..., Any]] = {"forward": _forward, "guided step": _step}
    for what, program in programs.items():
        try:
            compiled = jax.jit(program).lower(denoiser, x).compile()
            seconds = _median(lambda compiled=compiled: compiled(denoiser, x))
        except jax.errors.JaxRuntimeError as error:
            record.write("speed", what=what, dtype=dtype, batch=batch, error=str(error).split("\n")[0])
            continue
        flops = _flops(compiled)
        row = {"images_per_s": batch / seconds, "ms": 1000 * seconds, "flops": flops, "share": flops / seconds / rate}
        memory = jax.devices()[0].memory_stats() or {}
        record.write("speed", what=what, dtype=dtype, batch=batch, **row, peak_bytes=memory.get("peak_bytes_in_use"))


def _forward(denoiser: jd.Denoiser, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: denoiser(x, jnp.int32(T)).x0)(x)


def _step(denoiser: jd.Denoiser, x: jax.Array) -> jax.Array:
    """A DPS step of box inpainting."""
    shape = denoiser.image_shape
    operator = jd.operators.inpaint_box(image_shape=shape, size=shape[0] // 2)
    problem = jd.Problem(operator, jnp.zeros(shape), jnp.float32(0.05))
    sampler, key, t, s = samplers.dps(), jax.random.key(0), jnp.int32(T), jnp.int32(S)

    def one(x: jax.Array) -> jax.Array:
        state = sampler.init(key, problem, denoiser, t)._replace(x=x)
        return sampler.step(key, state, t, s, problem, denoiser)[0].x

    return jax.vmap(one)(x)


def _flops(compiled: Any) -> float:
    cost = compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return float((cost or {}).get("flops", 0.0))


def _matrix_rate(dtype: Any, side: int) -> float:
    a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * side**3 / _median(lambda: product(a))


def _median(call: Callable[[], Any], rounds: int = 5) -> float:
    jax.block_until_ready(call())
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def _trace(record: Record, denoiser: jd.Denoiser, batch: int) -> None:
    """One guided step as a profile for xprof, packed into one file."""
    x = jnp.zeros((batch, *denoiser.image_shape))
    step = jax.jit(_step)
    jax.block_until_ready(step(denoiser, x))
    folder = record.out / "trace"
    with jax.profiler.trace(str(folder)):
        jax.block_until_ready(step(denoiser, x))
    packed = shutil.make_archive(str(record.out / "trace"), "gztar", folder)
    shutil.rmtree(folder)
    record.write("trace", file=packed.rpartition("/")[2], batch=batch)


def _peers(record: Record, seconds: float) -> None:
    """deepinv beside jaxdiff, by the benchmark that compares them everywhere; it needs torch and deepinv."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "deepinv")):
        record.write("peers", left_out="torch and deepinv are not both here")
        return
    command = [sys.executable, "-m", "benchmarks.vs_pytorch", "--peer", sys.executable, "--rounds", "2", "--batch", "4"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1), check=False)
        record.write("peers", command=" ".join(command[1:]), output=(done.stdout + done.stderr[-500:]))
    except subprocess.TimeoutExpired as error:
        record.write("peers", left_out="no time left", output=str(error.stdout or "")[-2000:])
