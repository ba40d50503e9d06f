"""A prior's description: the network, what surrounds it, and the noise levels that it was trained for."""

import dataclasses
from typing import Any

from jaxdiff.models.config import UNetConfig
from jaxdiff.models.networks import NETWORKS, NetworkConfig, network_named, network_of
from jaxdiff.models.preconditioning import Preconditioning

__all__ = ["SCHEDULES", "PriorConfig"]

SCHEDULES = ("linear", "cosine", "scaled_linear", "sigmoid", "vp", "geometric", "karras")
MOST_STEPS = 1_000_000
"""Longest schedule of a prior; published ones have a few thousand steps."""


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """A network and the diffusion process that it was trained for: all that is needed to rebuild a denoiser.

    Attributes:
        unet: the architecture, of any family in ``NETWORKS``.
        schedule: name of the noise schedule: a function of ``jaxdiff.schedules``.
        num_steps: T, steps of that schedule.
        prediction: what the network's output means, "eps", "x0", "v" or "edm" (``jaxdiff.diffusion.v_of``).
        variance: "fixed_small", "fixed_large", "learned" or "learned_range".
        rescale_timesteps: the network was given t · 1000/T.
        schedule_range: ends of the schedule where they are not its own: first and last β, lowest and highest σ on
            [-1, 1] ("geometric", "karras"), or β_min and β_max ("vp"); offset and largest β ("cosine").
        preconditioning: what surrounds a network that is told σ; it replaces ``prediction``. None for one that is told t.
    """

    unet: NetworkConfig
    schedule: str = "linear"
    num_steps: int = 1000
    prediction: str = "eps"
    variance: str = "learned_range"
    rescale_timesteps: bool = False
    schedule_range: tuple[float, float] | None = None
    preconditioning: Preconditioning | None = None

    def __post_init__(self) -> None:
        choices = {
            "schedule": SCHEDULES,
            "prediction": ("eps", "x0", "v", "edm"),
            "variance": ("fixed_small", "fixed_large", "learned", "learned_range"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}.")
        whole = isinstance(self.num_steps, int) and not isinstance(self.num_steps, bool)
        if not whole or not 1 <= self.num_steps <= MOST_STEPS:
            raise ValueError(
                f"num_steps must be a positive whole number, at most {MOST_STEPS}, got {self.num_steps!r}."
            )
        if not isinstance(self.rescale_timesteps, bool):
            raise ValueError(f"rescale_timesteps must be true or false, got {self.rescale_timesteps!r}.")
        self._check_range()
        self._check_variance()

    def _check_range(self) -> None:
        ends = self.schedule_range
        if ends is None:
            return
        numbers = isinstance(ends, list | tuple) and all(
            isinstance(end, int | float) and not isinstance(end, bool) for end in ends
        )
        if not numbers or len(ends) != 2 or not 0 < ends[0] < ends[1] < 1e9:
            raise ValueError(f"schedule_range must be two positive numbers, the smaller first, got {ends!r}.")
        object.__setattr__(self, "schedule_range", (float(ends[0]), float(ends[1])))

    def _check_variance(self) -> None:
        unet = self.unet
        learned = self.variance.startswith("learned")
        if self.preconditioning is not None:
            if learned or unet.out_channels < unet.in_channels:
                raise ValueError("a network that is told σ has no learned variance, and as many outputs as inputs.")
        elif unet.out_channels != (1 + learned) * unet.in_channels:
            raise ValueError(
                f"variance={self.variance!r} does not suit a network with {unet.out_channels} output channels for "
                f"{unet.in_channels} input channels: a learned variance has twice as many, a fixed one as many."
            )

    @property
    def network(self) -> str:
        """Name of the network's family, a key of ``NETWORKS``."""
        return network_of(self.unet).name

    @property
    def adm(self) -> UNetConfig:
        """The architecture, where it is guided-diffusion's.

        Raises:
            ValueError: if it is of another family.
        """
        if not isinstance(self.unet, UNetConfig):
            raise ValueError(f"this prior's network is of the family {self.network}, not guided-diffusion's.")
        return self.unet

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {
            "network": self.network,
            "unet": self.unet.to_dict(),
            "schedule_range": None if self.schedule_range is None else list(self.schedule_range),
            "preconditioning": None if self.preconditioning is None else self.preconditioning.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PriorConfig":
        """The configuration that ``to_dict`` described; older descriptions lack the fields of ``LATER``.

        Raises:
            ValueError: if a field is missing, unknown, or of the wrong kind.
        """
        known = {field.name for field in dataclasses.fields(cls)} | {"network"}
        if set(values) - known or known - set(values) - set(LATER):
            raise ValueError(f"a prior's description needs exactly the fields {', '.join(sorted(known))}.")
        values = LATER | values
        network = network_named(values.pop("network"))
        form = values["preconditioning"]
        read = {
            "unet": network.config.from_dict(values["unet"]),
            "preconditioning": None if form is None else Preconditioning.from_dict(form),
        }
        return cls(**(values | read))


LATER = {"network": "adm", "schedule_range": None, "preconditioning": None}
"""What descriptions of the first version leave out."""

assert LATER["network"] in NETWORKS
