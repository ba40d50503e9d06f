"""The configuration of a network of score_sde, from the modules that it numbers without naming."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from weights_convert.pickled import MalformedError

__all__ = ["architecture"]

Shapes = Mapping[str, tuple[int, ...]]


class _Module(NamedTuple):
    kind: str
    shapes: dict[str, tuple[int, ...]]

    @property
    def before(self) -> int:
        """Channels that come in."""
        return self.shapes["Conv_0.weight"][1]

    @property
    def after(self) -> int:
        """Channels that go out."""
        return self.shapes["Conv_0.weight"][0]

    @property
    def shortcut(self) -> bool:
        """Whether there is a 1×1 convolution on the shortcut."""
        return "Conv_2.weight" in self.shapes or "NIN_0.W" in self.shapes


def architecture(shapes: Shapes) -> dict[str, Any]:
    """What shapes tell: model, widths, blocks, the levels that attend, embedding and pyramids.

    Raises:
        MalformedError: if the modules are not in the order that such a network has.
    """
    try:
        return _read_off(_modules(shapes))
    except (KeyError, IndexError, StopIteration, ZeroDivisionError) as error:
        raise MalformedError(f"it is no whole network of score_sde: {error} is missing or of another form") from error


def _modules(shapes: Shapes) -> list[_Module]:
    parts: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if (match := re.fullmatch(r"all_modules\.(\d{1,5})\.(.+)", name)) is None:
            raise MalformedError(f"its tensor {name} is of no module of score_sde")
        parts.setdefault(int(match[1]), {})[match[2]] = shape
    if sorted(parts) != list(range(len(parts))):
        raise MalformedError("its modules are not numbered without gaps")
    return [_Module(_kind(parts[i]), parts[i]) for i in range(len(parts))]


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> str:
    for sign, kind in {"W": "fourier", "Conv_1.weight": "res", "NIN_3.W": "attention"}.items():
        if sign in shapes:
            return kind
    if "weight" in shapes:
        return {1: "norm", 2: "dense", 4: "conv"}.get(len(shapes["weight"]), "other")
    if "Conv_0.weight" in shapes:
        return "combine" if shapes["Conv_0.weight"][2:] == (1, 1) else "resample"
    return "pyramid" if "Conv2d_0.weight" in shapes else "other"


def _read_off(modules: list[_Module]) -> dict[str, Any]:
    kinds = [module.kind for module in modules]
    stem = kinds.index("conv")
    nf, image_channels = modules[stem].shapes["weight"][:2]
    res = [i for i, kind in enumerate(kinds) if kind == "res"]
    decoder = next(i for i in res if modules[i].before > modules[i].after)
    middle = [i for i in res if i < decoder][-2:]
    encoder = modules[stem + 1 : middle[0]]
    levels = _levels(encoder)
    widths = [next(module.after for module in level if module.kind == "res") for level in levels]
    if any(width % nf for width in widths):
        raise MalformedError("its widths are no multiples of its first one")
    plain = "Conv_2.weight" not in set().union(*(modules[i].shapes for i in res))
    heads = [i for i, kind in enumerate(kinds) if kind == "norm" and i > decoder]
    output = "none"
    if len(heads) > 1:
        output = "output_skip" if modules[heads[0] + 1].shapes["weight"][0] == image_channels else "residual"
    return {
        "name": "ddpm" if plain else "ncsnpp",
        "nf": nf,
        "num_channels": image_channels,
        "ch_mult": [width // nf for width in widths],
        "num_res_blocks": sum(module.kind == "res" for module in levels[-1]),
        "attn_levels": [i for i, level in enumerate(levels) if any(m.kind == "attention" for m in level)],
        "embedding_type": "fourier" if kinds[0] == "fourier" else "positional",
        "conditional": "Dense_0.weight" in modules[res[0]].shapes,
        "progressive": output,
        "progressive_input": _input(encoder),
    }


def _levels(encoder: list[_Module]) -> list[list[_Module]]:
    """Cut the way down where it halves the image: a block with a shortcut that keeps its width, or a resampling."""
    levels: list[list[_Module]] = [[]]
    for module in encoder:
        halves = module.kind == "res" and module.before == module.after and module.shortcut
        if halves or module.kind == "resample":
            levels.append([])
        else:
            levels[-1].append(module)
    return levels


def _input(encoder: list[_Module]) -> str:
    kinds = {module.kind for module in encoder}
    return "input_skip" if "combine" in kinds else "residual" if "pyramid" in kinds else "none"
