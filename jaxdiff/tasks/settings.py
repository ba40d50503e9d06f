"""Named restoration tasks: how the operator is built at any image size, and each method's settings for it."""

import inspect
import json
import math
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import jax

from jaxdiff import operators, samplers
from jaxdiff.names import closest
from jaxdiff.operators.base import Operator
from jaxdiff.samplers.base import Sampler
from jaxdiff.tasks import catalogue as presets
from jaxdiff.typing import Array, Key, Shape

__all__ = ["METHODS", "TASKS", "Task", "get_task", "make_operator", "make_sampler", "nearest", "settings_for"]


class Task(NamedTuple):
    """A forward model by name.

    Attributes:
        make: (key, image_shape) → operator; the key places what is random.
        about: one line for ``jaxdiff info``.
        noise_std: default σ on the [-1, 1] scale.
    """

    make: Callable[[Key, Shape], Operator]
    about: str
    noise_std: float = 0.05


def _blur_std(shape: Shape) -> float:
    # 3 px at 256 (DPS), 1.5 px at 64: the same share of the side, 0.75 px, would hardly show there.
    return 3.0 * math.sqrt(shape[0] / 256)


def _odd(value: float) -> int:
    return 2 * max(1, round((value - 1) / 2)) + 1


TASKS: dict[str, Task] = {
    "denoise": Task(lambda key, shape: operators.denoise(image_shape=shape), "noise only", 0.1),
    "inpaint_box": Task(
        lambda key, shape: operators.inpaint_box(image_shape=shape, size=(shape[0] // 2, shape[1] // 2)),
        "a centred box of half the side is missing",
    ),
    "inpaint_random": Task(
        lambda key, shape: operators.inpaint_random(key, image_shape=shape, fraction=0.7),
        "70 % of the pixels are missing",
    ),
    "gaussian_blur": Task(
        lambda key, shape: operators.gaussian_blur(
            image_shape=shape, size=_odd(61 * shape[0] / 256), std=_blur_std(shape), padding="reflect"
        ),
        "Gaussian blur, σ = 3 px at 256 and 1.5 px at 64, reflect padding",
    ),
    "motion_blur": Task(
        lambda key, shape: operators.motion_blur(
            key, image_shape=shape, size=_odd(61 * shape[0] / 256), intensity=0.5, padding="reflect"
        ),
        "a random camera-shake trajectory (61 px at 256, 15 px at 64)",
    ),
    "outpaint": Task(lambda key, shape: operators.outpaint(image_shape=shape), "the right half is missing"),
    "super_resolution": Task(
        lambda key, shape: operators.super_resolution(image_shape=shape, factor=4), "a quarter of the size, bicubic"
    ),
    "grayscale": Task(lambda key, shape: operators.grayscale(image_shape=shape), "the mean of the colours"),
    "phase_retrieval": Task(
        lambda key, shape: operators.phase_retrieval(image_shape=shape),
        "the magnitude of the oversampled Fourier transform",
    ),
    "high_dynamic_range": Task(
        lambda key, shape: operators.high_dynamic_range(image_shape=shape), "twice the contrast, clipped to [-1, 1]"
    ),
    "jpeg": Task(lambda key, shape: operators.jpeg(image_shape=shape, quality=10), "JPEG of quality 10", 0.02),
}

METHODS: dict[str, Callable[..., Any]] = {
    "sdedit": samplers.sdedit,
    "score_ald": samplers.score_ald,
    "dps": samplers.dps,
    "mcg": samplers.mcg,
    "dsg": samplers.dsg,
    "lgd_mc": samplers.lgd_mc,
    "pigdm": samplers.pigdm,
    "tmpd": samplers.tmpd,
    "mmps": samplers.mmps,
    "ddnm": samplers.ddnm,
    "ddrm": samplers.ddrm,
    "repaint": samplers.repaint,
    "diffpir": samplers.diffpir,
    "reddiff": samplers.reddiff,
    "sitcom": samplers.sitcom,
    "pnp_dm": samplers.pnp_dm,
    "fast_dips": samplers.fast_dips,
    "annealed_langevin": samplers.annealed_langevin,
    "daps": samplers.daps,
    "tds": samplers.tds,
    "fps": samplers.fps,
}
"""Posterior samplers by name: the factories of ``jaxdiff.samplers``."""


def nearest(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for an unknown name: it lists the known ones and suggests the nearest."""
    known = sorted(known)
    close = closest(name, known)
    hint = f" Did you mean {close!r}?" if close else ""
    return ValueError(f"unknown {kind} {name!r}; choose one of {', '.join(known)}.{hint}")


ALIKE = {
    "sr2": "super_resolution",
    "sr4": "super_resolution",
    "sr8": "super_resolution",
    "sr_bicubic4": "super_resolution",
    "hdr": "high_dynamic_range",
    "color": "grayscale",
}
ALIKE |= {"inpaint_random_92": "inpaint_random", "inpainting": "inpaint_box", "jpeg10": "jpeg"}
ALIKE |= dict.fromkeys(("deconvolution", "deblur_gauss", "deblur_uni", "deblur_aniso"), "gaussian_blur")
"""Published tasks, by the second part of their names, whose settings are recorded under another name."""


def kind_of(task: str) -> str:
    """The task under whose name settings for it are recorded: that of its family, for a published one.

    >>> kind_of("dps/sr4"), kind_of("daps/inpaint_box"), kind_of("jpeg")
    ('super_resolution', 'inpaint_box', 'jpeg')
    """
    name = task.rpartition("/")[2]
    return ALIKE.get(name, name) if "/" in task else name


def get_task(name: str) -> Task:
    """The task of that name; also published ones with Gaussian noise, such as "dps/gaussian_blur" (``jaxdiff tasks``).

    Raises:
        ValueError: if there is none; the sentence lists them and suggests the nearest.
    """
    if name in presets.PRESETS:
        preset = presets.PRESETS[name]
        if preset.poisson:
            raise ValueError(f"task {name!r} has Poisson noise; set it up with jd.tasks.get, or take one without.")
        return Task(preset.make, preset.about, preset.noise.on_symmetric_scale)
    if name not in TASKS:
        raise nearest("task", name, [*TASKS, *(presets.PRESETS if "/" in name else ())])
    return TASKS[name]


def make_operator(name: str, key: Key | None, image_shape: Shape) -> Operator:
    """The operator of task ``name`` for images of ``image_shape``."""
    return get_task(name).make(jax.random.key(0) if key is None else key, tuple(image_shape))


@cache
def _recorded() -> dict[str, Any]:
    return json.loads(resources.files("jaxdiff.tasks").joinpath("settings.json").read_text("utf-8"))


def settings_for(
    method: str, task: str, prior: str | None = None, presets: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The hyper-parameters that a method uses for a task: from our search on this prior, else the published ones.

    ``settings.json`` records both; ``benchmarks/search.py`` wrote the former, on images that no table evaluates.

    Args:
        method: its name.
        task: its name; for a published one ("dps/sr4") without settings of its own, those of its family
            (``ALIKE``), or the default.
        prior: the name under which settings were recorded; None for the published ones.
        presets: what ``jaxdiff tune`` wrote, to be asked in place of the recorded ones.

    Raises:
        ValueError: if ``presets`` say nothing of this method, task and prior.
    """
    if presets is not None:
        table = presets.get(prior or "", {})
        found = {
            name: value for entry in ("default", kind_of(task), task) for name, value in table.get(entry, {}).items()
        }
        if method not in found:
            held = [
                f"{m} on {t} with {p}"
                for p, tasks in presets.items()
                if p != "provenance"
                for t in tasks
                for m in tasks[t]
            ]
            raise ValueError(
                f"these settings say nothing of {method} on {task} with {prior}; they hold {'; '.join(held) or 'none'}."
            )
        return dict(found[method])
    for table in (_recorded().get(prior or "", {}), _recorded()["published"]):
        for entry in (task, kind_of(task), "default"):
            if method in table.get(entry, {}):
                return dict(table[entry][method])
    return {}


def make_sampler(
    method: str,
    task: str,
    prior: str | None = None,
    *,
    presets: dict[str, Any] | None = None,
    **options: float | int | str | Array,
) -> Sampler:
    """A sampler by name with the settings recorded for the task (or in ``presets``); ``options`` override them.

    Raises:
        ValueError: if the method is unknown or does not have an option.
    """
    if method not in METHODS:
        raise nearest("method", method, METHODS)
    settings = {**settings_for(method, task, prior, presets), **options}
    known = inspect.signature(METHODS[method]).parameters
    for name in settings:
        if name not in known:
            raise ValueError(f"{method} does not take {name!r}; its options are {', '.join(known)}.")
    return METHODS[method](**settings)
