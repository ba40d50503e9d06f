"""``jaxdiff app``: a web page on this machine in which a person restores a picture.

The page writes a command line of ``jaxdiff restore``, and what runs is that command, so that both make the same pixels. For
the same reason it has the command's kernels: it is not among the ``LONG`` ones.
"""

import argparse
import contextlib
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.app.wish import Wish
from jaxdiff.app.work import Commands, Restored
from jaxdiff.cli.console import say
from jaxdiff.cli.main import parse
from jaxdiff.cli.measurement import check_operator, pastes, problem_of
from jaxdiff.cli.options import add_general, add_prior, check_noise, load_prior
from jaxdiff.cli.restore import check_finite, drawn, planned, results_of
from jaxdiff.denoisers import Denoiser
from jaxdiff.engine import Glimpse
from jaxdiff.problems import Problem

__all__ = ["ABOUT", "EXAMPLES", "USAGE", "add_arguments", "commands", "run"]

USAGE = "[options]"
ABOUT = (
    "Show a web page in which a person restores a picture with the mouse. It is served to this machine only, unless --host "
    "says otherwise."
)
EXAMPLES = ("jaxdiff app", "jaxdiff app --open --port 8000", "jaxdiff app --prior checkpoints/ffhq256 --dtype auto")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    group = parser.add_argument_group("page")
    group.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)"
    )
    group.add_argument("--port", type=int, default=7860, help="port to listen on (default 7860)")
    group.add_argument("--open", action="store_true", help="open the page in the browser")
    add_prior(parser)
    add_general(parser, seed=False)


def run(args: argparse.Namespace) -> None:
    """Load the prior, serve the page until the user stops it."""
    if not 0 < args.port < 2**16:
        raise ValueError(f"--port {args.port} is not possible: choose between 1 and {2**16 - 1}.")
    try:
        from jaxdiff.app.page import Site
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "gradio":
            raise
        raise ValueError("the page needs the package gradio; install it with: pip install 'jaxdiff[app]'.") from None
    denoiser = load_prior(args)
    site = Site(commands(denoiser), Wish("", prior=args.prior, dtype=args.dtype, label=args.label))
    with site.served(args.host, args.port, browser=args.open) as address:
        say(f"open {address} in a browser; stop with Ctrl-C")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that temporary files are deleted then, too
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def commands(denoiser: Denoiser) -> Commands:
    """What the page may ask of the command line, with a prior that is loaded."""

    def parsed(words: Sequence[str]) -> argparse.Namespace:
        return parse(["jaxdiff", *words])

    def measure(words: Sequence[str]) -> tuple[Problem, np.ndarray | None]:
        args = _parsed(words)
        check_noise(args)
        check_operator(args)
        found = problem_of(args, denoiser.image_shape, _nothing)
        return found.problem, found.truth

    def restore(words: Sequence[str], watch: Callable[[Glimpse], None]) -> Restored:
        plan = planned(_parsed(words), denoiser, _nothing)
        (job,), (draws,) = plan.jobs, drawn(plan, watch=watch)
        check_finite(draws, plan.chosen.method)
        notes: list[str] = []
        job.folder.make()
        rows = results_of(job, draws, notes.append).rows
        problem = job.measured.problem
        return Restored(problem, pastes(job.args, problem), rows, notes, plan.chosen.method + plan.chosen.why)

    return Commands(denoiser, measure, restore)


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options; the report is to tell the command as the page shows it, not where its files are for the moment."""
    args = parse(["jaxdiff", *words])
    image = args.pictures[0]
    line = args.command_line.replace(f"{Path(image).parent}/", "")
    return argparse.Namespace(**vars(args) | {"image": image, "command_line": line})


def _nothing(note: str) -> Any:
    """The page shows the picture as it is read: no note is needed."""
