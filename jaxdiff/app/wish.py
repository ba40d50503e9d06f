"""What a visitor wants, and the command line and the Python lines that make the same pixels."""

import shlex
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.names import unknown
from jaxdiff.operators import Mask
from jaxdiff.photos import Framing
from jaxdiff.problems import Problem
from jaxdiff.samplers import METHODS
from jaxdiff.tasks import get_task, names
from jaxdiff.tasks.choice import default_for
from jaxdiff.tasks.recorded import settings
from jaxdiff.typing import Shape

__all__ = ["LIMITS", "MASK", "MASK_FILE", "OUT", "PICTURE", "Wish", "command", "script", "wanted", "words"]

MASK = "inpaint_mask"
"""The task of a painted mask."""
PICTURE, MASK_FILE, OUT = "picture.png", "mask.png", "restored"
"""What the visitor's files and the folder of results are called in the download, where the lines below look for them."""


LIMITS = {"calls": (1, 1000), "draws": (1, 16), "seed": (0, 2**32 - 1)}
WORDS = {"calls": "number of network calls", "draws": "number of draws", "seed": "seed"}
MOST_NOISE = 10.0


class Wish(NamedTuple):
    """All that decides the pixels, apart from picture and mask.

    Attributes:
        task: its name; ``MASK`` for a painted mask.
        frame: the square of the picture that the prior sees; None for its centre, in the prior's own proportions.
        measured: whether the picture is the measurement already.
        method: its name; empty for the best known.
        calls: network calls an image.
        draws: how many.
        seed: of everything random.
        noise_std: σ on [-1, 1]; None for the task's own.
        prior: as ``--prior`` takes it.
        dtype: of the network.
        label: class of a class-conditional prior.
    """

    task: str
    frame: Framing | None = None
    measured: bool = False
    method: str = ""
    calls: int = 20
    draws: int = 4
    seed: int = 0
    noise_std: float | None = None
    prior: str = "faces64"
    dtype: str = "float32"
    label: int | None = None


def wanted(
    base: Wish, task: str, frame: Framing | None, measured: bool, method: str, noise: str = "", **numbers: float | None
) -> Wish:
    """The wish that a page sent, if it is a possible one: a page may send anything.

    Args:
        base: the prior's part.
        task: its name.
        frame: the square of the picture.
        measured: whether the picture is the measurement already.
        method: its name; empty for the best known.
        noise: σ as it was typed; empty for the task's own.
        numbers: ``calls``, ``draws`` and ``seed``.

    Raises:
        ValueError: if it is not.
    """
    if task != MASK and task not in names("default"):
        raise unknown("task", str(task), [*names("default"), MASK])
    if method and method not in METHODS:
        raise unknown("method", str(method), METHODS)
    for name, (low, high) in LIMITS.items():
        value = numbers.get(name)
        if value is None or not low <= value <= high or value != int(value):
            raise ValueError(f"the {WORDS[name]} must be a whole number from {low} to {high}.")
        numbers[name] = int(value)
    numbers |= {"measured": bool(measured), "noise_std": _std(noise)}
    return base._replace(task=task, frame=frame, method=method, **numbers)  # type: ignore[arg-type]


def _std(typed: str) -> float | None:
    text = str(typed or "").strip().replace(",", ".")
    try:
        std = float(text) if text else None
    except ValueError:
        std = -1.0
    if std is not None and not 0 <= std <= MOST_NOISE:
        raise ValueError(f"the noise σ must be a number from 0 to {MOST_NOISE:g}, or empty for the task's own.")
    return std


def words(wish: Wish) -> list[str]:
    """The command line, without the program's name."""
    said = ["restore", PICTURE, *_frame(wish), "--task", wish.task]
    said += ["--mask", MASK_FILE] * (wish.task == MASK) + ["--measured"] * wish.measured
    if wish.method:
        said += ["--method", wish.method, "--settings", "recorded"]
    said += ["--calls", f"{wish.calls}", "--count", f"{wish.draws}", "--seed", f"{wish.seed}"]
    if wish.noise_std is not None:
        said += ["--noise-std", repr(float(wish.noise_std))]
    if wish.prior != "faces64":
        said += ["--prior", wish.prior]
    if wish.dtype != "float32":
        said += ["--dtype", wish.dtype]
    if wish.label is not None:
        said += ["--label", f"{wish.label}"]
    return [*said, "--out", OUT]


def _frame(wish: Wish) -> list[str]:
    return ["--resize"] if wish.frame is None else ["--frame", ",".join(map(str, wish.frame))]


def command(wish: Wish) -> str:
    """The command line as one types it."""
    return shlex.join(["jaxdiff", *words(wish)])


def script(wish: Wish, problem: Problem, shape: Shape, *, exact: bool) -> str:
    """The Python lines that write the draws as ``restored_1.png``, ``restored_2.png``, ….

    Args:
        wish: what was wanted.
        problem: the measurement that it led to.
        shape: (H, W, C) of the prior's images.
        exact: whether known pixels are those of the picture.
    """
    size = problem.operator.measurement_shape[:2] if wish.measured else shape[:2]
    method, options, calls = _method(wish)
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    lines = [
        *_imports(wish, exact),
        "",
        "use_all_cores()  # as the command line does",
        f"denoiser = jd.load_denoiser({_arguments(wish)})",
        "shape = denoiser.image_shape",
        f"place, noise = jax.random.split(jax.random.key({wish.seed}))",
        *_picture(wish, (size[0], size[1])),
        *_operator(wish, shape),
        *_problem(wish, problem),
        f"sampler = jd.samplers.{method}({given})",
        f"grid = grid_within(sampler, denoiser, {calls})",
        f"keys = batch_keys(jax.random.fold_in(jax.random.key({wish.seed}), 1), {wish.draws})",
        f"draws = restore_many(keys, denoiser, stack([problem] * {wish.draws}), sampler, steps=grid).x",
        *["draws = paste(draws, problem)  # known pixels are those of the picture"] * exact,
        "for number, image in enumerate(draws, 1):",
        '    save_image(f"restored_{number}.png", image)',
    ]
    return "\n".join(lines) + "\n"


def _imports(wish: Wish, exact: bool) -> list[str]:
    own = wish.task == MASK
    return [
        "import jax",
        "import jaxdiff as jd",
        *["from jaxdiff import tasks"] * (not own),
        "from jaxdiff.engine import batch_keys, restore_many, stack",
        *["from jaxdiff.evaluation.restored import paste"] * exact,
        f"from jaxdiff.files import load_image, {'load_mask, ' * own}save_image",
        "from jaxdiff.hosts import use_all_cores",
        "from jaxdiff.network_calls import grid_within",
        *["from jaxdiff.photos import Framing, crop"] * (wish.frame is not None),
    ]


def _picture(wish: Wish, size: tuple[int, int]) -> list[str]:
    if wish.frame is None:
        return [f'pixels = load_image("{PICTURE}", size={size}, resize=True).pixels']
    return [f'pixels = crop(load_image("{PICTURE}").pixels, Framing{tuple(wish.frame)}, {size[0]})']


def _operator(wish: Wish, shape: Shape) -> list[str]:
    if wish.task != MASK:
        return [f"operator = tasks.get_task({wish.task!r}).make(place, shape)"]
    return [
        f'mask = load_mask("{MASK_FILE}", {tuple(shape[:2])})',
        "operator = jd.operators.inpaint_mask(image_shape=shape, mask=mask)",
    ]


def _problem(wish: Wish, problem: Problem) -> list[str]:
    std = str(np.float32(problem.noise_std))  # the shortest number that is this one
    if not wish.measured:
        return [f"problem = jd.observe(noise, operator, jax.numpy.asarray(pixels), noise={std})"]
    y = "jax.numpy.asarray(pixels)"
    if problem.operator.measurement_shape[2] == 1 < problem.operator.image_shape[2]:
        y = f"jax.numpy.mean({y}, axis=2, keepdims=True)"
    y = f"operator({y})" if isinstance(problem.operator, Mask) else y
    return [f"problem = jd.Problem.of(operator, {y}, {std})"]


def _arguments(wish: Wish) -> str:
    """Of ``load_denoiser``."""
    given = {"dtype": wish.dtype if wish.dtype != "float32" else None, "label": wish.label}
    return ", ".join([repr(wish.prior), *(f"{name}={value!r}" for name, value in given.items() if value is not None)])


def _method(wish: Wish) -> tuple[str, dict[str, Any], int]:
    """Name, settings and network calls, as the command line chooses them."""
    task = "inpaint_box" if wish.task == MASK else wish.task
    noise = get_task(task).measured_with(std=wish.noise_std)
    chosen = default_for(task, wish.prior, wish.calls, noise=noise)
    if wish.method:
        return wish.method, settings(wish.method, task, wish.prior, noise=noise), wish.calls
    options = settings(chosen.method, task, wish.prior, noise=noise) if chosen.options is None else chosen.options
    return chosen.method, options, chosen.calls or wish.calls
