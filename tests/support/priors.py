"""The smallest priors that can be saved and loaded."""

import numpy as np
from flax import traverse_util

from jaxdiff.models import PriorConfig, UNetConfig, parameter_shapes

UNET = UNetConfig(image_size=8, model_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_factors=(2,))
CONFIG = PriorConfig(
    UNET, schedule="cosine", num_steps=100, prediction="v", variance="fixed_large", rescale_timesteps=True
)
CONDITIONAL = PriorConfig(
    UNetConfig(
        image_size=8,
        model_channels=32,
        num_res_blocks=1,
        channel_mult=(1,),
        num_classes=5,
        out_channels=6,
        use_scale_shift_norm=True,
    )
)


def random_params(config):
    """Parameters of a prior, all of them small random numbers."""
    shapes = parameter_shapes(config.unet)
    generator = np.random.default_rng(0)
    flat = {name: generator.standard_normal(shape).astype(np.float32) * 0.1 for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def description_of(path):
    return path / "prior.json" if path.is_dir() else path.with_suffix(".json")


def unsigned(description):
    """As older priors are, and those that were edited on purpose."""
    return {name: value for name, value in description.items() if name != "checksum"}
