"""The tables of docs/exactness.md: figures of cheap methods, made anew, and the truth for those that the text calls exact."""

import functools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks import closed_form

DOCS = Path(__file__).parents[2] / "docs" / "exactness.md"
DRAWS = 250
LIMIT = 4.0
"""Standard errors."""
ROUNDING = 0.005 + 1e-6
"""Of figures printed with two digits."""
FIGURE = r"\| ([\d.]+) ± [\d.]+ "

MEASURED = [
    "score_ald()",
    "dps(zeta=1)",
    "mmps(iterations=1)",
    "pigdm()",
    "ddnm()",
    "diffpir()",
    "flower(draw=True)",
    "fast_dips()",
    "pnp_dm()",
]


class Figure(NamedTuple):
    """A figure without its Monte-Carlo bias, and the standard error of that.

    A distance from the truth, ‖b + noise‖, is squared and loses E‖noise‖²; the spread is free of bias as it is.
    """

    value: float
    error: float


def figures(printed, count, estimate, true):
    """(mean, cov, spread) of ``count`` draws, free of bias, for Gaussian draws with moments about ``estimate``.

    With m, C the truth, c the draws' covariance, b the error of their mean, D = c − C and N draws:

        mean:   noise² tr c/N,                 variance (4 bᵀc b/N + 2 tr c²/N²) / (tr C)²       of the square × tr C
        cov:    noise² ((tr c)² + tr c²)/N,    variance (8 tr (D c D c)/N + 4 ((tr c²)² + tr c⁴)/N²) / ‖C‖⁴
        spread:                                variance 2 tr c²/N / (tr C)²
    """
    (b, c), truth = estimate, true
    trace, norm2 = np.trace(truth), np.sum(truth**2)
    d, c2 = c - truth, c @ c
    squared, fourth = np.trace(c2), np.trace(c2 @ c2)
    mean_noise, cov_noise = np.trace(c) / count, (np.trace(c) ** 2 + squared) / count
    return (
        Figure(
            printed[0] ** 2 - mean_noise / trace,
            np.sqrt(4 * b @ c @ b / count + 2 * squared / count**2) / trace,
        ),
        Figure(
            printed[1] ** 2 - cov_noise / norm2,
            np.sqrt(8 * np.trace(d @ c @ d @ c) / count + 4 * (squared**2 + fourth) / count**2) / norm2,
        ),
        Figure(printed[2], np.sqrt(2 * squared / count) / trace),
    )


class Run(NamedTuple):
    figures: tuple[float, float, float]
    estimate: tuple[np.ndarray, np.ndarray]
    covariance: np.ndarray


UNCONDITIONAL = [("ddim(eta=1)", 30), ("dpm_solver()", 10), ("heun()", 10), ("heun(churn=0.2)", 10)]


@functools.cache
def cases():
    return closed_form.cases() | closed_form.priors()


@functools.cache
def run(name, steps, kind="mask"):
    case = cases()[kind]
    images = np.asarray(closed_form.draws(name, case, DRAWS, steps), np.float64).reshape(DRAWS, -1)
    mean, covariance = (np.asarray(part, np.float64) for part in case.truth)
    errors = closed_form.evaluation.moment_errors(images.astype(np.float32), *case.truth)
    found = tuple(float(v) for v in (errors.mean, errors.covariance, errors.spread))
    return Run(found, (images.mean(0) - mean.ravel(), np.cov(images.T)), covariance)


@functools.cache
def documented():
    """Draws and steps of the first table, and (mean, cov, spread) under the mask by method."""
    text = DOCS.read_text("utf-8")
    draws, steps = map(
        int, re.search(r"^(\d+) draws, (\d+) steps, σ = 0\.2 \(mixture: 0\.5\)\.", text, re.MULTILINE).groups()
    )
    rows = re.findall(rf"^\| `(.+?)` \| \d+ \+ \d+ {FIGURE * 3}", text, re.MULTILINE)
    return draws, steps, {name: tuple(map(float, row)) for name, *row in rows}


@functools.cache
def documented_unconditional():
    """(mean, cov, spread) of the Gaussian prior by method and steps."""
    rows = re.findall(rf"^\| `(.+?)` \| (\d+) \| \d+ {FIGURE * 3}", DOCS.read_text("utf-8"), re.MULTILINE)
    return {(name, int(steps)): tuple(map(float, row)) for name, steps, *row in rows}


def test_the_tables_have_every_method():
    assert list(documented()[2]) == list(closed_form.METHODS)
    assert {name for name, _ in documented_unconditional()} == set(closed_form.UNCONDITIONAL)


def assert_seen_again(found, row, draws):
    ours = figures(found.figures, DRAWS, found.estimate, found.covariance)
    printed = figures(row, draws, found.estimate, found.covariance)
    for what, here, there, figure in zip(("mean", "cov", "spread"), ours, printed, row, strict=True):
        rounding = ROUNDING if what == "spread" else 2 * figure * ROUNDING + ROUNDING**2
        limit = LIMIT * np.hypot(here.error, there.error) + rounding
        assert abs(here.value - there.value) < limit, f"{what}: {figure} in the table, {found.figures} seen"


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_the_figures_of_the_table_are_seen_again(name):
    draws, steps, table = documented()
    assert_seen_again(run(name, steps), table[name], draws)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), UNCONDITIONAL)
def test_the_figures_of_unconditional_samplers_are_seen_again(name, steps):
    assert_seen_again(run(name, steps, "gaussian"), documented_unconditional()[name, steps], documented()[0])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("exact draws", 1), ("mmps(iterations=5)", 800)])
def test_what_the_text_calls_exact_is(name, steps):
    """MMPS as its steps grow: at 100 of them it lacks a tenth of the spread."""
    found = run(name, steps)
    for what, figure, true in zip(
        ("mean", "cov", "spread"),
        figures(found.figures, DRAWS, found.estimate, found.covariance),
        (0, 0, 1),
        strict=True,
    ):
        assert abs(figure.value - true) < LIMIT * figure.error, f"{what} of {found.figures}"
