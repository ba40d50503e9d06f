"""The networks that a prior may have, by name: a new family is a new row."""

from typing import Any, NamedTuple

from jaxdiff.models.config import UNetConfig
from jaxdiff.models.layers import NetworkConfig as _Common
from jaxdiff.models.shapes import parameter_shapes as _adm_shapes
from jaxdiff.models.song import Song
from jaxdiff.models.song_config import SongConfig
from jaxdiff.models.song_layout import parameter_shapes as _song_shapes
from jaxdiff.models.unet import UNet
from jaxdiff.typing import DTypeLike, Shape

__all__ = ["NETWORKS", "Network", "NetworkConfig", "module_of", "network_named", "network_of", "parameter_shapes"]

NetworkConfig = UNetConfig | SongConfig
"""A configuration of any family."""


class Network(NamedTuple):
    """A family: its name, configuration, linen module, and the shapes of its parameters by name."""

    name: str
    config: Any
    module: Any
    shapes: Any


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("adm", UNetConfig, UNet, _adm_shapes),
        Network("song", SongConfig, Song, _song_shapes),
    )
}
"""adm: Dhariwal & Nichol 2021. song: Ho et al. 2020 and all that Song et al. 2021 and Karras et al. 2022 made of it."""


def network_named(name: Any) -> Network:
    """The family of that name.

    Raises:
        ValueError: if there is none.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; choose one of {', '.join(NETWORKS)}.")
    return NETWORKS[name]


def network_of(config: _Common) -> Network:
    """The family of a configuration."""
    return next(network for network in NETWORKS.values() if isinstance(config, network.config))


def parameter_shapes(config: NetworkConfig) -> dict[str, Shape]:
    """Shape of each parameter of a configuration of any family, by its full name.

    >>> parameter_shapes(UNetConfig())["out_2/kernel"]
    (3, 3, 128, 3)
    """
    shapes: dict[str, Shape] = network_of(config).shapes(config)
    return shapes


def module_of(config: NetworkConfig, dtype: DTypeLike, *, name: str | None = None) -> Any:
    """The linen module of a configuration, computing in ``dtype``."""
    return network_of(config).module(config, dtype, name=name)
