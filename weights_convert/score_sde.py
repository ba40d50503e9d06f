"""Files of score_sde: averaged weights as a list without names, and noise levels as a buffer."""

import re
from collections.abc import Mapping
from typing import Any

from weights_convert.containers import Saved
from weights_convert.pickled import MalformedError, Tensor

__all__ = ["averaged", "levels_of", "names_averages", "unprefixed"]


def names_averages(value: Any) -> bool:
    """Whether a file keeps its averaged weights as ``ema.shadow_params``, a list in the order of ``model``."""
    if not isinstance(value, dict) or not isinstance(value.get("ema"), dict):
        return False
    return isinstance(value["ema"].get("shadow_params"), list) and isinstance(value.get("model"), dict)


def averaged(value: Mapping[str, Any]) -> dict[str, Tensor]:
    """The averaged weights by name: the list is zipped onto the names of ``model`` that are trained.

    Buffers, and the frequencies of a Fourier embedding, are trained by nobody and come from ``model``.

    Raises:
        MalformedError: if the list does not fit the names and shapes.
    """
    model = unprefixed({k: v for k, v in value["model"].items() if isinstance(k, str) and isinstance(v, Tensor)})
    shadow = value["ema"]["shadow_params"]
    frozen = {name for name in model if re.fullmatch(r"sigmas|all_modules\.0\.W", name)}
    trained = [name for name in model if name not in frozen]
    if len(shadow) != len(trained) or not all(isinstance(tensor, Tensor) for tensor in shadow):
        raise MalformedError(
            f"its list of averaged weights has {len(shadow)} tensors, but its model has {len(trained)} that are trained"
        )
    for name, tensor in zip(trained, shadow, strict=True):
        if tensor.size != model[name].size:
            raise MalformedError(
                f"its averaged weight of {name} has shape {list(tensor.size)}, but its model {list(model[name].size)}"
            )
    return {name: model[name] for name in frozen} | dict(zip(trained, shadow, strict=True))


def unprefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the "module." that data-parallel training puts before every name."""
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def levels_of(saved: Saved, sigmas: Tensor) -> dict[str, Any]:
    """Noise levels of the buffer ``sigmas``, a falling geometric sequence."""
    values = saved.lazy("sigmas", sigmas).read()
    if values.ndim != 1 or values.size < 2 or not values.dtype.kind == "f" or not (values > 0).all():
        raise MalformedError("its noise levels (sigmas) are no list of positive numbers")
    return {
        "sigma_max": float(f"{values.max():.6g}"),  # the file has the exponential of a logarithm
        "sigma_min": float(f"{values.min():.6g}"),
        "num_scales": int(values.size),
    }
