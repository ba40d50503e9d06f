"""Do we compute what the original PyTorch codes and deepinv compute?

Run:     python -m benchmarks.parity; the exit code is 1 if a row misses its limit.
Shows:   errors of the UNet, operators, schedules, trajectories, DPS gradients, LPIPS, and of deepinv's methods. Every figure
         is a relative L2 error unless its name says otherwise. The references are in tests/golden.
Time:    15 minutes of one CPU core, nearly all of it compilation.
"""

import importlib
import sys

from rich.console import Console

PARTS = ("parity_diffusion", "parity_unet", "parity_families", "parity_operators", "parity_lpips", "parity_deepinv")
ROW = "{:<10} {:<78} {:>8} {:>6} "


def main() -> int:
    """Print a row a comparison, as soon as it is made; 0 if all hold."""
    console = Console(width=120, highlight=False)
    console.print(ROW.format("part", "what", "error", "limit"), style="bold")
    rows = missed = 0
    for part in PARTS:
        for name, error, limit in importlib.import_module(f"benchmarks.{part}").rows():
            holds = error <= limit
            rows, missed = rows + 1, missed + (not holds)
            row = ROW.format(part.removeprefix("parity_"), name, f"{error:.1e}", f"{limit:.0e}")
            console.print(row, "ok" if holds else "MISSED", style="" if holds else "red", markup=False)
    console.print(f"{rows - missed} of {rows} hold")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
