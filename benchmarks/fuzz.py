"""Random and hostile input for everything that reads what a user gives: it is read, or refused in one sentence.

Run:     python -m benchmarks.fuzz [--seconds 600] [--seed 0] [--target NAME ...]
         Bends honest files by a seed, hands them to their readers in turn, and prints what each did. A case is a fault if it
         ends in anything but a result or a ValueError that names the file, or takes too much time or memory. The exit
         code is 1 if there is a fault; ``--seed S --target NAME --case N`` repeats one of them.
         tests/fuzz runs the first cases of each target.
Time:    as long as it is told.
Seen:    no figures; every fault becomes a test of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import bending
from benchmarks import fuzz_inputs as inputs

SECONDS = 20
"""Processor time that a case may take; three times as long passes before it is stopped, on a busy machine."""
BYTES = 2**30
"""By so much a case may raise the most memory that this process has held."""
LETTERS = 2000
"""A sentence may be so long."""


class Target(NamedTuple):
    """One reader.

    Attributes:
        file: the name that its file has.
        seeds: honest files, made once in an empty folder.
        bend: a hostile file from them.
        read: the reader, which returns or raises a ValueError that names the file.
    """

    file: str
    seeds: Callable[[Path], list[bytes]]
    bend: Callable[[np.random.Generator, list[bytes]], bytes]
    read: Callable[[Path], Any]


TARGETS = {
    "torch": Target("x.pt", inputs.torch_files, bending.bent, inputs.read_torch),
    "torch pickle": Target("x.pt", inputs.torch_pickles, bending.bent_pickle_in_zip, inputs.read_torch),
    "edm": Target("x.pkl", inputs.edm_pickles, bending.bent_pickle, inputs.read_edm),
    "score sde": Target("x.pth", inputs.score_sde_files, bending.bent_archive, inputs.read_any),
    "flax": Target("checkpoint_1", inputs.flax_streams, bending.bent, inputs.read_any),
    "diffusers config": Target("config.json", inputs.diffusers_configs, bending.bent_json, inputs.read_folder),
    "scheduler": Target("scheduler_config.json", inputs.diffusers_schedulers, bending.bent_json, inputs.read_folder),
    "score sde config": Target("x.json", inputs.score_sde_settings, bending.bent_json, inputs.read_score_sde_config),
    "any": Target("x.ckpt", inputs.score_sde_files, bending.bent, inputs.read_any),
    "safetensors": Target("x.safetensors", inputs.safetensors_files, bending.bent, inputs.read_torch),
    "lpips": Target("x.ckpt", inputs.numpy_pickles, bending.bent_pickle, inputs.read_lpips),
    "picture": Target("x.png", inputs.pictures, bending.bent, inputs.read_picture),
    "mask": Target("x.png", inputs.pictures, bending.bent, inputs.read_mask),
    "array": Target("x.npy", inputs.arrays, bending.bent, inputs.read_mask),
    "description": Target("x.json", inputs.descriptions, bending.bent_json, inputs.read_description),
    "weights": Target("x.safetensors", inputs.safetensors_files, bending.bent, inputs.read_weights),
    "resume": Target("x.npz", inputs.bookmarks, inputs.bent_bookmark, inputs.read_bookmark),
    "convert": Target("x.pt", inputs.torch_files, bending.bent, inputs.convert),
    "command": Target("x.txt", inputs.command_words, inputs.bent_command, inputs.command),
}


class Fault(Exception):
    """A reader did what none may do."""


class Fuzzer:
    """The cases of one target for one seed; each is a function of its number."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        self.name, self.seed, self.target = name, seed, TARGETS[name]
        (folder / "seeds").mkdir(parents=True)
        self.path, self.seeds = folder / self.target.file, self.target.seeds(folder / "seeds")

    def bytes(self, case: int) -> bytes:
        """The input: the honest files first, then bent ones."""
        if case < len(self.seeds):
            return self.seeds[case]
        return self.target.bend(np.random.default_rng([self.seed, zlib.crc32(self.name.encode()), case]), self.seeds)

    def run(self, case: int) -> str:
        """What became of a case: "read" or "refused".

        Raises:
            Fault: if it is neither, or costs too much.
        """
        self.path.write_bytes(self.bytes(case))
        begun, held = time.process_time(), _most_memory()
        outcome, message = _outcome(self.target.read, self.path)
        seconds, grown = time.process_time() - begun, _most_memory() - held
        if seconds > SECONDS:
            message = f"{seconds:.0f} s"
        elif grown > BYTES:
            message = f"{grown / 2**20:.0f} MiB"
        if message:
            raise Fault(f"{self.name}, seed {self.seed}, case {case}: {message}")
        return outcome


def _outcome(read: Callable[[Path], Any], path: Path) -> tuple[str, str]:
    """What a reader did, and what is wrong with that."""
    try:
        with _stopped_after(SECONDS), contextlib.redirect_stderr(io.StringIO()) as said:
            read(path)
        return "read", f"it says {said.getvalue()[:200]!r}" if said.getvalue() else ""
    except ValueError as error:
        text = str(error)
        if path.stem not in text or not text.isprintable() or len(text) > LETTERS:
            return "refused", f"the sentence is {text[:400]!r} ({len(text)} letters)"
        return "refused", ""
    except Exception as error:
        return "fault", f"{type(error).__name__}: {str(error)[:400]}"


@contextlib.contextmanager
def _stopped_after(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(3 * seconds + 1)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _most_memory() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--case", type=int, help="this one alone")
    args = parser.parse_args()
    end = time.perf_counter() + args.seconds
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        fuzzers = [Fuzzer(name, args.seed, Path(folder) / name.replace(" ", "-")) for name in args.target]
        counts = {name: Counter[str]() for name in args.target}
        case = 0 if args.case is None else args.case
        while time.perf_counter() < end:
            for fuzzer in fuzzers:
                try:
                    outcome = fuzzer.run(case)
                except Fault as fault:
                    outcome = "fault"
                    faults.append(str(fault))
                    print(fault, flush=True)
                counts[fuzzer.name][outcome] += 1
            case += 1
            if args.case is not None:
                break
    for name, count in counts.items():
        print(f"{name:14s} {count['read']:7d} read {count['refused']:7d} refused {count['fault']:5d} faults")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
