"""What does it cost to convert a large checkpoint? ``jaxdiff convert`` of files with random weights, one process each.

Run:     python -m benchmarks.conversion [--file NAME ...] [--folder FOLDER]
         Writes each file by torch, converts it without the check of the result, and deletes both.
Needs:   torch, which writes the files; 5 GB of disk and 8 GB of memory for the largest one.
Shows:   size of the file, seconds of the command, and the most memory that it held; beside it the size of the weights.
Time:    2 minutes on two CPU cores.
Seen:    docs/convert.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.models import PRESETS, parameter_shapes
from weights_convert.families import rules, score_sde
from weights_convert.guided_diffusion import torch_shapes
from weights_convert.published import score_sde_config
from weights_convert.score_sde_configs import config_from


class Cost(NamedTuple):
    """What a command cost: seconds, and bytes of memory at most."""

    seconds: float
    memory: int


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Random tensors by name."""
    import torch

    rng = np.random.default_rng(0)
    return {name: torch.from_numpy(0.02 * rng.standard_normal(shape, np.float32)) for name, shape in shapes.items()}


def guided_diffusion(preset: str) -> Any:
    """A state dict, as guided-diffusion saves it."""
    return drawn(torch_shapes(parameter_shapes(PRESETS[preset].unet)))


def with_optimizer(name: str) -> Any:
    """What score_sde saves: weights, the two moments of Adam, and averaged weights as a list without names."""
    unet = config_from(score_sde_config(name)[1]).unet
    shapes = rules.torch_shapes(score_sde.names(unet), unet)  # type: ignore[arg-type]
    model, trained = drawn(shapes), [place for place in shapes if not place.endswith("all_modules.0.W")]
    moments = {i: {"exp_avg": model[n] + 1, "exp_avg_sq": model[n] + 2, "step": 7} for i, n in enumerate(trained)}
    averages = {"decay": 0.999, "num_updates": 7, "shadow_params": [model[n] + 3 for n in trained]}
    return {"optimizer": {"state": moments}, "model": model, "ema": averages, "step": 7}


FILES: dict[str, tuple[Callable[[str], Any], str, tuple[str, ...]]] = {
    "ffhq_256.pt": (guided_diffusion, "ffhq_256", ()),
    "imagenet_256.pt": (guided_diffusion, "imagenet_256", ()),
    "ffhq_256_ncsnpp.pth": (
        with_optimizer,
        "ve/ffhq_256_ncsnpp_continuous",
        ("--config", "ffhq_256_ncsnpp_continuous"),
    ),
}
"""File → what makes its contents, of which network, and what a user has to say."""


def write(file: Path) -> None:
    """Write a file."""
    import torch

    make, name, _ = FILES[file.name]
    torch.save(make(name), file)


def written(file: Path) -> None:
    """Write a file in a process that then ends, so that its memory is free again.

    Raises:
        RuntimeError: if that failed.
    """
    process = multiprocessing.get_context("spawn").Process(target=write, args=(file,))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{file} could not be written.")


def cost(line: list[str]) -> Cost:
    """Run a command, and wait for it."""
    begun = time.monotonic()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    _, status, used = os.wait4(os.posix_spawn(line[0], line, os.environ, file_actions=silent), 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(line)} failed.")
    return Cost(time.monotonic() - begun, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--folder", type=Path, help="where the files are written; a temporary folder by default")
    args = parser.parse_args()
    for name in args.file:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            file, out = Path(folder) / name, Path(folder) / "prior"
            written(file)
            options = [*FILES[name][2], "--no-check"]
            found = cost([sys.executable, "-m", "jaxdiff", "convert", str(file), str(out), *options])
            weights = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            print(
                f"{name}: {file.stat().st_size / 1e6:.0f} MB, of which weights {weights / 1e6:.0f} MB; "
                f"{found.seconds:.0f} s; at most {found.memory / 1e6:.0f} MB of memory, "
                f"{found.memory / weights:.1f} times the weights",
                flush=True,
            )


if __name__ == "__main__":
    main()
