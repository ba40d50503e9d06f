"""Load and save priors.

A checkpoint is a folder (Orbax: ``params/`` beside ``prior.json``) or a pair of files (``NAME.safetensors`` beside
``NAME.json``). The JSON holds the architecture and the diffusion process (``PriorConfig``), where the weights come from,
and checksums of their files and of itself. Nothing is guessed: names, shapes and values are checked against the
architecture, and a mismatch is an error.
"""

from jaxdiff.checkpoints.loading import EMBEDDED, Checkpoint, denoiser_of, load_checkpoint, load_denoiser
from jaxdiff.checkpoints.saving import check_target, save_checkpoint

__all__ = [
    "EMBEDDED",
    "Checkpoint",
    "check_target",
    "denoiser_of",
    "load_checkpoint",
    "load_denoiser",
    "save_checkpoint",
]
