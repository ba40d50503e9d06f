"""Draws from the prior: the guided body with nothing to guide it."""

from jaxdiff.samplers import transitions
from jaxdiff.samplers.base import GuidedSampler
from jaxdiff.typing import Array

__all__ = ["ddim", "ddpm"]


def ddpm(*, variance: str = "auto", noise: str = "ancestral") -> GuidedSampler:
    """Ancestral sampling (Ho et al. 2020, Algorithm 2); ``noise="none"`` is the study's Eq. 2 as printed."""
    return GuidedSampler(transition=transitions.ddpm(variance=variance, noise=noise))


def ddim(*, eta: float | Array = 0.0) -> GuidedSampler:
    """DDIM(η) sampling (Song et al. 2021); η = 0 is deterministic, 1 has DDPM's variance."""
    return GuidedSampler(transition=transitions.ddim(eta=eta))
