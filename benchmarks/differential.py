"""Do random networks of the authors' code compute the same here, from their file to output and input gradient?

Run:     python -m benchmarks.differential [--family NAME ...] [--count 60] [--first 0] [--seed 0] [--originals FOLDER]
         Draws arguments, makes the network by the authors' code with random weights, writes its file, reads it as
         ``jaxdiff convert`` does, and compares. The exit code is 1 if a network differs.
Needs:   torch and diffusers beside jaxdiff; for the other families clones in FOLDER (``benchmarks.originals`` names them).
Shows:   per family, the largest relative L2 error of outputs, of input gradients of a random projection (every third
         network), and of D(x; σ); and what was refused, with the sentence.
Time:    three seconds of one core a network, ten with its gradient.
Seen:    CPU: benchmarks/README.md. Few outputs have been compared yet; a longer run is due.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.originals import MAKERS, Original
from benchmarks.parity_families import denoiser_of, error
from jaxdiff.denoisers import Denoiser
from jaxdiff.typing import Array
from weights_convert.checkpoint import convert_source
from weights_convert.sources import read_source

LIMIT, LOOSE, OWN_ERROR = 1e-5, 1e-4, 2e-6
"""Largest relative L2 error; ``LOOSE`` where the original's own float32 error against float64 is above ``OWN_ERROR``."""
GRADIENTS = 3
"""Of so many networks one is compared in its input gradient, too: compiling it takes most of the time."""


def compare(original: Original, rng: np.random.Generator, gradient: bool) -> dict[str, float]:
    """Relative L2 errors of output, input gradient, and D(x; σ) where the authors' code has it."""
    prior, params = convert_source(read_source(original.path), original.options)
    x = rng.normal(size=(2, *original.shape)).astype(np.float32)
    label, sigma = np.asarray(original.labels, np.float32), np.asarray([0.05, 3.0], np.float32)
    y = None if original.classes is None else rng.integers(original.classes, size=2)
    theirs = _theirs(original, x, label, sigma, y, rng)
    denoiser = denoiser_of(prior.config, params)

    @jax.jit
    def ours(denoiser: Denoiser, x: Array, across: Array, classes: Any) -> dict[str, Array]:
        network = lambda x: denoiser.module.apply({"params": denoiser.params}, x, label, classes)  # noqa: E731
        found = {"output": network(x)}
        if gradient:
            out, pull = jax.vjp(network, x)
            found = {"output": out, "gradient": pull(across)[0]}
        if original.denoise is None:
            return found
        one = lambda x, sigma, y: denoiser.replace(label=y).denoise(x, sigma)  # noqa: E731
        return found | {"D": jax.vmap(one)(x, sigma, classes)}

    classes = None if y is None else jnp.asarray(y, jnp.int32)
    across = theirs.pop("across")
    own = theirs.pop("own error")
    found = {what: error(value, theirs[what]) for what, value in ours(denoiser, x, across, classes).items()}
    return found | {"own error": float(own)}


def _theirs(
    original: Original, x: np.ndarray, label: np.ndarray, sigma: np.ndarray, y: Any, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The same by the authors' code, and what the gradient was projected on."""
    import torch

    if y is not None:
        y = torch.from_numpy(np.eye(original.classes, dtype=np.float32)[y] if original.vectors else y)
    given = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
    out = original.network(given, torch.from_numpy(label), y)
    across = rng.normal(size=out.shape).astype(np.float32)
    (out * torch.from_numpy(across)).sum().backward()
    found = {"output": out, "gradient": given.grad, "across": torch.from_numpy(across)}
    if original.denoise is not None:
        with torch.no_grad():
            found["D"] = original.denoise(given.detach(), torch.from_numpy(sigma), y)
    recorded = {name: _ours(value) for name, value in found.items()}
    return recorded | {"own error": np.asarray(_own_error(original, given.detach(), label, y, recorded["output"]))}


def _own_error(original: Original, x: Any, label: np.ndarray, y: Any, out: np.ndarray) -> float:
    """Relative L2 error of the original in float32 against itself in float64."""
    import torch

    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        original.module.double()
        y = y.double() if original.vectors and y is not None else y
        with torch.no_grad():
            return error(out, _ours(original.network(x.double(), torch.from_numpy(label).double(), y)))
    finally:
        torch.set_default_dtype(default)
        original.module.float()


def _ours(value: Any) -> np.ndarray:
    return np.moveaxis(value.detach().numpy(), 1, -1)


def run(family: str, seed: int, case: int, clones: Path | None) -> tuple[Original | None, dict[str, float] | str]:
    """One case: the network, and its errors or the sentence that refuses it. None where the authors' code fails itself."""
    import torch

    rng = np.random.default_rng([seed, zlib.crc32(family.encode()), case])
    torch.manual_seed(case)
    with tempfile.TemporaryDirectory() as folder:
        try:
            original = MAKERS[family](rng, Path(folder), clones)
            with torch.no_grad():
                h, w, c = original.shape
                y = None if original.classes is None else torch.zeros(1, dtype=torch.int64)
                y = torch.zeros(1, original.classes or 1) if original.vectors and y is not None else y
                original.network(torch.zeros(1, c, h, w), torch.tensor(original.labels[:1]), y)
        except FileNotFoundError:
            raise
        except Exception as failed:
            return None, f"{type(failed).__name__}: {failed}"
        try:
            return original, compare(original, rng, case % GRADIENTS == 0)
        except ValueError as refused:
            return original, str(refused).replace(str(original.path), "FILE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--count", type=int, default=60, help="networks a family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first network")
    parser.add_argument("--verbose", action="store_true", help="a line for each network")
    parser.add_argument("--originals", type=Path, help="folder of clones")
    args = parser.parse_args()
    wrong = 0
    for family in args.family:
        most, counts = dict[str, float](), Counter[str]()
        for case in range(args.first, args.first + args.count):
            try:
                original, found = run(family, args.seed, case, args.originals)
            except FileNotFoundError as missing:
                print(f"{family}: {missing}")
                break
            if isinstance(found, str):
                counts["refused" if original else "impossible"] += 1
                if original or args.verbose:
                    print(f"{family} {case}: {found}", flush=True)
                continue
            assert original is not None
            counts["compared"] += 1
            own = found.pop("own error")
            differs = max(found.values()) > (LOOSE if own > OWN_ERROR else LIMIT)
            wrong += differs
            if differs or args.verbose:
                texts = ", ".join(f"{what} {value:.1e}" for what, value in found.items())
                print(f"{family} {case}: {texts} (own {own:.1e}){f' {original.told}' if differs else ''}", flush=True)
            for what, value in found.items():
                what += " (larger own error)" if own > OWN_ERROR else ""
                most[what] = max(most.get(what, 0.0), value)
        print(f"{family}: {dict(counts)}; {', '.join(f'{k} {v:.1e}' for k, v in most.items())}", flush=True)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
