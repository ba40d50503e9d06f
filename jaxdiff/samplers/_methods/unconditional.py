"""Draws from the prior by DDPM (Ho et al. 2020, Algorithm 2) and DDIM (Song et al. 2021).

x_s ← the transition from x_t, with nothing to guide it
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
    """Ancestral sampling (Ho et al. 2020, Algorithm 2).

    Args:
        variance: "auto" (the prior's own), "fixed_small" or "fixed_large".
        noise: "ancestral", or "none" for the study's Eq. 2 as printed.

    Raises:
        ValueError: if an option is not one of these.
    """
    return Unconditional(transition=transitions.ddpm(variance=variance, noise=noise))


@register(Unconditional)
def ddim(*, eta: float | Array = 0.0) -> Unconditional:
    """DDIM(η) sampling (Song et al. 2021, Eqs. 12 and 16).

    Args:
        eta: η; 0 is deterministic, 1 has DDPM's variance.

    Raises:
        ValueError: if η is no number, negative or infinite.
    """
    return Unconditional(transition=transitions.ddim(eta=eta))
