"""The GPU session: parity, speed and training in one command of at most ten minutes.

Run:     python -m benchmarks.gpu --out FOLDER [--data ZIP ...] [--seconds 560]
         python -m benchmarks.gpu --out FOLDER --rehearse      every branch at tiny sizes, on a CPU
Writes:  results.jsonl as it goes, trace.tar.gz, and two moving averages of the prior once a minute, each below 16 MB.
Needs:   jaxdiff's own requirements and optax. deepinv and torch for the comparison; it is left out where they are not.
Seen:    no GPU has run it yet. README.md says what to bring.
"""

import argparse
import dataclasses
import os
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory in the same session

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from benchmarks.gpu import parity, speed, training
from benchmarks.gpu.record import Record
from benchmarks.step_time import denoiser_of
from jaxdiff.models import PRESETS, UNet

PARITY, SPEED = 60.0, 150.0
"""Seconds that a stage may take."""


def main() -> None:
    """Run the stages in order; one that fails is recorded, and the next begins."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="zip files of faces; no training without them")
    parser.add_argument("--seconds", type=float, default=560.0)
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, made-up pictures, no peers")
    args = parser.parse_args()
    record = Record(args.out, args.seconds)
    device = jax.devices()[0]
    record.write(
        "begin", device=device.device_kind, platform=device.platform, jax=jax.__version__, seconds=args.seconds
    )
    if args.rehearse:
        stages = {
            "parity": lambda: parity.run(record, _tiny(), 0, runs=1),
            "speed": lambda: speed.run(record, _tiny(), 0, side=256, batches=(2,), peer=False),
            "training": lambda: _train_tiny(record),
        }
    else:
        denoiser = denoiser_of("ffhq_256")
        stages = {
            "parity": lambda: parity.run(record, denoiser, args.seconds - PARITY),
            "speed": lambda: speed.run(
                record, denoiser, args.seconds - PARITY - SPEED, side=8192, batches=(1, 16, 64, 4), peer=True
            ),
            "training": lambda: _train(record, args.data),
        }
    for name, stage in stages.items():
        try:
            stage()
        except Exception as error:  # The time is short, and what comes after may well work.
            record.write("failed", what=name, error=f"{type(error).__name__}: {error}"[:2000])
            if args.rehearse:
                raise
    record.write("end", seconds_left=record.left())


def _train(record: Record, data: list[Path]) -> None:
    if data:
        training.run(record, *training.images_of(data, 64), {}, None)
    else:
        record.write("training", left_out="no --data")


SMALL = {"image_size": 32, "channel_mult": (1,), "attention_factors": ()}
"""The network of a rehearsal."""


def _tiny() -> jd.Denoiser:
    config = dataclasses.replace(PRESETS["faces64"].unet, **SMALL)
    module, shape = UNet(config), (32, 32, 3)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros(1))["params"]
    return jd.Denoiser(params, jd.schedules.linear(1000), module=module, image_shape=shape, variance="fixed_small")


def _train_tiny(record: Record) -> None:
    images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    changes = {f"prior.unet.{name}": value for name, value in SMALL.items()}
    training.run(record, images, np.ones(8, np.float32), {**changes, "optimizer.batch_size": 4, "dtype": "float32"}, 4)


if __name__ == "__main__":
    main()
