"""The claims of the study, each judged by the rows that were measured."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from jaxdiff.study.cells import TITLES, select
from jaxdiff.study.paper import Results, Study
from jaxdiff.tables import rounded

__all__ = ["Claim", "claims", "face_drift"]


class Claim(NamedTuple):
    """A sentence of the study, what was seen, and whether it holds here."""

    sentence: str
    seen: str
    holds: bool


def claims(results: Results, study: Study, drift: dict[int, float] | None = None) -> list[Claim]:
    """Each claim of the study, judged by this run's means."""
    found = _claims_of_table_1(results, study)
    if drift:
        found.append(_drift(drift))
    if {"sdedit", "score_ald", "dps"} <= set(study.methods):
        found += [_order(results, study), *_easier(results, study)]
        found += [_noise(results, study)] if len(study.noise_stds) > 1 else []  # one noise level tells nothing of it
        found += _claims_of_time(results)
    return found


def _claims_of_table_1(results: Results, study: Study) -> list[Claim]:
    steps = sorted(study.forward_steps)

    def values(metric: str, inside: bool) -> list[float]:
        return [select(results.rows, metric, table=1, forward_steps=n, in_distribution=inside).mean for n in steps]

    others = any(row["table"] == 1 and not row["in_distribution"] for row in results.rows)
    inside, outside = values("psnr", True), values("psnr", False)
    far_in, far_out = values("lpips", True), values("lpips", False)
    falls = all(np.diff(inside) < 0) and (not others or all(np.diff(outside) < 0))
    rises = all(np.diff(far_in) > 0) and (not others or all(np.diff(far_out) > 0))
    fewer = Claim(
        "Fewer steps restore better (PSNR falls, LPIPS rises with N).",
        f"PSNR {_list(inside, 1)} in, {_list(outside, 1)} out; LPIPS {_list(far_in, 3)} in, {_list(far_out, 3)} out",
        bool(falls and rises),
    )
    if not others:
        return [fewer]
    better = Claim(
        "In distribution is better than out of distribution (PSNR at every N).",
        f"difference {_list(np.subtract(inside, outside), 1)} dB",
        bool(np.all(np.subtract(inside, outside) > 0)),
    )
    return [fewer, better]


def _drift(drift: dict[int, float]) -> Claim:
    ordered = [drift[n] for n in sorted(drift)]
    return Claim(
        "At high noise the out-of-distribution image drifts towards a face.",
        "mean LPIPS from the restored out-of-distribution images to the in-distribution truths, less that of the "
        f"originals: {_list(ordered, 3)} at N = {', '.join(map(str, sorted(drift)))}",
        ordered[-1] < 0 and ordered[-1] == min(ordered),
    )


def _psnr(results: Results, method: str, task: str, std: float | None = None) -> float:
    """Mean of Table 2; over all noise levels without ``std``."""
    level = {} if std is None else {"noise_std": std}
    return select(results.rows, "psnr", table=2, method=method, task=task, **level).mean


def _order(results: Results, study: Study) -> Claim:
    cells = [(task, std) for task in study.tasks for std in study.noise_stds]
    ordered = [
        cell
        for cell in cells
        if _psnr(results, "dps", *cell) > _psnr(results, "score_ald", *cell) > _psnr(results, "sdedit", *cell)
    ]
    means = "; ".join(
        f"{task} " + " > ".join(f"{_psnr(results, method, task):.1f}" for method in ("dps", "score_ald", "sdedit"))
        for task in study.tasks
    )
    return Claim(
        "DPS > Score ALD > SDEdit in PSNR, on both tasks at every noise level.",
        f"in {len(ordered)} of {len(cells)} cells ({means} dB, if ordered)",
        len(ordered) == len(cells),
    )


def _easier(results: Results, study: Study) -> list[Claim]:
    if not {"deconvolution", "inpainting"} <= set(study.tasks):
        return []
    gaps = {m: _psnr(results, m, "inpainting") - _psnr(results, m, "deconvolution") for m in study.methods}
    return [
        Claim(
            "Inpainting is easier than deconvolution (PSNR, each method).",
            "difference " + ", ".join(f"{TITLES[method]} {gap:+.1f}" for method, gap in gaps.items()) + " dB",
            all(gap > 0 for gap in gaps.values()),
        )
    ]


def _noise(results: Results, study: Study) -> Claim:
    spreads = {
        (method, task): float(np.ptp([_psnr(results, method, task, std) for std in study.noise_stds]))
        for method in study.methods
        for task in study.tasks
    }
    widest = max(spreads, key=lambda pair: math.inf if math.isnan(spreads[pair]) else spreads[pair])
    return Claim(
        "The noise level has little effect (PSNR changes by less than 1.5 dB from σ = "
        f"{min(study.noise_stds):g} to {max(study.noise_stds):g}; the study's own largest change is 1.2).",
        f"largest change {rounded(spreads[widest], 1)} dB, {TITLES[widest[0]]} on {widest[1]}",
        spreads[widest] < 1.5,
    )


def _claims_of_time(results: Results) -> list[Claim]:
    seconds = {m: select(results.rows, "seconds", table=2, method=m).mean for m in ("sdedit", "score_ald", "dps")}
    first, second = seconds["score_ald"] / seconds["sdedit"], seconds["dps"] / seconds["score_ald"]
    return [
        Claim("Score ALD takes about 2× SDEdit (1.5–2.5).", f"{first:.2f}×", 1.5 <= first <= 2.5),
        Claim("DPS takes 2–3× Score ALD.", f"{second:.2f}×", 2.0 <= second <= 3.0),
    ]


def _list(values: Iterable[float], digits: int) -> str:
    return ", ".join(rounded(value, digits) for value in values)


def face_drift(
    results: Results, study: Study, distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> dict[int, float]:
    """By N: mean distance of restored out-of-distribution images to the in-distribution truths, less the originals'.

    Args:
        results: of a run.
        study: its settings.
        distance: [n, H, W, C] × [n, H, W, C] → [n].
    """
    names = {row["image"]: row["in_distribution"] for row in results.rows if row["table"] == 1}
    inside = list(names.values())
    drift = {}
    for count in study.forward_steps:
        triplets = results.triplets[count]
        faces = [t[1] for t, here in zip(triplets, inside, strict=True) if here]
        others = [t for t, here in zip(triplets, inside, strict=True) if not here]
        if not faces or not others:
            return {}
        targets = np.stack(faces)

        def far(image: np.ndarray, targets: np.ndarray = targets) -> float:
            return float(np.mean(distance(np.broadcast_to(image, targets.shape), targets)))

        drift[count] = float(np.mean([far(restored) - far(original) for _, original, restored in others]))
    return drift
