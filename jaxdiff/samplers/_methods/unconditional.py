"""Draws from the prior by DDPM (Ho et al. 2020, Algorithm 2) and DDIM (Song et al. 2021).

This draws images from the prior, without a measurement. DDPM adds fresh noise in each step. DDIM adds a share η of it, and
none for η = 0.

x_s ← the step of the prior from x_t
"""

from flax import struct

from jaxdiff.samplers import transitions
from jaxdiff.samplers.base import GuidedSampler
from jaxdiff.samplers.registry import register
from jaxdiff.typing import Array

__all__ = ["Unconditional", "ddim", "ddpm"]


@struct.dataclass
class Unconditional(GuidedSampler):
    """A run of its transition."""

    title = "an unconditional sampler"
    needs = None


@register(Unconditional)
def ddpm(*, variance: str = "auto", noise: str = "ancestral") -> Unconditional:
    """Ancestral sampling (Ho et al. 2020, Algorithm 2); ``noise="none"`` is the study's Eq. 2 as printed."""
    return Unconditional(transition=transitions.ddpm(variance=variance, noise=noise))


@register(Unconditional)
def ddim(*, eta: float | Array = 0.0) -> Unconditional:
    """DDIM(η) sampling (Song et al. 2021); η = 0 is deterministic, 1 has DDPM's variance."""
    return Unconditional(transition=transitions.ddim(eta=eta))
