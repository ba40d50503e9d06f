"""``jaxdiff export``: a whole restoration as a StableHLO artifact that runs without jaxdiff."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxdiff import export, tasks
from jaxdiff.cli.console import open_first, say
from jaxdiff.cli.measurement import add_operator, check_operator, noise_of, operator_of, recorded_as
from jaxdiff.cli.method import table_of
from jaxdiff.cli.options import add_general, add_prior, at_least_one, check_steps, load_prior
from jaxdiff.noise import NoiseModel
from jaxdiff.samplers import grid_for
from jaxdiff.tables import counted

__all__ = ["ABOUT", "ALIASES", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "[options]"
ABOUT = (
    "Write a whole restoration as one StableHLO file that runs without jaxdiff, and a .json that says how to run it."
)
EXAMPLES = (
    "jaxdiff export --task inpaint_box --method dps --steps 100 --check",
    "jaxdiff export --task inpaint_mask --mask mask.png --method ddnm --out out/mask.jaxexport",
    "jaxdiff export --task jpeg --quality 20 --batch-size 8 --platforms cuda --input image --out out/jpeg.jaxexport",
)
ALIASES = {"--batch": "--batch-size"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_operator(parser, task="inpaint_box")
    group = parser.add_argument_group("method")
    group.add_argument("--method", default="dps", help="a method that jaxdiff info lists (default dps)")
    group.add_argument(
        "--settings",
        default="recorded",
        help="recorded (default): those found for the task and prior; defaults: the method's own; or a file of jaxdiff tune",
    )
    group.add_argument("--steps", type=int, default=None, help="steps of a run (default 250)")
    group.add_argument("--spacing", default=None, help="grid of noise levels (default: the method's own)")
    group = parser.add_argument_group("output")
    group.add_argument("--batch-size", type=int, default=1, help="images in a call (default 1)")
    group.add_argument(
        "--platforms", default="cpu,cuda,tpu", help="platforms that it will run on (default cpu,cuda,tpu)"
    )
    group.add_argument(
        "--input",
        default="measurement",
        help="what the program takes: the measurement (default), or an image, which it then measures",
    )
    group.add_argument(
        "--weights",
        default="auto",
        help="where the weights go: inside the file, beside it (.npz), or auto (default), which is inside up to 50 MiB",
    )
    group.add_argument("--check", action="store_true", help="compile it here, run it once, and print the times")
    group.add_argument(
        "--out",
        default="out/restore.jaxexport",
        help="the file to write; a .json beside it says how to run it (default out/restore.jaxexport)",
    )
    add_prior(parser)
    add_general(parser)


def run(args: argparse.Namespace) -> None:
    """Trace, lower, write; compile and run where asked to."""
    export.check_free(args.out)
    check_operator(args)
    at_least_one(args, "batch_size")
    denoiser = load_prior(args)
    args.steps = check_steps(denoiser, args.steps)
    place, _ = jax.random.split(jax.random.key(args.seed))  # as jaxdiff restore places a mask
    operator, noise_std = operator_of(args, place, denoiser.image_shape), _noise_std(args)
    task = recorded_as(args.task)
    table = table_of(args.settings, args.method, args.prior)
    sampler = tasks.sampler(args.method, task, args.prior, table=table)
    grid = grid_for(denoiser, sampler, args.steps, args.spacing)
    about = {name: getattr(args, name) for name in ("task", "method", "prior", "steps")}
    about["spacing"] = args.spacing or sampler.spacing
    artifact = export.export_restoration(
        denoiser,
        operator,
        sampler,
        steps=grid,
        batch_size=args.batch_size,
        platforms=[name.strip() for name in args.platforms.split(",") if name.strip()],
        inputs=args.input,
        weights=args.weights,
        about=about | {"settings": tasks.settings(args.method, task, args.prior, table), "noise_std": noise_std},
    )
    files = export.write_artifact(args.out, artifact)
    names = ", ".join(str(path) for path in files)
    size = sum(path.stat().st_size for path in files) / 2**20
    say(f"traced and lowered in {artifact.seconds:.1f} s; written {names}: {size:.1f} MiB")
    if args.check:
        _try(files, artifact, noise_std)
    open_first(next(path for path in files if path.suffix == ".json"))


def _noise_std(args: argparse.Namespace) -> float:
    """The task's σ, for the record: an artifact takes σ when it runs."""
    args.noise = args.noise_std = None
    noise = noise_of(args)
    if isinstance(noise, NoiseModel):
        raise ValueError(f"{args.task} has {noise.title}, but an artifact takes σ; choose a task with Gaussian noise.")
    return noise


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
    say(
        f"checked: compiled in {compiled - begun:.1f} s, then {done - compiled:.2f} s for {counted(batch, 'image')} on "
        f"{jax.devices()[0].device_kind}"
    )
