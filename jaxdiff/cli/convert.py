"""``jaxdiff convert``: the command line of ``weights_convert``, whose subcommands have options of their own."""

import argparse

__all__ = ["ABOUT", "EXAMPLES", "USAGE", "add_arguments"]

USAGE = "CONVERSION [options]"
ABOUT = "Convert a guided-diffusion checkpoint to a prior of jaxdiff, a prior back, or the weights of LPIPS."
EXAMPLES = (
    "jaxdiff convert guided-diffusion ffhq_10m.pt checkpoints/ffhq256",
    "jaxdiff convert guided-diffusion model.pt checkpoints/mine --image-size 128 --num-heads 4",
    "jaxdiff convert export checkpoints/ffhq256 ffhq.safetensors",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands; each brings what runs it."""
    from weights_convert.cli import add_commands  # a package beside jaxdiff

    add_commands(parser)
