"""Networks: the UNets of guided-diffusion, DDPM and NCSN++, and the configuration of a prior."""

from jaxdiff.models.config import UNetConfig
from jaxdiff.models.layers import timestep_embedding
from jaxdiff.models.networks import NETWORKS, NetworkConfig, module_of, network_of, parameter_shapes
from jaxdiff.models.preconditioning import Preconditioning
from jaxdiff.models.presets import PRESETS
from jaxdiff.models.prior import PriorConfig
from jaxdiff.models.song import Song
from jaxdiff.models.song_config import SongConfig
from jaxdiff.models.unet import UNet

__all__ = [
    "NETWORKS",
    "PRESETS",
    "NetworkConfig",
    "Preconditioning",
    "PriorConfig",
    "Song",
    "SongConfig",
    "UNet",
    "UNetConfig",
    "module_of",
    "network_of",
    "parameter_shapes",
    "timestep_embedding",
]
