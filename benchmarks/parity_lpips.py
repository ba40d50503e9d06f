"""Parity of LPIPS with the `lpips` package (0.1.4, torch 2.13): values, per-layer terms and gradients.

Run:     python -m benchmarks.parity_lpips
Needs:   tests/golden/lpips/synth64.npz; vgg rows appear once `python -m weights_convert lpips --net vgg` has been run.
Seen:    CPU, float32: largest relative error of a value 1.8e-7 (alex) and 2.4e-7 (vgg), of a per-layer term 7.2e-7 and
         2.4e-7, of a gradient 1.1e-6 and 5.6e-7.
"""

from __future__ import annotations

import pathlib

import jax
import numpy as np

from jaxdiff import metrics

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "lpips" / "synth64.npz"
LIMIT = 1e-5


def rows() -> list[tuple[str, float, float]]:
    """Returns (what is compared, largest relative error, limit)."""
    with np.load(GOLDEN) as data:
        golden = {k: data[k][0].transpose(1, 2, 0) if data[k].ndim == 4 else data[k] for k in data}
    pairs = sorted({name.split("/")[0] for name in golden})
    table = []
    for net in ("alex", "vgg"):
        try:
            params = metrics.lpips_params(net)
        except ValueError:
            continue
        layers = jax.jit(lambda a, b, p, net=net: metrics.lpips_layers(a, b, net, p))
        slope = jax.jit(jax.grad(lambda a, b, p, net=net: metrics.lpips(a, b, net, p)))
        terms = {pair: np.asarray(layers(golden[f"{pair}/a"], golden[f"{pair}/b"], params)) for pair in pairs}
        value = max(abs(terms[p].sum() / golden[f"{p}/{net}"][0] - 1) for p in pairs)
        term = max(np.abs(terms[p] / golden[f"{p}/{net}_layers"] - 1).max() for p in pairs)
        gradients = []
        for pair in pairs:
            expected = golden.get(f"{pair}/{net}_grad_a")
            if expected is not None:
                error = slope(golden[f"{pair}/a"], golden[f"{pair}/b"], params) - expected
                gradients.append(np.linalg.norm(error) / np.linalg.norm(expected))
        table += [
            (f"LPIPS {net}: value, relative", float(value), LIMIT),
            (f"LPIPS {net}: per-layer terms, relative", float(term), LIMIT),
            (f"LPIPS {net}: gradient, relative L2", float(max(gradients)), LIMIT),
        ]
    return table


if __name__ == "__main__":
    for name, measured, limit in rows():
        print(f"{name:45s} {measured:9.2e}  limit {limit:.0e}  {'ok' if measured <= limit else 'FAILED'}")
