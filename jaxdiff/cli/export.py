"""``jaxdiff export``: a whole restoration as a StableHLO artifact that runs without jaxdiff."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxdiff import export, tasks
from jaxdiff.cli.console import add_prior, check_steps, console, load_prior
from jaxdiff.samplers import grid_for

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--task", default="inpaint_box", help="the operator inside; see jaxdiff info")
    parser.add_argument("--method", default="dps", help="how to restore; see jaxdiff info")
    parser.add_argument("--steps", type=int, default=250, help="steps of a whole run (default 250)")
    parser.add_argument("--spacing", default=None, help="how the steps are spread; the method's own by default")
    parser.add_argument("--batch", type=int, default=1, help="images a call (default 1)")
    parser.add_argument("--platforms", default="cpu,cuda,tpu", help="what it will run on (default cpu,cuda,tpu)")
    parser.add_argument("--input", default="measurement", help="measurement (default), or image: measured inside")
    parser.add_argument("--weights", default="auto", help="inside, beside (.npz), or auto: inside up to 50 MiB")
    parser.add_argument(
        "--check", action="store_true", help="compile and run it here once, and say how long that takes"
    )
    parser.add_argument(
        "--out", default="out/restore.jaxexport", help="the artifact; a .json beside it says how to run it"
    )
    add_prior(parser)


def run(args: argparse.Namespace) -> None:
    """Trace, lower, write; compile and run where asked to."""
    export.check_free(args.out)
    task = tasks.get_task(args.task)
    denoiser = load_prior(args)
    check_steps(denoiser, args.steps)
    place, _ = jax.random.split(jax.random.key(args.seed))  # as jaxdiff restore places a mask
    operator = task.make(place, denoiser.image_shape)
    sampler = tasks.sampler(args.method, args.task, args.prior)
    grid = grid_for(denoiser, sampler, args.steps, args.spacing)
    about = {name: getattr(args, name) for name in ("task", "method", "prior", "steps")}
    about["spacing"] = args.spacing or sampler.spacing
    artifact = export.export_restoration(
        denoiser,
        operator,
        sampler,
        steps=grid,
        batch_size=args.batch,
        platforms=[name.strip() for name in args.platforms.split(",") if name.strip()],
        inputs=args.input,
        weights=args.weights,
        about=about | {"settings": tasks.settings(args.method, args.task, args.prior), "noise_std": task.noise_std},
    )
    files = export.write_artifact(args.out, artifact)
    names = ", ".join(str(path) for path in files)
    size = sum(path.stat().st_size for path in files) / 2**20
    console.print(f"traced and lowered in {artifact.seconds:.1f} s; written {names}: {size:.1f} MiB", soft_wrap=True)
    if args.check:
        _try(files, artifact, task.noise_std)


def _try(files: Sequence[Path], artifact: export.Artifact, noise_std: float) -> None:
    """Run what was written, as its reader would."""
    exported = jax.export.deserialize(bytearray(files[0].read_bytes()))
    first, batch = artifact.description["inputs"][0], artifact.description["batch_size"]
    data = np.random.RandomState(0).uniform(-1, 1, first["shape"]).astype(first["dtype"])
    inputs = (data, np.float32(noise_std), np.uint32(0), np.arange(batch, dtype=np.uint32))
    more = () if artifact.weights is None else (artifact.weights,)
    begun = time.perf_counter()
    program = jax.jit(exported.call).lower(*inputs, *more).compile()
    compiled = time.perf_counter()
    x = np.asarray(program(*inputs, *more))
    done = time.perf_counter()
    if not np.isfinite(x).all():
        raise ValueError("the artifact runs, but gave values that are not finite; use more steps or another method.")
    console.print(
        f"checked: compiled in {compiled - begun:.1f} s, then {done - compiled:.2f} s for {batch} image(s) on "
        f"{jax.devices()[0].device_kind}"
    )
