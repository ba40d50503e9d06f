"""Is a grid that was killed the same as one that was not? ``jaxdiff bench`` whole, and killed twice by SIGKILL and finished.

Run:     python -m benchmarks.interrupted --data FOLDER [--num_images 4] [--steps 10] [--out DIR]
Shows:   rows of both tables, how many differ in anything but their time, parts done at each kill, and seconds of both.
Time:    6 minutes on two CPU cores, most of it compilation.
Seen:    docs/bench.md.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

TASKS = ("gaussian_blur", "inpaint_random", "super_resolution")
METHODS = ("dps", "ddrm", "ddnm", "diffpir")
SEEDS = ("0", "1")


def command(args: argparse.Namespace, out: Path) -> list[str]:
    options = ["--data", args.data, "--num_images", str(args.num_images), "--steps", str(args.steps), "--part", "2"]
    grid = ["--tasks", *TASKS, "--methods", *METHODS, "--seeds", *SEEDS]
    return [sys.executable, "-m", "jaxdiff", "bench", *options, *grid, "--out", str(out)]


def killed(line: list[str], out: Path, parts: int) -> int:
    """Start the job, kill it when it has so many parts; how many there are then."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((out / "parts").glob("*.csv"))) < parts:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    if process.wait() == 0:
        raise RuntimeError("the job ended before it could be killed; take more images or steps.")
    return len(list((out / "parts").glob("*.csv")))


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", encoding="utf-8", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of pictures")
    parser.add_argument("--num_images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", default="out/interrupted")
    args = parser.parse_args()
    out = Path(args.out)
    shutil.rmtree(out, ignore_errors=True)
    whole, broken = out / "whole", out / "broken"
    begun = time.monotonic()
    subprocess.run(command(args, whole), check=True, stdout=subprocess.DEVNULL)
    middle = time.monotonic()
    total = len(list((whole / "parts").glob("*.csv")))
    line = command(args, broken)
    moments = [killed(line, broken, total * share // 3) for share in (1, 2)]
    subprocess.run(line, check=True)
    end = time.monotonic()
    expected, found = rows(whole), rows(broken)
    different = sum(a != b for a, b in zip(expected, found, strict=True))
    print(
        f"{len(expected)} rows ({len(TASKS)} tasks, {len(METHODS)} methods, {len(SEEDS)} seeds, {args.num_images} images) in "
        f"{middle - begun:.0f} s; killed at {moments[0]} and {moments[1]} of {total} parts and finished in "
        f"{end - middle:.0f} s: {different} rows differ."
    )
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
