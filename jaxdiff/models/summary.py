"""A prior's configuration in a few words, for a terminal."""

from jaxdiff.models.config import UNetConfig
from jaxdiff.models.prior import PriorConfig

__all__ = ["summary"]


def summary(config: PriorConfig) -> dict[str, str]:
    """Network, process and data range, a line each.

    >>> summary(PriorConfig(UNetConfig(), variance="fixed_small"))["data range"]
    '[-1, 1]'
    """
    form = config.preconditioning
    low = -1 if form is None else form.data_range[0]
    return {
        "network": _network(config),
        "process": _process(config),
        "data range": f"[{low:g}, 1]" + ("" if low < 0 else " inside the network; [-1, 1] outside"),
    }


def _network(config: PriorConfig) -> str:
    unet = config.unet
    patches = ""
    if isinstance(unet, UNetConfig):
        widths = tuple(unet.channels(level) for level in range(unet.depth + 1))
        patches = f" in patches of {unet.patch_size}×{unet.patch_size}" if unet.patch_size > 1 else ""
    else:
        widths = unet.channels
    blocks = unet.num_res_blocks if isinstance(unet.num_res_blocks, tuple) else (unet.num_res_blocks,)
    classes = f", {unet.num_classes} classes" if unet.num_classes else ""
    return (
        f"{config.network}, {unet.image_size}×{unet.image_size}×{unet.in_channels}{patches}, channels "
        f"{' '.join(map(str, widths))}, {' '.join(map(str, blocks))} blocks a level{classes}"
    )


def _process(config: PriorConfig) -> str:
    ends = "" if config.schedule_range is None else " from {:g} to {:g}".format(*config.schedule_range)
    schedule = f"{config.schedule} schedule{ends}, {config.num_steps} steps"
    form = config.preconditioning
    if form is None:
        rescaled = ", t · 1000/T" if config.rescale_timesteps else ""
        return f"predicts {config.prediction}, {config.variance} variance, {schedule}{rescaled}"
    return f"form {form.form}, told {form.label}, {schedule}"
