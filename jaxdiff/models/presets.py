"""Named networks: guided-diffusion's published checkpoints, the FFHQ-256 model of DPS, and the embedded prior."""

import dataclasses
from typing import Any

from jaxdiff.models.config import UNetConfig

__all__ = ["PRESETS", "PriorConfig"]

SCHEDULES = ("linear", "cosine", "scaled_linear")
MOST_STEPS = 1_000_000
"""Longest schedule of a prior; published ones have a few thousand steps."""


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """A network and the diffusion process that it was trained for: all that is needed to rebuild a denoiser.

    Attributes:
        unet: the architecture.
        schedule: name of the noise schedule, "linear", "cosine" or "scaled_linear".
        num_steps: T, steps of that schedule.
        prediction: what the network's output means, "eps", "x0", "v" or "edm" (``jaxdiff.diffusion.v_of``).
        variance: "fixed_small", "fixed_large", "learned" or "learned_range".
        rescale_timesteps: the network was given t · 1000/T.
    """

    unet: UNetConfig
    schedule: str = "linear"
    num_steps: int = 1000
    prediction: str = "eps"
    variance: str = "learned_range"
    rescale_timesteps: bool = False

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
        if self.variance.startswith("learned") != self.unet.learn_sigma:
            raise ValueError(
                f"variance={self.variance!r} does not suit a network with {self.unet.out_channels} output channels for "
                f"{self.unet.in_channels} input channels: a learned variance has twice as many, a fixed one as many."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"unet": self.unet.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PriorConfig":
        """The configuration that ``to_dict`` described.

        Raises:
            ValueError: if a field is missing, unknown, or of the wrong kind.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if set(values) != known:
            raise ValueError(f"a prior's description needs exactly the fields {', '.join(sorted(known))}.")
        return cls(**(values | {"unet": UNetConfig.from_dict(values["unet"])}))


def _imagenet(size: int, channel_mult: tuple[float, ...], **options: Any) -> UNetConfig:
    # Every published ImageNet model attends at 32, 16 and 8 pixels and resamples in residual blocks.
    flags: dict[str, Any] = {"model_channels": 256, "num_res_blocks": 2, "num_head_channels": 64, "num_classes": 1000}
    return UNetConfig(
        image_size=size,
        out_channels=6,
        channel_mult=channel_mult,
        attention_factors=(size // 32, size // 16, size // 8),
        use_scale_shift_norm=True,
        resblock_updown=True,
        **(flags | options),
    )


PRESETS: dict[str, PriorConfig] = {
    "faces64": PriorConfig(
        UNetConfig(
            image_size=64,
            model_channels=32,
            num_res_blocks=1,
            channel_mult=(1, 2, 3, 4),
            attention_factors=(8,),
            num_head_channels=32,
            use_scale_shift_norm=True,
        ),
        variance="fixed_small",
    ),
    "ffhq_256": PriorConfig(
        UNetConfig(
            image_size=256,
            out_channels=6,
            model_channels=128,
            num_res_blocks=1,
            channel_mult=(1, 1, 2, 2, 4, 4),
            attention_factors=(16,),
            num_heads=4,
            num_head_channels=64,
            use_scale_shift_norm=True,
            resblock_updown=True,
        )
    ),
    "imagenet_64": PriorConfig(
        _imagenet(64, (1, 2, 3, 4), model_channels=192, num_res_blocks=3, attention_order="new", dropout=0.1),
        schedule="cosine",
    ),
    "imagenet_128": PriorConfig(_imagenet(128, (1, 1, 2, 3, 4), num_heads=4, num_head_channels=None)),
    "imagenet_256": PriorConfig(_imagenet(256, (1, 1, 2, 2, 4, 4))),
    "imagenet_256_uncond": PriorConfig(_imagenet(256, (1, 1, 2, 2, 4, 4), num_classes=None)),
    "imagenet_512": PriorConfig(_imagenet(512, (0.5, 1, 1, 2, 2, 4, 4))),
}
"""Presets by name; class-conditional unless the name says otherwise."""
