"""Your own network as a prior: a plain function, or a module of flax linen, flax nnx or equinox. None of them is required."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import check_image_shape, shown
from jaxdiff.denoisers.network import PREDICTIONS, Denoiser
from jaxdiff.models.preconditioning import FORMS, Preconditioning
from jaxdiff.schedules import NoiseSchedule
from jaxdiff.typing import Array, PyTree, Shape

__all__ = ["from_function", "from_module"]

TOLD = {"denoised": "sigma", "score": "sigma", "ve": "sigma", "flow": "flow", "flow_to_data": "flow_to_data"}
"""Predictions of networks that receive σ, or the t of a straight path, with the label that they usually take."""


def from_function(
    apply: Callable[..., Array],
    params: PyTree,
    *,
    schedule: NoiseSchedule,
    image_shape: Shape,
    prediction: str = "eps",
    preconditioning: Preconditioning | None = None,
    label: Any = None,
    clip: bool = True,
    batched: bool = True,
    channels_first: bool = False,
) -> Denoiser:
    """Make a prior from any function ``apply(params, x, t)``, or ``apply(params, x, t, label)`` if there is a label.

    Args:
        apply: the network. It takes x [N, H, W, C] and t [N]. Its output has the shape of x.
        params: its parameters, any pytree.
        schedule: the noise levels of its training (``jaxdiff.schedules``).
        image_shape: (H, W, C).
        prediction: what the output means. If the network receives a timestep: "eps", "x0" or "v". If it receives σ:
            "denoised" (D itself), "score" or "ve" (−noise). If it receives t of the path (1−t) x₀ + t z: "flow" (z − x₀). If
            it receives 1−t: "flow_to_data" (x₀ − z).
        preconditioning: any other combination of form, label and data range. It replaces ``prediction``.
        label: class label, a whole number or None.
        clip: clip x̂₀ to [-1, 1].
        batched: whether the network takes a batch. If not, it takes one image [H, W, C] and one t.
        channels_first: whether the network takes [C, H, W].

    Returns:
        A denoiser for all samplers.

    Raises:
        ValueError: if the prediction is unknown, an argument is of another kind, or the output does not have the shape of
            the image.

    >>> from jaxdiff import schedules
    >>> noise = from_function(lambda p, x, t: p * x, 1.0, schedule=schedules.linear(), image_shape=(8, 8, 3))
    >>> noise.denoise(jnp.ones((8, 8, 3)), 1.0).shape
    (8, 8, 3)
    """
    _check_kinds(apply, schedule, preconditioning)
    prediction = str(prediction)
    if preconditioning is None and prediction not in PREDICTIONS:
        if prediction not in TOLD:
            names = ", ".join(dict.fromkeys((*PREDICTIONS, *TOLD)))
            hint = f"; for the form {prediction!r} give preconditioning=" if prediction in FORMS else ""
            raise ValueError(f"unknown prediction {prediction!r}; choose one of {names}{hint}.")
        preconditioning = Preconditioning(prediction, TOLD[prediction])
    denoiser = Denoiser(
        params=params,
        schedule=schedule,
        label=None if label is None else _class(label),
        module=_Function(apply, batched, channels_first),  # type: ignore[arg-type]
        image_shape=check_image_shape(image_shape),
        prediction=prediction if preconditioning is None else "eps",
        variance="fixed_small",
        clip=clip,
        preconditioning=preconditioning,
    )
    _check_shape(denoiser)
    return denoiser


def from_module(module: Any, variables: PyTree | None = None, **options: Any) -> Denoiser:
    """Make a prior from a module of flax linen (with its ``variables``), flax nnx or equinox.

    Args:
        module: is called as ``module(x, t)``, or ``module(x, t, label)``.
        variables: ``{"params": ...}`` for a linen module. For other modules, parameters that replace their own.
        options: the options of ``from_function``.

    Raises:
        ValueError: if the kind of the module is unknown, or a linen module has no variables.
    """
    home = {base.__module__.partition(".")[0] for base in type(module).__mro__}
    if hasattr(module, "apply") and hasattr(module, "init"):
        if isinstance(module, type):
            raise ValueError(
                f"{module.__name__} is a class; give a module that was made from it, {module.__name__}(…)."
            )
        if variables is None:
            raise ValueError('a linen module has no parameters in itself; give variables={"params": ...} too.')
        if isinstance(variables, Mapping) and variables and "params" not in variables:
            raise ValueError('variables have no "params"; give what module.init returned, or {"params": params}.')
        return from_function(_Linen(module), variables, **options)
    if "flax" in home:
        from flax import nnx

        graph, state = nnx.split(module)
        return from_function(_Merged(graph), state if variables is None else variables, **options)
    if "equinox" in home:
        leaves, tree = jax.tree.flatten(module)
        rest = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        return from_function(_Leaves(tree, rest), arrays if variables is None else variables, **options)
    raise ValueError(
        f"{type(module).__name__} is no module of linen, nnx or equinox; pass its function and parameters to from_function."
    )


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function in the place of a linen module."""

    call: Callable[..., Array]
    batched: bool
    channels_first: bool

    def apply(self, variables: dict[str, PyTree], x: Array, t: Array, y: Array | None = None) -> Array:
        """What a linen module's ``apply`` does."""
        if self.channels_first:
            x = jnp.moveaxis(x, -1, 1)
        given = (x, t) if y is None else (x, t, y)
        if self.batched:
            out = self.call(variables["params"], *given)
        else:
            out = jax.vmap(lambda *one: self.call(variables["params"], *one))(*given)
        return jnp.moveaxis(out, 1, -1) if self.channels_first else out


@dataclasses.dataclass(frozen=True)
class _Linen:
    module: Any

    def __call__(self, variables: PyTree, *given: Array) -> Array:
        out: Array = self.module.apply(variables, *given)
        return out


@dataclasses.dataclass(frozen=True)
class _Merged:
    graph: Any

    def __call__(self, state: PyTree, *given: Array) -> Array:
        from flax import nnx

        out: Array = nnx.merge(self.graph, state)(*given)
        return out


@dataclasses.dataclass(frozen=True)
class _Leaves:
    tree: Any
    rest: tuple[Any, ...]

    def __call__(self, arrays: list[Array], *given: Array) -> Array:
        left = iter(arrays)
        leaves = [next(left) if leaf is None else leaf for leaf in self.rest]
        out: Array = jax.tree.unflatten(self.tree, leaves)(*given)
        return out


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _check_kinds(apply: Any, schedule: Any, preconditioning: Any) -> None:
    """Refuse arguments that were mixed up, before they fail somewhere else."""
    if not callable(apply):
        raise ValueError(f"apply must be a function of (params, x, t), got {shown(apply)}.")
    if not isinstance(schedule, NoiseSchedule):
        raise ValueError(
            f"schedule must be one of jaxdiff.schedules, such as schedules.linear(1000); got {shown(schedule)}."
        )
    if not isinstance(preconditioning, Preconditioning | None):
        raise ValueError(f"preconditioning must be a Preconditioning or None, got {shown(preconditioning)}.")


def _class(label: Any) -> Array:
    found = jnp.asarray(label) if isinstance(label, int | np.ndarray | np.integer | jax.Array) else None
    if found is None or found.ndim or not jnp.issubdtype(found.dtype, jnp.integer):
        raise ValueError(f"label must be a whole number or None, got {shown(label)}.")
    return found.astype(jnp.int32)


def _check_shape(denoiser: Denoiser) -> None:
    """Trace the network once, so that a wrong layout is refused here."""
    shape = jax.ShapeDtypeStruct(denoiser.image_shape, jnp.float32)
    try:
        found = jax.eval_shape(lambda d, x: d._network(x, jnp.float32(1)), denoiser, shape).shape
    except TypeError as error:  # too few arguments, numpy inside, an index that is no whole number
        what = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"the network cannot be called with (params, x, t), where t is a float array: {what}"
        ) from error
    if found != denoiser.image_shape:
        raise ValueError(
            f"the network gives {found} for an image {denoiser.image_shape}; check image_shape, batched and channels_first."
        )
