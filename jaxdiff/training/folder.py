"""The folder of a run: its description, which no other run may have, and the priors that it exports."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from jaxdiff.checkpoints import check_target, save_checkpoint
from jaxdiff.files import out_folder, write_text
from jaxdiff.training.config import TrainConfig
from jaxdiff.training.state import TrainState, ema_name
from jaxdiff.training.storage import Checkpoints

__all__ = ["alone", "best_path", "claim", "export_averages", "flat", "made", "prior_paths"]

FREE = ("report", "steps", "data.workers", "data.cache_gib")
"""What may differ between a run and its continuation without making it another run."""


def made(config: TrainConfig, path: str | Path) -> Path:
    """The run's folder, if the priors can be written there when the training is over.

    Raises:
        ValueError: if it cannot be made, or other files of these names are in it.
    """
    out = out_folder(path)
    for prior in [*prior_paths(config, out).values(), best_path(out)]:
        check_target(prior, overwrite=True)
    return out


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other processes from training in this folder, where the system can lock one.

    Raises:
        ValueError: if another process trains there.
    """
    if fcntl is None or jax.process_index() > 0:
        yield
        return
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise ValueError(f"another process trains in {out}; wait for it, or choose another --out.") from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(folder)


def claim(config: TrainConfig, out: Path) -> Checkpoints:
    """Write the run's description into its folder, or see that the folder holds this very run.

    Raises:
        ValueError: if it holds another one.
    """
    file = out / "config.json"
    checkpoints = Checkpoints(out / "checkpoints", config.report.keep)
    if file.exists() and checkpoints.latest() is not None:
        there, here = flat(_description(file, checkpoints).to_dict()), flat(config.to_dict())
        for name in sorted(set(there) | set(here)):
            if there.get(name) != here.get(name) and not _is_free(name):
                checkpoints.close()
                raise ValueError(
                    f"{out} holds another run ({name} is {json.dumps(there.get(name))} there and "
                    f"{json.dumps(here.get(name))} here); choose another --out, or go on with --config {file}."
                )
    if jax.process_index() == 0:
        write_text(file, config.to_json())
    return checkpoints


def _description(file: Path, checkpoints: Checkpoints) -> TrainConfig:
    try:
        return TrainConfig.from_json(file.read_text("utf-8"))
    except ValueError as error:
        checkpoints.close()
        raise ValueError(f"{file} is damaged ({error}); put it right, or choose another --out.") from None


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration's fields by their dotted names, as ``--set`` takes them.

    >>> flat({"data": {"flip": True}, "seed": 0})
    {'data.flip': True, 'seed': 0}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE)


def prior_paths(config: TrainConfig, out: Path) -> dict[float, Path]:
    """Where the prior of each moving average goes; the first is the one to use."""
    return {decay: out / f"prior{f'-{ema_name(decay)}' if i else ''}.safetensors" for i, decay in enumerate(config.ema)}


def best_path(out: Path) -> Path:
    """Where the prior goes that has denoised held-out images best."""
    return out / "prior-best.safetensors"


def export_averages(config: TrainConfig, state: TrainState, paths: Mapping[float, Path]) -> None:
    """Write moving averages, by their decay, as priors that ``load_denoiser`` reads."""
    for decay, path in paths.items():
        updates = int(state.step)
        training = {
            "updates": updates,
            "images": updates * config.optimizer.batch_size,
            "average": decay,
            "sources": [Path(source.path).name for source in config.data.sources],
        }
        save_checkpoint(
            path,
            jax.device_get(state.ema[ema_name(decay)]),
            config.prior,
            metadata={"training": training},
            overwrite=True,
        )
