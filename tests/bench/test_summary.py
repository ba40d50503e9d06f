"""From rows to means, errors and intervals."""

import numpy as np

from jaxdiff.bench import summary


def test_seeds_are_averaged_before_images():
    """Two images with means 1 and 3: mean 2, standard error s/√2 = 1, whatever the seeds did."""
    values = {"a": (0.0, 2.0), "b": (3.0, 3.0)}
    rows = [{"image": k, "status": "ok", "psnr": v} for k, pair in values.items() for v in pair]
    found = summary.interval([*rows, {"image": "c", "status": "diverged", "psnr": float("nan")}], "psnr")
    assert (found.mean, found.error, found.images) == (2.0, 1.0, 2)
    assert 1.0 <= found.low <= 2.0 <= found.high <= 3.0


def test_an_interval_covers_the_mean_as_often_as_it_says():
    generator, hits = np.random.default_rng(1), 0
    for _ in range(200):
        rows = [{"image": str(i), "status": "ok", "psnr": v} for i, v in enumerate(generator.normal(5, 2, 40))]
        found = summary.interval(rows, "psnr")
        hits += found.low <= 5 <= found.high
    assert 180 <= hits <= 199
