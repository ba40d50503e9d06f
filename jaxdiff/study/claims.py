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
    found = _claims_of_table_1(results, study, drift or {})
    if {"sdedit", "score_ald", "dps"} <= set(study.methods):
        found += _claims_of_table_2(results, study) + _claims_of_time(results)
    return found


def _claims_of_table_1(results: Results, study: Study, drift: dict[int, float]) -> list[Claim]:
    steps = sorted(study.forward_steps)

    def values(metric: str, inside: bool) -> list[float]:
        return [select(results.rows, metric, table=1, forward_steps=n, in_distribution=inside).mean for n in steps]

    others = any(row["table"] == 1 and not row["in_distribution"] for row in results.rows)
    inside, outside = values("psnr", True), values("psnr", False)
    far_in, far_out = values("lpips", True), values("lpips", False)
    found = []
    falls = all(np.diff(inside) < 0) and (not others or all(np.diff(outside) < 0))
    rises = all(np.diff(far_in) > 0) and (not others or all(np.diff(far_out) > 0))
    found.append(
        Claim(
            "Fewer steps restore better (PSNR falls, LPIPS rises with N).",
            f"PSNR {_list(inside, 1)} in, {_list(outside, 1)} out; LPIPS {_list(far_in, 3)} in, {_list(far_out, 3)} out",
            bool(falls and rises),
        )
    )
    if others:
        found.append(
            Claim(
                "In distribution is better than out of distribution (PSNR at every N).",
                f"difference {_list(np.subtract(inside, outside), 1)} dB",
                bool(np.all(np.subtract(inside, outside) > 0)),
            )
        )
    if drift:
        ordered = [drift[n] for n in sorted(drift)]
        found.append(
            Claim(
                "At high noise the out-of-distribution image drifts towards a face.",
                "mean LPIPS from the restored out-of-distribution images to the in-distribution truths, less that of the "
                f"originals: {_list(ordered, 3)} at N = {', '.join(map(str, sorted(drift)))}",
                ordered[-1] < 0 and ordered[-1] == min(ordered),
            )
        )
    return found


def _claims_of_table_2(results: Results, study: Study) -> list[Claim]:
    def psnr(method: str, task: str, std: float | None = None) -> float:
        chosen = {"table": 2, "method": method, "task": task}
        return select(results.rows, "psnr", **chosen, **({} if std is None else {"noise_std": std})).mean

    cells = [(task, std) for task in study.tasks for std in study.noise_stds]
    ordered = [c for c in cells if psnr("dps", *c) > psnr("score_ald", *c) > psnr("sdedit", *c)]
    means = "; ".join(
        f"{task} " + " > ".join(f"{psnr(method, task):.1f}" for method in ("dps", "score_ald", "sdedit"))
        for task in study.tasks
    )
    found = [
        Claim(
            "DPS > Score ALD > SDEdit in PSNR, on both tasks at every noise level.",
            f"in {len(ordered)} of {len(cells)} cells ({means} dB, if ordered)",
            len(ordered) == len(cells),
        )
    ]
    if {"deconvolution", "inpainting"} <= set(study.tasks):
        gaps = [psnr(m, "inpainting") - psnr(m, "deconvolution") for m in study.methods]
        found.append(
            Claim(
                "Inpainting is easier than deconvolution (PSNR, each method).",
                "difference "
                + ", ".join(f"{TITLES[m]} {g:+.1f}" for m, g in zip(study.methods, gaps, strict=True))
                + " dB",
                all(gap > 0 for gap in gaps),
            )
        )
    spreads = {
        (m, task): float(np.ptp([psnr(m, task, s) for s in study.noise_stds]))
        for m in study.methods
        for task in study.tasks
    }
    widest = max(spreads, key=lambda pair: math.inf if math.isnan(spreads[pair]) else spreads[pair])
    found.append(
        Claim(
            "The noise level has little effect (PSNR changes by less than 1.5 dB from σ = "
            f"{min(study.noise_stds):g} to {max(study.noise_stds):g}; the study's own largest change is 1.2).",
            f"largest change {rounded(spreads[widest], 1)} dB, {TITLES[widest[0]]} on {widest[1]}",
            spreads[widest] < 1.5,
        )
    )
    return found


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
        pairs = [(other, face) for other in others for face in faces]
        targets = np.stack([face for _, face in pairs])
        restored, original = (np.stack([pair[0][k] for pair in pairs]) for k in (2, 1))
        drift[count] = float(np.mean(distance(restored, targets) - distance(original, targets)))
    return drift
