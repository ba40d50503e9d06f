"""Do we compute what the original PyTorch codes and deepinv compute?

Run:     python -m benchmarks.parity; the exit code is 1 if a row misses its limit.
Shows:   errors of the UNet, operators, schedules, trajectories, DPS gradients, LPIPS, and of deepinv's methods. Every figure
         is a relative L2 error unless its name says otherwise. The references are in tests/golden.
Time:    2 minutes on two CPU cores.
"""

import importlib
import sys

from rich.console import Console
from rich.table import Table

PARTS = ("parity_diffusion", "parity_unet", "parity_families", "parity_operators", "parity_lpips", "parity_deepinv")


def main() -> int:
    """Print a row a comparison; 0 if all hold."""
    table = Table(title="Parity with the original code and deepinv")
    for name in ("part", "what", "error", "limit", ""):
        table.add_column(name, justify="right" if name in ("error", "limit") else "left")
    missed = 0
    for part in PARTS:
        for name, error, limit in importlib.import_module(f"benchmarks.{part}").rows():
            holds = error <= limit
            missed += not holds
            mark = "[green]ok[/]" if holds else "[red]MISSED[/]"
            table.add_row(part.removeprefix("parity_"), name, f"{error:.1e}", f"{limit:.0e}", mark)
    Console(width=110).print(table)
    print(f"{table.row_count - missed} of {table.row_count} hold")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
