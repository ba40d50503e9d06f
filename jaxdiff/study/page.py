"""The study's report in the browser: its claims, its tables, and the pictures behind them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxdiff.pages import REPORT, Page, Picture, Pictures, Section, Table, write_page
from jaxdiff.study.cells import TITLES, caption, last_of_each_kind
from jaxdiff.study.claims import Claim
from jaxdiff.study.paper import INFERRED, Results, Study
from jaxdiff.study.report import (
    INTRODUCTIONS,
    SETTINGS,
    diverged,
    run_time_ratios,
    settings_of_methods,
    table_1,
    table_2,
    table_3,
)

__all__ = ["write_page_of_study"]

LEAD = "The study's runs, tables and claims, and what was measured here."


def write_page_of_study(
    out: Path, results: Results, study: Study, about: str, judged: Sequence[Claim], settings: Mapping[str, str]
) -> Path:
    """Write the page of a run of the study; returns its path.

    Args:
        out: folder.
        results: of the run.
        study: what was run.
        about: what was run, in a paragraph.
        judged: the claims.
        settings: the run's settings (``pages.settings_of``).
    """
    verdicts = [[claim.sentence, claim.seen, "holds" if claim.holds else "does not hold"] for claim in judged]
    inferred = Table(["setting", "taken to be, and why"], [*map(list, INFERRED.items())])
    sections = [
        Section("The study's claims", [Table(["claim", "seen here", "verdict"], verdicts)], diverged(results)),
        Section("Table 1: N forward steps, then N reverse steps", [Table(*table_1(results, study))], INTRODUCTIONS[1]),
        _denoised(results, study),
        *(_restored(results, study, task) for task in study.tasks),
        Section("How Table 2 is set up", [inferred], INTRODUCTIONS[2]),
        Section("Table 3: our best settings, and a harder mask", [Table(*table_3(results, study))], INTRODUCTIONS[3]),
        Section("Settings of the methods", [Table(*settings_of_methods(study))], SETTINGS),
        Section("Run time", [Table(*run_time_ratios(results, study))], "These times do not include compilation."),
    ]
    if len(results.samples):
        drawn = [Picture(f"draw {i + 1}", image) for i, image in enumerate(results.samples)]
        sections.append(Section(f"Unconditional draws, {study.steps} reverse steps", [Pictures(drawn)]))
    sections.append(Section("What was run", text=about))
    return write_page(out / REPORT, Page("Diffusion Models for Inverse Problems, reproduced", LEAD, sections, settings))


def _denoised(results: Results, study: Study) -> Section:
    """The last image of each kind at every N."""
    shown = []
    for i, name in last_of_each_kind(results.rows):
        for count in study.forward_steps:
            noisy, truth, restored = results.triplets[count][i]
            wanted = {"table": 1, "forward_steps": count, "image": name, "seed": study.seeds[0]}
            shown += [
                Picture(f"truth, N = {count}", truth, name),
                Picture(f"noisy, N = {count}", noisy, name),
                Picture(f"restored, N = {count}", restored, f"{name}: {caption(results.rows, **wanted)}"),
            ]
    return Section("Pictures of Table 1", [Pictures(shown, columns=3, compare=(1, 2))])


def _restored(results: Results, study: Study, task: str) -> Section:
    """Table 2 for a task, and the last image by each method at every noise level."""
    shown = []
    for std in study.noise_stds:
        views = [results.triplets[2, method, task, std][-1] for method in study.methods]
        measured, truth, _ = views[0]  # every method meets the same measurement
        shown += [Picture(f"truth, σ = {std:g}", truth), Picture(f"measured, σ = {std:g}", measured)]
        for method, (_, _, restored) in zip(study.methods, views, strict=True):
            wanted = {"table": 2, "method": method, "task": task, "noise_std": std, "seed": study.seeds[0]}
            shown.append(
                Picture(f"{TITLES.get(method, method)}, σ = {std:g}", restored, caption(results.rows, **wanted))
            )
    columns = 2 + len(study.methods)
    table = Table(*table_2(results, study, [task]))
    return Section(f"Table 2: {task}", [table, Pictures(shown, columns=columns, compare=(1, columns - 1))])
