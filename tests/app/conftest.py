"""A prior that runs in no time: a small network with random weights, as a checkpoint."""

import numpy as np
import pytest
from flax import traverse_util

from jaxdiff.checkpoints import save_checkpoint
from jaxdiff.models import PriorConfig, parameter_shapes
from tests.support.networks import small_unet


@pytest.fixture(scope="session")
def prior(tmp_path_factory):
    """Its path; images have 16×16 pixels."""
    path, config = (
        tmp_path_factory.mktemp("prior") / "small.safetensors",
        PriorConfig(small_unet(out_channels=6), num_steps=1000),
    )
    generator = np.random.default_rng(0)
    flat = {
        name: np.float32(0.1 * generator.standard_normal(shape))
        for name, shape in parameter_shapes(config.unet).items()
    }
    save_checkpoint(path, traverse_util.unflatten_dict(flat, sep="/"), config)
    return path
