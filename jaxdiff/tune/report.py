"""The report of a file of settings: of each search in it, every setting that was tried and how scores depend on options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdiff.pages import REPORT, Page, Plot, Section, Series, Table, write_page
from jaxdiff.tune.settings_file import METRICS, read_settings

__all__ = ["write_report"]

Trial = Mapping[str, Any]
TITLES = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3)}


def write_report(settings: Path, last: tuple[str, str, str], use: str, about: Mapping[str, str]) -> Path:
    """Write the page of a file of settings beside it, under its name; returns the path.

    Args:
        settings: the file.
        last: prior, task and method of the search that comes first.
        use: the command that uses what this search found.
        about: the run's settings.
    """
    held = read_settings(settings)
    searches = {
        (prior, task, method): record
        for prior, tasks in held["provenance"].items()
        for task, methods in tasks.items()
        for method, record in methods.items()
    }
    sections = []
    for place in (last, *(place for place in searches if place != last)):
        prior, task, method = place
        best = held.get(prior, {}).get(task, {}).get(method)
        sections.append(_section(place, searches[place], best, f"Use it: {use}" if place == last else ""))
    lead = f"The last search: {last[2]} on {last[1]}."
    if len(sections) > 1:
        lead += f" The file {settings.name} holds {len(sections)} searches; the others follow."
    return write_page(settings.with_suffix(f".{REPORT}"), Page("Settings that were searched", lead, sections, about))


def _section(
    place: tuple[str, str, str], record: Mapping[str, Any], best: Mapping[str, Any] | None, use: str
) -> Section:
    prior, task, method = place
    metric, trials = record["metric"], record["trials"]
    length = f"{record['steps']} steps" if "steps" in record else f"{record['network_calls']} network calls"
    order = "higher" if METRICS[metric] > 0 else "lower"
    facts = (
        f"{len(trials)} settings on {record['images']} images ({record['source']}), {length}, σ = {record['noise_std']:g} on "
        f"[-1, 1], prior {prior}. Chosen by {metric.upper()}; {order} is better."
    )
    plots = [_plot(trials, name, metric) for name in (best or {})]
    return Section(f"{method} on {task}", [_table(trials, best), *filter(None, plots)], f"{facts}\n\n{use}")


def _table(trials: Sequence[Trial], best: Mapping[str, Any] | None) -> Table:
    names = [*dict.fromkeys(name for trial in trials for name in trial["options"])]
    lines = []
    for trial in trials:
        scores = ["–" if trial[name] is None else f"{trial[name]:.{digits}f}" for name, (_, digits) in TITLES.items()]
        cells, chosen = [*(str(trial["options"].get(name, "–")) for name in names), *scores], trial["options"] == best
        note = "chosen" if chosen else trial.get("error", "")
        lines.append([*(f"**{cell}**" if chosen else cell for cell in cells), note])
    return Table([*names, *(title for title, _ in TITLES.values()), "note"], lines)


def _plot(trials: Sequence[Trial], option: str, metric: str) -> Plot | None:
    """The scores against one option; None for an option of which one value was tried."""
    points = [(trial["options"].get(option), trial[metric]) for trial in trials if trial[metric] is not None]
    if len({str(value) for value, _ in points}) < 2:
        return None
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in points)
    points.sort(key=lambda point: point[0] if numeric else str(point[0]))
    values = [value if numeric else str(value) for value, _ in points]
    numbers = [float(value) for value in values] if numeric else []
    wide = bool(numbers) and min(numbers) > 0 and max(numbers) > 10 * min(numbers)
    series = Series(values, [score for _, score in points], joined=False)
    return Plot(option, TITLES[metric][0], {metric.upper(): series}, f"{metric.upper()} against {option}", log_x=wide)
