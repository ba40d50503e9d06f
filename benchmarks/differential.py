"""Do random networks of the authors' code compute the same here, from their file to output and input gradient?

Run:     python -m benchmarks.differential [--family NAME ...] [--count 60] [--first 0] [--seed 0] [--originals FOLDER]
                                           [--float64] [--out FILE.json]
         Draws arguments, makes the network by the authors' code with random weights, writes its file, reads it as
         ``jaxdiff convert`` does, and compares. The exit code is 1 if a network differs.
Needs:   torch and diffusers beside jaxdiff; for the other families clones in FOLDER (``benchmarks.originals`` names them).
Shows:   per family, the largest relative L2 error of outputs, of input gradients of a random projection (every sixth
         network), of D(x; σ), and of x̂₀ and log-variance at whole timesteps; and what was refused, with the sentence. With
         --float64 both codes compute in float64, so that a difference of mathematics cannot hide below rounding.
Time:    three seconds of one core a network, ten with its gradient.
Seen:    CPU: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
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
"""Largest relative L2 error; ``LOOSE`` where the original's own float32 error against float64 is above ``OWN_ERROR``.

Timesteps reach 4000, where a phase in float32 is exact to 1e-4. So x̂₀ and log-variance have an own error of themselves.
"""
STEP = ("x0", "log variance")
DOUBLE = 1e-6
"""The same in float64: both codes keep sinusoids, and some their norms, in float32."""
GRADIENTS = 6
"""Of so many networks one is compared in its input gradient, too: compiling it takes most of the time."""
SMALL = (2.0**-12, 2.0**-8)
"""Labels in float64, whose phases float32 has to enough digits."""

Named = dict[str, np.ndarray]


def compare(original: Original, rng: np.random.Generator, *, gradient: bool, double: bool) -> dict[str, float]:
    """Relative L2 errors of all that both codes compute, and of each code's output against the authors' in float64."""
    prior, params = convert_source(read_source(original.path), original.options)
    original = original._replace(labels=SMALL, denoise=None, step=None) if double else original
    x = rng.normal(size=(2, *original.shape)).astype(np.float32)
    y = None if original.classes is None else rng.integers(original.classes, size=2)
    times = np.asarray([rng.integers(1, 20), rng.integers(prior.config.num_steps // 3, prior.config.num_steps)])
    exact = _theirs(original, x, y, times, rng, double=True)
    theirs = exact if double else _theirs(original, x, y, times, rng, double=False, across=exact["across"])
    with jax.enable_x64(double):
        kind = jnp.float64 if double else jnp.float32
        denoiser = denoiser_of(prior.config, params, dtype=kind)
        classes = None if y is None else jnp.asarray(y, jnp.int32)
        found = _ours(denoiser, original, x.astype(kind), classes, times, theirs["across"].astype(kind), gradient)
    errors = {what: error(value, theirs[what]) for what, value in found.items() if what in theirs}
    own = {f"own error of {what}": error(theirs[what], exact[what]) for what in STEP if what in theirs}
    own |= {"own error": error(theirs["output"], exact["output"])}
    return errors | own | {"our error": error(found["output"], exact["output"])}


def _ours(
    denoiser: Denoiser, original: Original, x: np.ndarray, y: Any, times: np.ndarray, across: np.ndarray, gradient: bool
) -> Named:
    label, sigma = np.asarray(original.labels, x.dtype), np.asarray(original.sigmas, np.float32)

    @jax.jit
    def compute(denoiser: Denoiser, x: Array, across: Array, classes: Any) -> dict[str, Array]:
        network = lambda x: denoiser.module.apply({"params": denoiser.params}, x, label, classes)  # noqa: E731
        found = {"output": network(x)}
        if gradient:
            out, pull = jax.vjp(network, x)
            found = {"output": out, "gradient": pull(across)[0]}
        if original.denoise is not None:
            one = lambda x, sigma, y: denoiser.replace(label=y).denoise(x, sigma)  # noqa: E731
            found["D"] = jax.vmap(one)(x, sigma, classes)
        if original.step is not None:
            step = lambda x, t, y: denoiser.replace(label=y)(x, t)  # noqa: E731
            prediction = jax.vmap(step)(x, times, classes)
            found |= {"x0": prediction.x0, "log variance": prediction.log_variance}
        return found

    return {what: np.asarray(value) for what, value in compute(denoiser, x, across, y).items()}


def _theirs(
    original: Original,
    x: np.ndarray,
    y: Any,
    times: np.ndarray,
    rng: np.random.Generator,
    *,
    double: bool,
    across: np.ndarray | None = None,
) -> Named:
    """The same by the authors' code, and what the gradient was projected on."""
    import torch

    with _precision(original.module, double) as kind:
        if y is not None:
            y = torch.from_numpy(np.eye(original.classes, dtype=np.float32)[y] if original.vectors else y)
            y = y.to(kind) if original.vectors else y
        given = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).to(kind).requires_grad_()
        out = original.network(given, torch.tensor(original.labels, dtype=torch.float32).to(kind), y)
        if across is None:
            across = rng.normal(size=(x.shape[0], *x.shape[1:3], out.shape[1])).astype(np.float32)
        (out * torch.from_numpy(np.moveaxis(across, -1, 1).copy()).to(kind)).sum().backward()
        found = {"output": out, "gradient": given.grad}
        with torch.no_grad():
            if original.denoise is not None and not double:
                found["D"] = original.denoise(given.detach(), torch.tensor(original.sigmas), y)
            if original.step is not None:
                x0, log_variance = original.step(given.detach(), torch.from_numpy(times), y)
                found |= {"x0": x0} | ({} if log_variance is None else {"log variance": log_variance})
    return {name: np.moveaxis(value.detach().numpy(), 1, -1) for name, value in found.items()} | {"across": across}


@contextlib.contextmanager
def _precision(module: Any, double: bool) -> Iterator[Any]:
    """The authors' network in this precision. Some keep a type of their own beside their weights'."""
    import torch

    kind, default, single = torch.float64 if double else torch.float32, torch.get_default_dtype(), torch.Tensor.float

    def cast(kind: Any) -> None:
        module.to(kind)
        if isinstance(vars(module).get("dtype"), torch.dtype):
            module.dtype = kind

    try:
        torch.set_default_dtype(kind)
        cast(kind)
        torch.Tensor.float = lambda value: value.to(kind)  # many codes take norms and sinusoids in "float"
        yield kind
    finally:
        torch.Tensor.float = single
        torch.set_default_dtype(default)
        cast(torch.float32)


def run(family: str, case: int, args: argparse.Namespace) -> tuple[Original | None, dict[str, float] | str]:
    """One case: the network, and its errors or the sentence that refuses it. None where the authors' code fails itself."""
    import torch

    rng = np.random.default_rng([args.seed, zlib.crc32(family.encode()), case])
    torch.manual_seed(case)
    with tempfile.TemporaryDirectory() as folder:
        try:
            original = MAKERS[family](rng, Path(folder), args.originals)
            with torch.no_grad():
                h, w, c = original.shape
                y = None if original.classes is None else torch.zeros(1, dtype=torch.int64)
                y = torch.zeros(1, original.classes or 1) if original.vectors and y is not None else y
                original.network(torch.zeros(1, c, h, w), torch.tensor(original.labels[:1]), y)
        except (FileNotFoundError, ModuleNotFoundError):
            raise
        except Exception as failed:
            return None, f"{type(failed).__name__}: {failed}"
        try:
            return original, compare(original, rng, gradient=case % GRADIENTS == 0, double=args.float64)
        except ValueError as refused:
            return original, str(refused).replace(str(original.path), "FILE")


def _loose(found: dict[str, Any], what: str) -> bool:
    """Whether the original's own error of a quantity is large."""
    return found.get(f"own error of {what}", found["own error"]) > OWN_ERROR


def _differs(found: dict[str, float], double: bool) -> bool:
    most = {
        what: DOUBLE if double else LOOSE if _loose(found, what) else LIMIT for what in found if " error" not in what
    }
    return any(found[what] > limit for what, limit in most.items())


def family_rows(family: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What became of each network of a family."""
    for case in range(args.first, args.first + args.count):
        original, found = run(family, case, args)
        if original is None:
            yield {"case": case, "outcome": "impossible", "sentence": found}
        elif isinstance(found, str):
            yield {"case": case, "outcome": "refused", "sentence": found, "told": original.told}
        else:
            outcome = "differs" if _differs(found, args.float64) else "agrees"
            yield {"case": case, "outcome": outcome, "told": original.told, **found}


def _text(family: str, row: dict[str, Any]) -> str:
    if "sentence" in row:
        return f"{family} {row['case']}: {row['outcome']}: {row['sentence']}"
    told = f" {row['told']}" if row["outcome"] == "differs" else ""
    numbers = ", ".join(f"{what} {value:.1e}" for what, value in row.items() if isinstance(value, float))
    return f"{family} {row['case']}: {row['outcome']}: {numbers}{told}"


def _summary(family: str, rows: list[dict[str, Any]]) -> str:
    most: dict[str, float] = {}
    for row in rows:
        for what, value in row.items():
            if isinstance(value, float):
                name = what + (" (larger own error)" if _loose(row, what) else "")
                most[name] = max(most.get(name, 0.0), value)
    counts = Counter(row["outcome"] for row in rows)
    return f"{family}: {dict(counts)}; {', '.join(f'{what} {value:.1e}' for what, value in most.items())}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--count", type=int, default=60, help="networks a family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first network")
    parser.add_argument("--verbose", action="store_true", help="a line for each network")
    parser.add_argument("--float64", action="store_true", help="compute in float64")
    parser.add_argument("--originals", type=Path, help="folder of clones")
    parser.add_argument("--out", type=Path, help="JSON file of all rows")
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for family in args.family:
        rows = found[family] = []
        try:
            for row in family_rows(family, args):
                rows.append(row)
                if args.verbose or row["outcome"] in ("differs", "refused"):
                    print(_text(family, row), flush=True)
        except (FileNotFoundError, ModuleNotFoundError) as missing:
            print(f"{family}: {missing}")
        print(_summary(family, rows), flush=True)
        if args.out is not None:
            args.out.write_text(json.dumps(found, indent=1, default=str))
    raise SystemExit(any(row["outcome"] == "differs" for rows in found.values() for row in rows))


if __name__ == "__main__":
    main()
