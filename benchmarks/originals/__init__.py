"""Random networks by the authors' own PyTorch code, each written to a file as its family writes them.

diffusers comes from PyPI. The other families need a clone of the authors' repository in a folder, by its own name:
NVlabs/edm, yang-song/score_sde_pytorch, openai/guided-diffusion, openai/improved-diffusion, openai/consistency_models and
ermongroup/SDEdit.
"""

from benchmarks.originals.base import Original
from benchmarks.originals.ddpm import ddpm
from benchmarks.originals.diffusers_unet import diffusers
from benchmarks.originals.nvidia import edm
from benchmarks.originals.openai import consistency, guided_diffusion, improved_diffusion
from benchmarks.originals.score_sde import score_sde

__all__ = ["MAKERS", "Original"]

MAKERS = {
    "diffusers": diffusers,
    "edm": edm,
    "score-sde": score_sde,
    "guided-diffusion": guided_diffusion,
    "improved-diffusion": improved_diffusion,
    "consistency": consistency,
    "ddpm": ddpm,
}
"""Family → a function that draws a network and writes its file."""
