"""Published checkpoints by the names of their files: what the files do not say about themselves."""

import functools
import importlib.resources
import json
import pathlib
from typing import Any, NamedTuple

from jaxdiff.names import nearest

__all__ = ["Known", "known_file", "score_sde_config", "score_sde_configs", "score_sde_folder"]

FOLDERS = {
    "ve/ffhq_1024_ncsnpp_continuous": "ve/ffhq_ncsnpp_continuous",
    "vp/cifar10_ddpm": "vp/ddpm/cifar10",
    "vp/cifar10_ddpm_continuous": "vp/ddpm/cifar10_continuous",
}
"""Published folders of score_sde that are named otherwise than the configuration."""


class Known(NamedTuple):
    """What is known of a published file: whose it is, where it comes from, its terms, and values it does not hold."""

    group: str
    source: str
    licence: str
    values: dict[str, Any]


@functools.cache
def _data(name: str) -> dict[str, Any]:
    text = importlib.resources.files(__name__).joinpath(name).read_text("utf-8")
    values: dict[str, Any] = json.loads(text)
    return values


def known_file(name: str) -> Known | None:
    """The published file of that name, if there is one; its contents still have to fit.

    >>> known_file("edm-ffhq-64x64-uncond-vp.pkl").licence
    'CC BY-NC-SA 4.0 (NVIDIA)'
    """
    for group, about in _data("files.json").items():
        if name in about["files"]:
            return Known(group, about["source"], about["licence"], dict(about["files"][name]))
    return None


def score_sde_configs() -> dict[str, dict[str, Any]]:
    """The configurations of score_sde by their path, such as "ve/ffhq_256_ncsnpp_continuous"."""
    return _data("score_sde.json")


def score_sde_config(name: str) -> tuple[str, dict[str, Any]]:
    """A configuration by its path or the end of it, with dots or slashes.

    Raises:
        ValueError: if there is none, or several have that end.

    >>> score_sde_config("ffhq_256_ncsnpp_continuous")[0]
    've/ffhq_256_ncsnpp_continuous'
    """
    known = score_sde_configs()
    path = name.removesuffix(".py").replace(".", "/").removeprefix("configs/")
    path = FOLDERS.get(path, path)
    fits = [key for key in known if key == path or key.endswith(f"/{path}")]
    if len(fits) == 1:
        return fits[0], dict(known[fits[0]])
    if fits:
        raise ValueError(f"--config {name} could be {' or '.join(fits)}; give the whole name.")
    near = next((key for key in known if path in key), None) or nearest(path, known, cutoff=0.5)
    hint = f"; did you mean {near}?" if near else f"; choose one of {', '.join(known)}."
    raise ValueError(f"score_sde has no configuration {name}{hint}")


def score_sde_folder(path: pathlib.Path) -> str | None:
    """The configuration that the folder of a file of score_sde is named after, as the published folders are.

    >>> score_sde_folder(pathlib.Path("ve/ffhq_256_ncsnpp_continuous/checkpoint_48.pth"))
    've/ffhq_256_ncsnpp_continuous'
    """
    folder = path.absolute().parent
    known = {name: name for name in score_sde_configs()} | FOLDERS
    whole = known.get(f"{folder.parent.name}/{folder.name}")
    ends = [config for name, config in known.items() if name.rpartition("/")[2] == folder.name]
    return whole or (ends[0] if len(ends) == 1 else None)
