"""Networks: the UNet of guided-diffusion, its configuration and named presets."""

from jaxdiff.models.config import UNetConfig
from jaxdiff.models.presets import PRESETS, PriorConfig
from jaxdiff.models.shapes import parameter_shapes
from jaxdiff.models.unet import UNet, timestep_embedding

__all__ = ["PRESETS", "PriorConfig", "UNet", "UNetConfig", "parameter_shapes", "timestep_embedding"]
