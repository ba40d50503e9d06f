"""Named networks: guided-diffusion's published checkpoints, the FFHQ-256 model of DPS, and the embedded prior."""

from typing import Any

from jaxdiff.models.config import UNetConfig
from jaxdiff.models.prior import PriorConfig

__all__ = ["PRESETS"]


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
