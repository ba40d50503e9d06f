"""One machine made to look like many: forced host devices, and two processes under ``jax.distributed``.

Run:     python -m benchmarks.scaling [--devices 1,2,4,8] [--images 8] [--steps 4] [--rounds 5] [--method dps]
Shows:   for each number of devices, in a process of its own: the largest difference of ``jd.restore`` over these devices
         from one device, and the overhead of the sharded program over the plain one (``vmap`` on one device). Figures are
         medians of interleaved rounds; processes take turns. Forced devices share the same cores, so no speed is gained:
         this measures what sharding costs. Then two processes under ``jax.distributed``, each with its share of the
         images: difference from one process.
Time:    3 minutes on two CPU cores.
Seen:    docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._peer import ROOT, Peer, serve


class Work:
    """The same restorations, for every process."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make images, measurements and method."""
        import jax
        import jax.numpy as jnp

        import jaxdiff as jd
        from jaxdiff import tasks

        self.jax, self.jd, self.steps, self.count = jax, jd, options.steps, options.images
        self.denoiser = jd.load_denoiser("faces64")
        self.sampler = tasks.sampler(options.method, "inpaint_box", "faces64")
        shape = self.denoiser.image_shape
        operator = jd.operators.inpaint_box(image_shape=shape, size=shape[0] // 2)
        images = np.random.RandomState(0).uniform(-1, 1, (options.images, *shape)).astype(np.float32)
        keys = jax.random.split(jax.random.key(0), options.images)
        self.problems = [jd.observe(k, operator, jnp.asarray(x), 0.05) for k, x in zip(keys, images, strict=True)]
        self.key = jax.random.key(1)

    def restore(self, devices: Any = None) -> tuple[np.ndarray, float]:
        """Images and seconds (compilation apart), by the engine."""
        outcome = self.jd.restore(
            self.key,
            self.denoiser,
            self.problems,
            self.sampler,
            steps=self.steps,
            devices=devices,
            batch_size=self.count,
        )
        return outcome.x, outcome.seconds

    def plain(self) -> Callable[[], Any]:
        """``vmap`` of ``jd.sample`` on one device, compiled; the weights are an argument as in the engine."""
        jax, jd = self.jax, self.jd
        keys = jax.vmap(lambda i: jax.random.fold_in(self.key, i))(np.arange(self.count))
        problems = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *self.problems)

        def whole(keys: Any, problems: Any, denoiser: Any, sampler: Any) -> Any:
            return jax.vmap(lambda k, p: jd.sample(k, denoiser, p, sampler, steps=self.steps)[0])(keys, problems)

        arguments = (keys, problems, self.denoiser, self.sampler)
        program = jax.jit(whole).lower(*arguments).compile()
        return lambda: jax.block_until_ready(program(*arguments))

    def sharded(self, count: int) -> Callable[[], Any]:
        """The same program with its batch split over ``count`` devices."""
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        from jaxdiff.engine.placement import Placement

        jax, jd = self.jax, self.jd
        mesh = Mesh(np.asarray(jax.devices()[:count]), ("batch",))
        placement = Placement(mesh)
        keys = jax.vmap(lambda i: jax.random.fold_in(self.key, i))(np.arange(self.count))
        problems = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *self.problems)

        def whole(keys: Any, problems: Any, denoiser: Any, sampler: Any) -> Any:
            return jax.vmap(lambda k, p: jd.sample(k, denoiser, p, sampler, steps=self.steps)[0])(keys, problems)

        arguments = (*placement.split((keys, problems)), *placement.whole((self.denoiser, self.sampler)))
        split = NamedSharding(mesh, PartitionSpec("batch"))
        function = placement.shard(whole, (True, True, False, False))
        program = jax.jit(function, out_shardings=split).lower(*arguments).compile()
        return lambda: jax.block_until_ready(program(*arguments))


def server(options: argparse.Namespace) -> Callable[..., Any]:
    """What a process with forced devices answers with."""
    work = Work(options)
    count = work.jax.device_count()
    programs = {"plain": work.plain(), "sharded": work.sharded(count)}

    def answer(what: str, path: str = "") -> Any:
        if what == "save":
            np.savez(path, engine=work.restore()[0], sharded=programs["sharded"](), plain=programs["plain"]())
            return count
        begun = time.perf_counter()
        programs[what]()
        return time.perf_counter() - begun

    return answer


def forced(options: argparse.Namespace, folder: str) -> np.ndarray:
    """The table over numbers of devices; returns the images of one device."""
    counts = [int(n) for n in options.devices.split(",")]
    common = ("--images", str(options.images), "--steps", str(options.steps), "--method", options.method)
    peers = {}
    for n in counts:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n}"
        peers[n] = Peer(sys.executable, "benchmarks.scaling", *common, environment={"XLA_FLAGS": flags.strip()})
    images = {}
    for n, peer in peers.items():
        found = peer.ask(what="save", path=f"{folder}/{n}.npz")
        if found != n:
            raise RuntimeError(f"{n} devices were asked for, {found} are there; forced devices are for the CPU.")
        images[n] = dict(np.load(f"{folder}/{n}.npz"))
    reference = images[counts[0]]["plain"]
    times: dict[tuple[int, str], list[float]] = {(n, what): [] for n in counts for what in ("plain", "sharded")}
    for turn in range(options.rounds):
        for n, peer in peers.items():
            for what in ("plain", "sharded")[:: 1 if turn % 2 else -1]:
                times[n, what].append(peer.ask(what=what))
    print("| devices | largest difference of jd.restore | of the sharded program | plain s | sharded s | overhead |")
    print("|---|---|---|---|---|---|")
    for n in counts:
        apart = [float(np.abs(images[n][name] - reference).max()) for name in ("engine", "sharded")]
        plain, sharded = (statistics.median(times[n, what]) for what in ("plain", "sharded"))
        ratio = statistics.median(b / a for a, b in zip(times[n, "plain"], times[n, "sharded"], strict=True))
        print(f"| {n} | {apart[0]:.1e} | {apart[1]:.1e} | {plain:.2f} | {sharded:.2f} | {ratio - 1:+.1%} |", flush=True)
    for peer in peers.values():
        peer.close()
    return reference


def process(options: argparse.Namespace) -> None:
    """One of the processes under ``jax.distributed``: its share of the images."""
    from jaxdiff import hosts

    hosts.join()
    import jax

    from jaxdiff.engine import restore_many, stack

    work = Work(options)
    mine = hosts.share(range(options.images))
    keys = jax.vmap(lambda i: jax.random.fold_in(work.key, i))(np.asarray(mine))
    outcome = restore_many(keys, work.denoiser, stack([work.problems[i] for i in mine]), work.sampler, steps=work.steps)
    np.savez(options.save, index=mine, x=outcome.x)


def distributed(options: argparse.Namespace, folder: str, reference: np.ndarray) -> None:
    """Start the processes and compare."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "benchmarks.scaling",
        "--images",
        str(options.images),
        "--steps",
        str(options.steps),
    ]
    command += ["--method", options.method]
    environment = os.environ | {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}
    running = [
        subprocess.Popen(
            [*command, "--save", f"{folder}/process{i}.npz"], cwd=ROOT, env=environment | {"JAX_PROCESS_ID": str(i)}
        )
        for i in range(2)
    ]
    if any([job.wait() for job in running]):
        raise RuntimeError("a process failed; its error stands above.")
    found, counts = np.empty_like(reference), []
    for i in range(2):
        part = np.load(Path(folder) / f"process{i}.npz")
        found[part["index"]] = part["x"]
        counts.append(len(part["index"]))
    print(f"\n2 processes, {counts} images: largest difference from one process {np.abs(found - reference).max():.1e}")


def main() -> None:
    """Parse flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="1,2,4,8")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--method", default="dps")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--save", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(server(options))
    if options.save:
        return process(options)
    with tempfile.TemporaryDirectory() as folder:
        distributed(options, folder, forced(options, folder))


if __name__ == "__main__":
    main()
