"""``jaxdiff convert``: the command line of ``weights_convert``, whose subcommands have options of their own."""

import argparse
from collections.abc import Sequence

__all__ = ["ABOUT", "EXAMPLES", "USAGE", "add_arguments", "spelled_out"]

USAGE = "SRC OUT [options], or CONVERSION [options]"
ABOUT = "Convert any public checkpoint to a prior of jaxdiff, a prior back, or the weights of LPIPS and FID."
EXAMPLES = (
    "jaxdiff convert edm-ffhq-64x64-uncond-vp.pkl checkpoints/edm-ffhq64",
    "jaxdiff convert ddpm-celebahq-256/ checkpoints/celebahq",
    "jaxdiff convert checkpoint_48.pth checkpoints/ffhq256-ve --config ffhq_256_ncsnpp_continuous",
    "jaxdiff convert guided-diffusion ffhq_10m.pt checkpoints/ffhq256",
    "jaxdiff convert guided-diffusion model.pt checkpoints/mine --image-size 128 --num-heads 4",
    "jaxdiff convert export checkpoints/ffhq256 ffhq.safetensors",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands; each brings what runs it."""
    from weights_convert.cli import add_commands  # a package beside jaxdiff

    add_commands(parser)


def spelled_out(words: Sequence[str]) -> list[str]:
    """The words after ``convert``, with the subcommand that ``convert SRC OUT`` leaves out."""
    from weights_convert import cli

    return cli.spelled_out(words)
