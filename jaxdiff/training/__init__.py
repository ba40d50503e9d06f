"""Train priors: ``train(config, out)`` and its parts."""

from typing import Any

from jaxdiff.training.config import (
    DataConfig,
    LossConfig,
    OptimizerConfig,
    ReportConfig,
    Source,
    TrainConfig,
    bundled,
    load_config,
)
from jaxdiff.training.evaluate import DenoisingScores, denoising_scores, denoising_scores_each, draw
from jaxdiff.training.loss import Losses, denoising_loss

__all__ = [
    "DataConfig",
    "DenoisingScores",
    "LossConfig",
    "Losses",
    "OptimizerConfig",
    "ReportConfig",
    "Source",
    "TrainConfig",
    "bundled",
    "denoising_loss",
    "denoising_scores",
    "denoising_scores_each",
    "draw",
    "load_config",
    "train",
]


def train(config: TrainConfig, out: Any, **options: Any) -> Any:
    """Train a prior; see `jaxdiff.training.loop.train` (imported on the first call, with optax and grain)."""
    from jaxdiff.training.loop import train as train_

    return train_(config, out, **options)
