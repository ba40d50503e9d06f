"""Options that several commands share, in named groups, and the checks of their values."""

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

from jaxdiff import memory
from jaxdiff.checkpoints import load_denoiser
from jaxdiff.cli.console import say
from jaxdiff.denoisers import Denoiser
from jaxdiff.files import check_folder, one_sentence
from jaxdiff.noise import named
from jaxdiff.runtime import fast_dtype
from jaxdiff.samplers.grids import NOISE_SPACINGS
from jaxdiff.schedules import SPACINGS

__all__ = [
    "add_general",
    "add_length",
    "add_noise",
    "add_open",
    "add_prior",
    "add_run",
    "at_least_one",
    "check_batch_size",
    "check_count",
    "check_free",
    "check_noise",
    "check_picture_path",
    "check_steps",
    "load_prior",
]

Group = argparse._ActionsContainer

COPIES = 3
"""Of each draw in memory: itself, what was measured, and what is written."""


def add_prior(parser: argparse.ArgumentParser) -> None:
    """``--prior``, ``--dtype`` and ``--label``."""
    group = parser.add_argument_group("prior")
    group.add_argument(
        "--prior",
        default="faces64",
        help="the name of an embedded prior, the path of a converted checkpoint, or hf:owner/repo",
    )
    group.add_argument(
        "--dtype",
        default="float32",
        help="number type of the network: float32 (default), bfloat16, or auto, which is bfloat16 on GPU, TPU and AMX",
    )
    group.add_argument("--label", type=int, default=None, help="class of a class-conditional prior")


def add_general(parser: argparse.ArgumentParser, *, seed: bool = True, overwrite: bool = False) -> None:
    """``--seed``, ``--overwrite`` and ``--verbose``."""
    group = parser.add_argument_group("general")
    if seed:
        group.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default 0)")
    if overwrite:
        group.add_argument(
            "--overwrite", action="store_true", help="replace the files that an earlier run wrote into --out"
        )
    group.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")


def add_run(group: Group) -> None:
    """``--spacing`` and ``--batch-size``."""
    spacings = ", ".join((*SPACINGS, *NOISE_SPACINGS))
    group.add_argument("--spacing", default=None, help=f"grid of noise levels: {spacings} (default: the method's own)")
    group.add_argument(
        "--batch-size", default="auto", help="images restored together; auto (default) takes as many as fit into memory"
    )


def add_open(group: Group) -> None:
    """``--open``."""
    group.add_argument("--open", action="store_true", help="open report.html in the browser at the end")


def add_length(group: argparse._ArgumentGroup, default: str) -> None:
    """``--steps`` or ``--calls``."""
    either = group.add_mutually_exclusive_group()
    either.add_argument("--steps", type=int, default=None, help=f"steps of a run ({default})")
    either.add_argument(
        "--calls", type=int, default=None, help="use at most this many network calls for an image, instead of --steps"
    )


MOST = 2**31 - 1
"""Largest value of a count."""


def at_least_one(args: argparse.Namespace, *names: str) -> None:
    """Check that options, if they are given, are positive, and no larger than a count can be.

    Raises:
        ValueError: if one is not.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and not 1 <= value <= MOST:
            limit = "at least 1" if value < 1 else f"at most {MOST}"
            raise ValueError(f"--{name.replace('_', '-')} {one_sentence(value, 40)} is not possible: it is {limit}.")


def check_count(count: int, image_shape: Sequence[int], pictures: int = 1) -> None:
    """Check that the draws of all pictures, which are written at the end, fit into memory.

    Raises:
        ValueError: if they do not.
    """
    needed, free = COPIES * 4 * math.prod(image_shape) * pictures, memory.free()  # bytes, those of one draw a picture
    if count * needed > free:
        raise ValueError(
            f"--count {count} needs {count * needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB of memory are free; "
            f"take at most --count {int(free / needed)}."
        )


def check_batch_size(text: str) -> int | str:
    """``--batch-size`` as a number, or "auto".

    Raises:
        ValueError: if it is neither.
    """
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError(f"--batch-size {text} is not possible: a positive whole number, or auto.")
    return int(text)


def check_picture_path(text: str, example: str) -> Path:
    """``--out`` as the path of a picture that can be written.

    Raises:
        ValueError: if it names none, or a folder.
    """
    out = Path(text)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"--out {out} must name a picture such as {example}.")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a picture in it, such as {out / example}.")
    check_folder(out.parent)
    return out


def check_free(out: Path, source: str, *, overwrite: bool) -> None:
    """See that a file may be written.

    Raises:
        ValueError: if it is there and ``overwrite`` is off, or if it is the ``source`` that is read.
    """
    if out.exists() and os.path.exists(source) and os.path.samefile(out, source):
        raise ValueError(f"{out} is read by this command, which would overwrite it; choose another --out.")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists; add --overwrite, or choose another --out.")


def load_prior(args: argparse.Namespace) -> Denoiser:
    """The denoiser that ``--prior``, ``--dtype`` and ``--label`` name; ``--dtype auto`` becomes the type chosen.

    Raises:
        ValueError: if it cannot be loaded, or is class-conditional and there is no label.
    """
    if args.dtype == "auto":
        args.dtype, why = fast_dtype()
        say(f"--dtype auto is {args.dtype} here: {why}.")
    denoiser = load_denoiser(args.prior, dtype=args.dtype, label=args.label)
    classes = denoiser.module.config.num_classes
    if classes is not None and args.label is None:
        raise ValueError(f"{args.prior} is class-conditional; choose a class with --label 0 … {classes - 1}.")
    return denoiser


def add_noise(group: Group, std: str) -> None:
    """``--noise`` and ``--noise-std``."""
    group.add_argument("--noise-std", type=float, default=None, help=f"σ on the [-1, 1] scale; {std}")
    group.add_argument(
        "--noise",
        default=None,
        help="gaussian (of --noise-std), poisson[:RATE], poisson-gaussian[:RATE[,STD]] or salt-and-pepper[:FRACTION[,STD]]; "
        "default: the task's own",
    )


def check_noise(args: argparse.Namespace) -> None:
    """``--noise-std`` and ``--noise``, if they are given.

    Raises:
        ValueError: if σ is negative or more than float32 holds, the noise is unknown, or both are given.
    """
    std, noise = args.noise_std, args.noise
    if std is not None and not 0 <= std < 1e38:
        raise ValueError(f"--noise-std {std:g} is not possible: σ is zero or positive, and finite.")
    if noise not in (None, "gaussian"):
        named(noise)
        if std is not None:
            raise ValueError(f"--noise-std goes with Gaussian noise, not with --noise {noise}; give one of them.")


def check_steps(denoiser: Denoiser, steps: int | None, default: int = 250) -> int:
    """``steps`` if the prior's schedule can take as many. None stands for ``default``, or for as many as it can take.

    Raises:
        ValueError: if it cannot take as many.
    """
    total = denoiser.schedule.num_steps
    if steps is None:
        return min(default, total)
    if not 1 <= steps <= total:
        raise ValueError(f"--steps {steps} is not possible with this prior: choose between 1 and {total}.")
    return steps
