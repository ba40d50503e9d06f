"""The two-way map between guided-diffusion's state dict and jaxdiff's parameters.

Names: ``input_blocks.1.0.in_layers.2.weight`` ↔ ``input_blocks_1_0/in_layers_2/kernel``. Layouts: convolutions
OIHW ↔ HWIO, linear and pointwise 1-D convolutions (out, in[, 1]) ↔ (in, out). Nothing is computed, so a round trip is
exact.
"""

from collections.abc import Mapping

import numpy as np

__all__ = ["from_torch", "from_torch_name", "to_torch", "to_torch_name"]

Named = dict[str, np.ndarray]

NORMS = ("in_layers.0", "out_layers.0", "norm", "out.0")
POINTWISE = ("qkv", "proj_out")


def from_torch_name(name: str) -> str:
    """The name in jaxdiff of a tensor of a guided-diffusion state dict.

    >>> from_torch_name("input_blocks.1.0.in_layers.2.weight")
    'input_blocks_1_0/in_layers_2/kernel'
    >>> from_torch_name("out.0.weight")
    'out_0/scale'
    """
    *path, leaf = name.split(".")
    modules: list[str] = []
    for part in path:
        if part.isdigit() and modules:
            modules[-1] += f"_{part}"
        else:
            modules.append(part)
    if leaf == "weight":
        leaf = "embedding" if path == ["label_emb"] else "scale" if _is_norm(path) else "kernel"
    return "/".join([*modules, leaf])


def to_torch_name(name: str) -> str:
    """The name in guided-diffusion of a parameter of jaxdiff's UNet.

    >>> to_torch_name("input_blocks_1_0/in_layers_2/kernel")
    'input_blocks.1.0.in_layers.2.weight'
    """
    *modules, leaf = name.split("/")
    parts: list[str] = []
    for module in modules:
        words = module.split("_")
        numbers: list[str] = []
        while words and words[-1].isdigit():
            numbers.insert(0, words.pop())
        parts += ["_".join(words), *numbers]
    return ".".join([*parts, "bias" if leaf == "bias" else "weight"])


def _is_norm(path: list[str]) -> bool:
    joined = ".".join(path)
    return any(joined == norm or joined.endswith(f".{norm}") for norm in NORMS)


def from_torch(tensors: Mapping[str, np.ndarray]) -> Named:
    """Parameters by jaxdiff's names from a state dict by guided-diffusion's, layouts included."""
    return {from_torch_name(name): _layout_from_torch(name, value) for name, value in tensors.items()}


def to_torch(params: Mapping[str, np.ndarray]) -> Named:
    """A state dict by guided-diffusion's names from parameters by jaxdiff's (views): the inverse of ``from_torch``."""
    named = {to_torch_name(name): (name, value) for name, value in params.items()}
    return {torch_name: _layout_to_torch(name, value) for torch_name, (name, value) in named.items()}


def _layout_from_torch(name: str, value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(2, 3, 1, 0))
    if value.ndim == 3 and value.shape[2] == 1:
        return np.ascontiguousarray(value[:, :, 0].T)
    if value.ndim == 2 and name != "label_emb.weight":
        return np.ascontiguousarray(value.T)
    return value


def _layout_to_torch(name: str, value: np.ndarray) -> np.ndarray:
    module, _, leaf = name.rpartition("/")
    if leaf != "kernel":
        return value
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T[:, :, None] if module.split("/")[-1] in POINTWISE else value.T
