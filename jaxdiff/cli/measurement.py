"""From options to a problem: which operator, how much noise, and whether the picture is measured here or was before."""

import argparse
import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import operators, photos
from jaxdiff.cli.pictures import framing_of
from jaxdiff.evaluation.restored import VISIBLE, as_rgb
from jaxdiff.files import LoadedImage, load_image, load_kernel, load_mask, with_channels
from jaxdiff.noise import NoiseModel
from jaxdiff.operators.base import Operator
from jaxdiff.photos import Framing
from jaxdiff.problems import Problem, observe
from jaxdiff.tasks import Task, get_task
from jaxdiff.tasks.task import LIGHT
from jaxdiff.typing import Key, Shape

__all__ = [
    "Measured",
    "Photo",
    "add_operator",
    "check_operator",
    "hole_of",
    "noise_of",
    "operator_of",
    "pastes",
    "problem_of",
    "recorded_as",
]

Note = Callable[[str], Any]
"""Told what was done to a picture."""

ROUNDING = 2 / 255 / math.sqrt(12)
"""σ of rounding to 8 bits, on [-1, 1]: the noise of a picture whose known pixels are right."""

MASK = "inpaint_mask"
"""The task of a mask of the user's own; its σ is 0.05 where the measurement is simulated."""


class Photo(NamedTuple):
    """Of a picture before it was resized: its size (H, W), and the square of it that is used (None: its centre)."""

    size: tuple[int, int]
    framing: Framing | None = None


class Measured(NamedTuple):
    """A problem, the true image [H, W, C] if it was measured here, and the picture that it came from."""

    problem: Problem
    truth: np.ndarray | None
    photo: Photo


def add_operator(parser: argparse.ArgumentParser, *, task: str | None = None) -> None:
    """``--task`` and what makes its operator the user's own."""
    group = parser.add_argument_group("task")
    group.add_argument(
        "--task",
        required=task is None,
        default=task,
        help="how the picture is, or will be, degraded; jaxdiff tasks lists the names",
    )
    group.add_argument(
        "--mask", default=None, help=f"for {MASK}: a picture that is bright at good pixels, or an array .npy"
    )
    group.add_argument(
        "--kernel", default=None, help="for a blur: its kernel, as a picture or an array .npy, with odd sides"
    )
    group.add_argument(
        "--blur-std", type=float, default=None, help="for gaussian_blur: its width in pixels of the prior"
    )
    group.add_argument("--quality", type=float, default=None, help="for jpeg: 1 (worst) to 100")
    group.add_argument(
        "--factor", type=int, default=None, help="for super_resolution: the factor by which both sides shrink"
    )


def _mask(args: argparse.Namespace, shape: Shape, photo: Photo | None) -> Operator:
    of, framing = (None, None) if photo is None else photo
    box = None if framing is None else photos.box(framing)
    return operators.inpaint_mask(image_shape=shape, mask=load_mask(args.mask, (shape[0], shape[1]), of=of, box=box))


def _kernel(args: argparse.Namespace, shape: Shape, photo: Photo | None) -> Operator:
    return operators.blur(image_shape=shape, kernel=load_kernel(args.kernel))


def _blur(args: argparse.Namespace, shape: Shape, photo: Photo | None) -> Operator:
    most = 2 * min(shape[:2]) - 1  # what reflection can pad
    size = min(2 * math.ceil(4 * args.blur_std) + 1, most) if 0 < args.blur_std < math.inf else 1
    return operators.gaussian_blur(image_shape=shape, size=max(size, 3), std=args.blur_std)


def _jpeg(args: argparse.Namespace, shape: Shape, photo: Photo | None) -> Operator:
    return operators.jpeg(image_shape=shape, quality=args.quality)


def _small(args: argparse.Namespace, shape: Shape, photo: Photo | None) -> Operator:
    return operators.super_resolution(image_shape=shape, factor=args.factor)


OWN: dict[str, tuple[tuple[str, ...], Callable[..., Operator]]] = {
    "mask": ((MASK,), _mask),
    "kernel": (("gaussian_blur", "motion_blur"), _kernel),
    "blur_std": (("gaussian_blur",), _blur),
    "quality": (("jpeg",), _jpeg),
    "factor": (("super_resolution",), _small),
}
"""Option that makes an operator the user's own → the tasks that it belongs to, and what makes the operator."""


def recorded_as(task: str) -> str:
    """The task whose settings are used: those of a box for a mask of one's own."""
    return "inpaint_box" if task == MASK else task


def check_operator(args: argparse.Namespace) -> None:
    """See that the task exists and that its options belong to it.

    Raises:
        ValueError: if not.
    """
    if (args.task == MASK) != (args.mask is not None):
        raise ValueError(f"--task {MASK} and --mask FILE go together; give both or neither.")
    if args.task != MASK:
        get_task(args.task)
    given = [name for name in OWN if getattr(args, name) is not None]
    for name in given:
        tasks = OWN[name][0]
        if args.task not in tasks:
            raise ValueError(f"--{name.replace('_', '-')} belongs to --task {' or '.join(tasks)}, not {args.task}.")
    if len(given) > 1:
        raise ValueError(f"--{' and --'.join(given).replace('_', '-')} exclude each other; give one of them.")


def noise_of(args: argparse.Namespace) -> float | NoiseModel:
    """The noise of the measurement: that of --noise and --noise-std, else the task's.

    Raises:
        ValueError: if they do not go with each other or with the task.
    """
    task = Task(lambda key, shape: _mask(args, shape, None), LIGHT, MASK) if args.task == MASK else get_task(args.task)
    return task.measured_with(args.noise, args.noise_std)


def operator_of(args: argparse.Namespace, key: Key, shape: Shape, photo: Photo | None = None) -> Operator:
    """The operator for images of ``shape``.

    Args:
        args: the options.
        key: of what is random in the operator.
        shape: (H, W, C).
        photo: the picture before it was resized, for a mask of its size.
    """
    for name, (_, make) in OWN.items():
        if getattr(args, name) is not None:
            return make(args, shape, photo)
    return get_task(args.task).make(key, shape)


def problem_of(args: argparse.Namespace, shape: Shape, note: Note) -> Measured:
    """Measure the picture, or take it as the measurement.

    Args:
        args: the options.
        shape: (H, W, C) of the prior's images.
        note: told what was done to the picture.

    Raises:
        ValueError: if the picture or the options do not suit the task.
    """
    place, draw = jax.random.split(jax.random.key(args.seed))
    framing = framing_of(args, note)
    if args.measured:
        photo = Photo(load_image(args.image).size, framing)
        return Measured(_measured(args, place, shape, photo, note), None, photo)
    loaded = _load(args, (shape[0], shape[1]), framing, note)
    photo = Photo(loaded.size, framing)
    operator, truth = operator_of(args, place, shape, photo), with_channels(loaded.pixels, shape[2])
    return Measured(observe(draw, operator, jnp.asarray(truth), noise_of(args)), truth, photo)


def _measured(args: argparse.Namespace, key: Key, shape: Shape, photo: Photo, note: Note) -> Problem:
    operator, noise = operator_of(args, key, shape, photo), noise_of(args)
    if all(getattr(args, name) is None for name in OWN):
        _refuse_random(args, operator, shape)
    size = _picture_size(operator)
    if size is None:
        raise ValueError(
            f"--measured takes a picture as the measurement, but {args.task} does not measure one: its measurement is an "
            f"array of shape {tuple(operator.measurement_shape)}. Use the Python interface."
        )
    y = jnp.asarray(_load(args, size, photo.framing, note).pixels)
    if operator.measurement_shape[2] == 1 < y.shape[2]:
        y = jnp.mean(y, axis=2, keepdims=True)
    if isinstance(operator, operators.Mask):
        y = operator(y)
        if args.noise_std is None and not isinstance(noise, NoiseModel):
            noise = ROUNDING  # known pixels are right, up to 8 bits
    return Problem.of(operator, y, noise)


def pastes(args: argparse.Namespace, problem: Problem) -> bool:
    """Whether known pixels are to be those of the picture: it is the measurement, its noise too small to be seen."""
    quiet = problem.noise is None and float(problem.noise_std) < VISIBLE / 2
    return args.measured and isinstance(problem.operator, operators.Mask) and quiet


def hole_of(args: argparse.Namespace, problem: Problem, photo: Photo) -> np.ndarray | None:
    """[H, W, 1] of the photo: 1 where its pixels are not known, 0 where they stay; None where none are to stay."""
    if not pastes(args, problem):
        return None
    if args.mask is not None:
        with contextlib.suppress(ValueError):  # it has the size of the prior's images
            return 1 - load_mask(args.mask, photo.size)
    hole = np.zeros((*photo.size, 1), np.float32)
    if photo.framing is not None:
        top, left, side = photo.framing
        unseen = np.asarray(problem.operator.keep_observed(jnp.ones_like(problem.y)))[..., :1] == 0
        hole[top : top + side, left : left + side] = as_rgb(unseen, (side, side))[..., :1]
    return hole


def _load(args: argparse.Namespace, size: tuple[int, int], framing: Framing | None, note: Note) -> LoadedImage:
    """The picture, or its frame, in the ``size`` = (h, w) that is needed."""
    loaded = load_image(args.image, size=size if framing is None else None, resize=args.resize)
    for text in loaded.notes:
        note(f"note: {args.image} {text}")
    if framing is None:
        return loaded
    if size[0] != size[1]:
        raise ValueError(
            f"a frame is a square, but {args.task} needs {size[0]}×{size[1]} pixels; use --resize instead."
        )
    return loaded._replace(pixels=photos.crop(loaded.pixels, framing, size[0]))


def _picture_size(operator: Operator) -> tuple[int, int] | None:
    """(h, w) of a measurement that is a picture, which its view shows as it is; None for any other."""
    shape, channels = tuple(operator.measurement_shape), operator.image_shape[2]
    if len(shape) != 3 or shape[2] not in (1, channels):
        return None
    y = jnp.linspace(-1, 1, math.prod(shape)).reshape(shape)
    view = operator.view(y)
    return (shape[0], shape[1]) if view.shape == shape and bool(jnp.all(view == y)) else None


def _refuse_random(args: argparse.Namespace, operator: Operator, shape: Shape) -> None:
    """An operator that the seed draws has nothing to do with what was done to a photo."""
    other = operator_of(args, jax.random.fold_in(jax.random.key(args.seed), 1), shape)
    pairs = zip(jax.tree.leaves(operator), jax.tree.leaves(other), strict=True)
    if not all(np.array_equal(a, b) for a, b in pairs):
        raise ValueError(
            f"{args.task} draws its operator at random, so --measured would restore what was never done to {args.image}; "
            f"give yours: --task {MASK} --mask FILE, or --task motion_blur --kernel FILE."
        )
