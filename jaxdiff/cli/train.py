"""`jaxdiff train`: options to a configuration, a configuration to a run."""

import argparse
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdiff import hosts
from jaxdiff.checkpoints import load_checkpoint
from jaxdiff.cli.console import Stage, open_first, progress, say
from jaxdiff.cli.options import add_open
from jaxdiff.files import check_folder
from jaxdiff.pages import REPORT
from jaxdiff.profiling import Trace
from jaxdiff.training.config import TrainConfig, bundled, load_config
from jaxdiff.training.report import Progress
from jaxdiff.training.writers import WRITERS, writer_named

__all__ = ["ABOUT", "EXAMPLES", "MORE", "Told", "USAGE", "add_arguments", "config_from", "run"]

PATHS = ("init", "data.holdout_path")
"""Fields that may name files: made absolute, so that a run goes on from any folder; sources and teachers are, too."""

USAGE = "--out FOLDER [options]"
ABOUT = "Train a prior on folders or zips of images, or go on with a run that was stopped."
EXAMPLES = (
    "jaxdiff train --config faces64_minutes --data faces.zip --out runs/first",
    "jaxdiff train --config runs/first/config.json --out runs/first",
    "jaxdiff train --config faces64_hours --data faces/ --out runs/long --log-to tensorboard --profile runs/trace",
    "jaxdiff train --init checkpoints/ffhq256 --data photos/ --data more.zip=4 --out runs/tuned",
)
MORE = (f"\nThe second command continues a run. Configurations that come with jaxdiff: {', '.join(bundled())}.",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of ``jaxdiff train``."""
    group = parser.add_argument_group("what to train")
    group.add_argument("--config", help="a bundled configuration, or a file such as RUN/config.json")
    group.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="PATH[=WEIGHT]",
        help="folder or zip of images; weight 4 shows its images four times as often as weight 1 (default 1); repeatable",
    )
    group.add_argument(
        "--init", metavar="PATH", help="start from the weights of this converted checkpoint or named prior"
    )
    group.add_argument("--steps", type=int, help="number of updates")
    group.add_argument("--batch-size", type=int, help="images in an update")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the configuration, such as optimizer.learning_rate=1e-4; repeatable",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--out", required=True, help="folder of the run; a run that is there already continues")
    group.add_argument("--show-config", action="store_true", help="print the configuration and stop")
    group.add_argument(
        "--log-to",
        action="append",
        default=[],
        metavar="WRITER",
        help=f"send numbers and sample sheets to {' or '.join(WRITERS)} too; repeatable",
    )
    group.add_argument("--profile", metavar="DIR", help="write an xprof trace of three updates into this folder")
    group.add_argument("--no-progress", action="store_true", help="print no progress")
    add_open(group)
    group = parser.add_argument_group("general")
    group.add_argument("--seed", type=int, help="seed of all random numbers")
    group.add_argument(
        "--distributed", action="store_true", help="this process is one of several hosts (jax.distributed)"
    )
    group.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")


class Told(Progress):
    """Shows on the console how a run goes."""

    def __init__(self, bar: Callable[..., Stage]) -> None:
        self._bar, self._stages = bar, dict[str, Stage]()

    def advance(self, stage: str, done: int, total: int, *, note: str = "", line: bool = False) -> None:
        """Move the stage's bar; without a terminal, print its line."""
        if stage not in self._stages:
            self._stages[stage] = self._bar(stage, total)
        self._stages[stage].at(done, total=total, note=note, line=line)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        say(text)


def config_from(args: argparse.Namespace) -> TrainConfig:
    """The configuration that the options describe.

    Raises:
        ValueError: an option that cannot be read or a configuration that cannot work.
    """
    changes: dict[str, Any] = {}
    if args.data:
        changes["data.sources"] = [_source(text) for text in args.data]
    for name, value in (("steps", args.steps), ("optimizer.batch_size", args.batch_size), ("seed", args.seed)):
        if value is not None:
            changes[name] = value
    if args.init is not None:
        changes["init"] = args.init
    for text in args.set:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ValueError(f"--set takes FIELD=VALUE, got {text!r}.")
        changes[name] = _value(value)
    for name in PATHS:
        if isinstance(changes.get(name), str):
            changes[name] = _absolute(changes[name])
    if isinstance(changes.get("loss.teachers"), list):
        changes["loss.teachers"] = [_teacher(value) for value in changes["loss.teachers"]]
    base = args.config
    if base is None:
        going_on = Path(args.out) / "config.json"
        base = str(going_on) if going_on.is_file() else None
    if base is None and args.init is None:
        raise ValueError(f"say what to train: --config with a file or one of {', '.join(bundled())}, or --init.")
    if base in (None, "finetune") and args.init is not None:
        # First, so that what --set says of single fields comes on top.
        changes = {"prior": load_checkpoint(args.init).config.to_dict()} | changes
    return load_config(base or "finetune", changes)


def _source(text: str) -> dict[str, Any]:
    path, sign, weight = text.rpartition("=")
    if sign and not path:
        raise ValueError(f"--data takes PATH or PATH=WEIGHT, and {text!r} has no path.")
    if not sign or Path(text).exists():
        return {"path": _absolute(text)}
    try:
        return {"path": _absolute(path), "weight": float(weight)}
    except ValueError:
        raise ValueError(f"--data takes PATH or PATH=WEIGHT with a number as weight, got {text!r}.") from None


def _teacher(value: Any) -> Any:
    """A teacher from its path alone, or from its fields."""
    value = {"path": value} if isinstance(value, str) else value
    known = isinstance(value, dict) and isinstance(value.get("path"), str)
    return value | {"path": _absolute(value["path"])} if known else value


def _absolute(path: str) -> str:
    here = Path(os.path.expanduser(path))
    return str(here.absolute()) if here.exists() else path


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def run(args: argparse.Namespace) -> int:
    """Trains as ``args`` say; returns the exit code.

    Raises:
        ValueError: one sentence for the user.
    """
    missing = [name for name in ("grain", "optax") if not _installed(name)]
    if missing:
        raise ValueError(f"training needs {' and '.join(missing)}; install with: pip install 'jaxdiff[train]'.")
    if args.distributed:
        hosts.join()
    config = config_from(args)
    if args.show_config:
        print(config.to_json(), end="")
        return 0
    from jaxdiff.training.loop import train

    writers = [writer_named(name, args.out) for name in dict.fromkeys(args.log_to)]
    trace = None if args.profile is None else Trace(check_folder(args.profile, "--profile"))
    made = [path for path in (Path(args.out), *Path(args.out).parents) if not path.exists()]
    try:
        with progress() as bar:
            result = train(
                config, args.out, progress=None if args.no_progress else Told(bar), writers=writers, trace=trace
            )
    except ValueError:
        # Refused before the first update: leave nothing half-written behind in a folder that is ours.
        if made and not (Path(args.out) / "log.csv").exists():
            shutil.rmtree(made[-1], ignore_errors=True)
        raise
    if trace is not None:
        say(trace.told())
    if result.finished and not args.no_progress:
        print(f"{result.step} updates done; the prior is {Path(args.out) / 'prior.safetensors'}")
    if result.finished and (args.open or not args.no_progress):
        open_first(Path(args.out) / REPORT, browser=args.open)
    return 0


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
