"""Tiny pictures and a tiny run for the trainer's tests."""

import numpy as np
import pytest
from PIL import Image

from jaxdiff.training import TrainConfig
from tests.support.networks import trainable


def picture(seed, height=8, width=8):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 8
    waves = [np.sin(6 * (x * rng.random() + y * rng.random()) + 2 * c) for c in range(3)]
    return ((np.stack(waves, -1) + 1) * 127).astype(np.uint8)


@pytest.fixture(scope="session")
def small_network():
    """The function that gives a run a network of three layers."""
    return trainable


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 24 pictures of 8×8."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(24):
        Image.fromarray(picture(i)).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def tiny(pictures):
    """Makes a run of seconds: 8×8, one level of 32 channels; keyword changes are dotted names with __ for dots."""

    def make(**changes):
        from jaxdiff.training.config import override

        values = {
            "prior": {
                "unet": {
                    "image_size": 8,
                    "model_channels": 32,
                    "num_res_blocks": 1,
                    "channel_mult": [1],
                    "attention_factors": [],
                    "num_head_channels": None,
                    "use_scale_shift_norm": True,
                },
                "num_steps": 100,
                "prediction": "v",
                "variance": "fixed_small",
            },
            "data": {"sources": [{"path": str(pictures)}], "holdout": 2, "workers": 2},
            "optimizer": {"batch_size": 8, "warmup_steps": 2, "learning_rate": 2e-3},
            "report": {"log_every": 1, "eval_every": 0, "checkpoint_every": 3, "samples": 0, "times": [10, 50]},
            "steps": 8,
            "ema": [0.9, 0.5],
        }
        return TrainConfig.from_dict(override(values, {k.replace("__", "."): v for k, v in changes.items()}))

    return make
