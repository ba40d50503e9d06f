"""A search of a method's hyper-parameters: settings × seeds × images in one compiled program, recorded and resumable.

Settings that differ in arrays alone (ζ, λ, η, …) run side by side: each run carries its own sampler, and ``vmap`` goes over
sampler and measurement alike. Settings that shape the program (inner steps, SDEdit's start) are programs of their own.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff.denoisers import DenoiserLike
from jaxdiff.engine import batch_keys, restore_many
from jaxdiff.engine.bookmark import fingerprint
from jaxdiff.evaluation.scores import scores
from jaxdiff.metrics.image import SSIM_WINDOW
from jaxdiff.metrics.lpips import SMALLEST
from jaxdiff.names import unknown
from jaxdiff.network_calls import grid_within
from jaxdiff.problems import Problem
from jaxdiff.samplers import METHODS
from jaxdiff.samplers.arguments import check_run
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import as_needed, grid_for
from jaxdiff.schedules import TimeGrid
from jaxdiff.tasks import settings
from jaxdiff.tune.proposals import proposals
from jaxdiff.tune.settings_file import METRICS, read_settings, write_settings
from jaxdiff.typing import Array, Key

__all__ = ["METRICS", "Search", "best_of", "read_settings", "run_trials", "tune", "write_settings"]

Options = dict[str, Any]
Trial = dict[str, Any]
"""``options`` and its mean ``psnr``, ``ssim`` and ``lpips``; None where it diverged or cannot run (``error`` says why)."""


@struct.dataclass
class _Carried(Problem):
    """A problem that brings its own sampler."""

    sampler: Any = struct.field(kw_only=True)


@struct.dataclass
class _Carrier(Sampler):
    """The sampler that runs each problem with the sampler it brings."""

    def init(self, key: Key, problem: Any, denoiser: DenoiserLike, t: Array) -> Any:
        """The state of the carried sampler."""
        return problem.sampler.init(key, problem, denoiser, t)

    def step(self, key: Key, state: Any, t: Array, s: Array, problem: Any, denoiser: DenoiserLike) -> tuple[Any, Any]:
        """A step of the carried sampler."""
        return problem.sampler.step(key, state, t, s, problem, denoiser)


class Search(NamedTuple):
    """What is searched, and on what.

    Attributes:
        method: its name.
        problems: measurements, leaves with a first axis B.
        truths: [B, H, W, C].
        steps: of a run; ignored where ``calls`` is given.
        calls: forward passes of a run: settings with more of them a step get fewer steps.
        spacing: how steps are spread; the method's own by default.
        seed: of the runs.
        batch_size: (setting × seed × image)s at a time.
        seeds: runs of each image with each setting, over which the scores are averaged.
    """

    method: str
    problems: Problem
    truths: np.ndarray
    steps: int = 100
    calls: int | None = None
    spacing: str | None = None
    seed: int = 0
    batch_size: int = 16
    seeds: int = 1


class _Planned(NamedTuple):
    place: int
    sampler: Sampler
    grid: TimeGrid


def run_trials(
    search: Search,
    denoiser: DenoiserLike,
    proposed: Sequence[Options],
    *,
    known: Sequence[Trial] = (),
    report: Callable[[int], None] | None = None,
) -> Iterator[list[Trial]]:
    """Run the settings, batch by batch; run i of a setting equals ``jd.sample`` with ``fold_in(key(seed), i)``.

    Of B images, image i has the runs i, B + i, …, one for each of ``search.seeds``.

    Args:
        search: what is searched.
        denoiser: the prior.
        proposed: settings to try.
        known: trials that need not be run again.
        report: called after each batch with the number of settings that it advanced.

    Raises:
        ValueError: if there is not at least one seed.

    Yields:
        All trials so far, in the order of ``proposed``.
    """
    search = _over_seeds(search)
    done = {_name(trial["options"]): trial for trial in known}
    found: dict[int, Trial] = {i: done[_name(o)] for i, o in enumerate(proposed) if _name(o) in done}
    denoiser = as_needed(denoiser, METHODS[search.method].kind)
    batches, refused = _plan(search, denoiser, proposed)
    found |= {i: trial for i, trial in refused.items() if i not in found}
    if report is not None:
        report(len(found))
    for batch, width in batches:
        missing = [planned.place for planned in batch if planned.place not in found]
        if not missing:
            continue
        results = _run(search, denoiser, batch, width)
        for planned, result in zip(batch, results, strict=True):
            found[planned.place] = {"options": dict(proposed[planned.place]), **result}
        if report is not None:
            report(len(missing))
        yield [found[i] for i in sorted(found)]
    yield [found[i] for i in sorted(found)]


def _over_seeds(search: Search) -> Search:
    """The search with each image there ``seeds`` times: the copies differ by their keys alone."""
    if search.seeds < 1:
        raise ValueError(f"a search needs at least one seed, got seeds={search.seeds}.")
    problems = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * search.seeds), search.problems)
    return search._replace(problems=problems, truths=np.concatenate([search.truths] * search.seeds), seeds=1)


def _plan(
    search: Search, denoiser: DenoiserLike, proposed: Sequence[Options]
) -> tuple[list[tuple[list[_Planned], int]], dict[int, Trial]]:
    """Batches of settings that share a program, each with the number of settings of that program; those that cannot run."""
    groups: dict[Any, list[_Planned]] = {}
    refused: dict[int, Trial] = {}
    example = jax.tree.map(lambda leaf: leaf[0], search.problems)
    for index, options in enumerate(proposed):
        sampler = METHODS[search.method](**options)
        try:
            check_run(denoiser, example, sampler)
            grid = _grid(search, denoiser, sampler)
        except ValueError as error:
            refused[index] = {"options": dict(options), **_failed(str(error))}
            continue
        leaves, structure = jax.tree.flatten(sampler)
        key = (structure, tuple(jnp.shape(leaf) for leaf in leaves), grid.t.tobytes(), grid.s.tobytes())
        groups.setdefault(key, []).append(_Planned(index, sampler, grid))
    most = max(1, search.batch_size // len(search.truths))
    batches = []
    for group in groups.values():
        width = math.ceil(len(group) / math.ceil(len(group) / most))  # as even as can be, so that little is padded
        batches += [(group[i : i + width], width) for i in range(0, len(group), width)]
    return batches, refused


def _grid(search: Search, denoiser: DenoiserLike, sampler: Sampler) -> TimeGrid:
    if search.calls is not None:
        return grid_within(sampler, denoiser, search.calls)
    return grid_for(denoiser, sampler, search.steps, search.spacing)


def _run(search: Search, denoiser: DenoiserLike, batch: list[_Planned], width: int) -> list[Trial]:
    """The mean scores of each setting of a batch; a setting that the operator refuses has none."""
    images = len(search.truths)
    padded = [*batch, *[batch[-1]] * (width - len(batch))]  # one size, so one program
    carried = jax.tree.map(lambda *leaves: jnp.repeat(jnp.stack(leaves), images, axis=0), *[p.sampler for p in padded])
    problems, keys = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf] * len(padded)),
        (search.problems, batch_keys(jax.random.key(search.seed), images)),
    )
    together = _Carried(problems.operator, problems.y, problems.noise_std, problems.noise, sampler=carried)
    size = min(search.batch_size, len(keys))
    try:
        x = restore_many(keys, denoiser, together, _Carrier(), steps=batch[0].grid, batch_size=size).x
    except (ValueError, NotImplementedError) as error:
        return [_failed(str(error))] * len(batch)
    results: list[Trial] = []
    for i in range(len(batch)):
        values = scores(x[i * images : (i + 1) * images], search.truths, search.problems)
        means = {name: float(values[name].mean()) for name in METRICS}
        known = {k: round(v, 4) if math.isfinite(v) else None for k, v in means.items()}  # small images have no LPIPS
        results.append(known if known["psnr"] is not None else _failed("diverged"))
    return results


def _failed(why: str) -> Trial:
    return {**dict.fromkeys(METRICS), "error": " ".join(why.split())}


def _name(options: Options) -> str:
    return json.dumps(options, sort_keys=True)


def best_of(trials: Sequence[Trial], metric: str) -> Trial:
    """The trial with the best mean, among those that did not diverge.

    Raises:
        ValueError: if none has a figure; the sentence says why.
    """
    able = [trial for trial in trials if trial[metric] is not None]
    if not able:
        why = next((trial["error"] for trial in trials if trial.get("error")), "there are no trials")
        raise ValueError(f"no setting could be run: {why}")
    return max(able, key=lambda trial: METRICS[metric] * trial[metric])


def tune(
    path: Path,
    search: Search,
    denoiser: DenoiserLike,
    *,
    task: str,
    prior: str,
    budget: int,
    metric: str = "psnr",
    noise_std: float,
    noise: str = "",
    source: str,
    report: Callable[[int], None] | None = None,
) -> Trial:
    """Search, and keep every figure in a file of settings that ``jaxdiff restore --settings`` reads.

    The file is written whole after each batch. The same search again runs only what is missing; another search adds its
    entry beside those there.

    Args:
        path: the file.
        search: what is searched.
        denoiser: the prior.
        task: the name under which the settings are kept.
        prior: likewise.
        budget: number of settings.
        metric: what to choose by.
        noise_std: σ of the measurements, for the record.
        noise: the name of their noise model, for the record.
        source: where the images are from, for the record.
        report: called with the number of settings done.

    Raises:
        ValueError: if a name is unknown, the file is damaged, or no setting could be run.

    Returns:
        The best trial.
    """
    _check(search, metric)
    about = _about(search, metric, noise_std, source, noise) | {
        "measured": fingerprint((search.problems, denoiser))[:16]
    }
    place = (prior, task, search.method)
    known = _known(path, place, about)
    proposed = proposals(METHODS[search.method].kind.search, budget, search.seed, settings(search.method, task, prior))
    tried = {_name(options) for options in proposed}
    others = [trial for trial in known if _name(trial["options"]) not in tried]  # a search of another budget found them
    trials: list[Trial] = []
    for ran in run_trials(search, denoiser, proposed, known=known, report=report):
        trials = [*ran, *others]
        _keep(path, place, about, trials, metric, over=len(ran) == len(proposed))
    return best_of(trials, metric)


def _check(search: Search, metric: str) -> None:
    """Refuse what cannot be searched, before anything runs."""
    if search.method not in METHODS:
        raise unknown("method", search.method, METHODS)
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    least = {"psnr": 1, "ssim": SSIM_WINDOW, "lpips": SMALLEST["alex"]}
    able = [name for name in METRICS if min(search.truths.shape[1:3]) >= least[name]]
    if metric not in able:
        raise ValueError(f"these images are too small for {metric.upper()}; choose by {' or '.join(able)}.")


def _known(path: Path, place: tuple[str, str, str], about: dict[str, Any]) -> list[Trial]:
    """The trials of the same search that the file holds."""
    record: Any = _read_if_there(path).get("provenance", {})
    for name in place:
        record = record.get(name, {})
    return record.get("trials", []) if _same_figures(record, about) else []


def _keep(
    path: Path, place: tuple[str, str, str], about: dict[str, Any], trials: list[Trial], metric: str, *, over: bool
) -> None:
    """Write the trials so far, and the best of them; a search in which no setting could run leaves no record."""
    prior, task, method = place
    able = [trial for trial in trials if trial[metric] is not None]
    if over and not able:
        return
    held = _read_if_there(path)  # again each time: another search may have written to it meanwhile
    held.setdefault("provenance", {}).setdefault(prior, {}).setdefault(task, {})[method] = {**about, "trials": trials}
    if able:
        held.setdefault(prior, {}).setdefault(task, {})[method] = best_of(able, metric)["options"]
    write_settings(path, held)


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_settings(path) if path.exists() else {}


def _about(search: Search, metric: str, noise_std: float, source: str, noise: str) -> dict[str, Any]:
    digest = hashlib.sha256(np.ascontiguousarray(search.truths, np.float32).tobytes()).hexdigest()[:16]
    run = {"steps": search.steps} if search.calls is None else {"network_calls": search.calls}
    return {
        "metric": metric,
        **run,
        "spacing": search.spacing or METHODS[search.method].kind.spacing,
        "noise_std": round(float(noise_std), 6),
        **({"noise": noise} if noise not in ("", "gaussian") else {}),
        "images": len(search.truths),
        "source": source,
        "pixels": digest,
        "seed": search.seed,
        # Records from before there were several do not name it.
        **({"seeds": search.seeds} if search.seeds > 1 else {}),
    }


def _same_figures(before: dict[str, Any], about: dict[str, Any]) -> bool:
    """Whether a record's figures are this search's; the measure to choose by changes none of them.

    Older records do not name what was measured and by which weights.
    """
    mute = {"metric"} if "measured" in before else {"metric", "measured"}
    return all(before.get(k) == about.get(k) for k in {*about, "seeds"} - mute)
