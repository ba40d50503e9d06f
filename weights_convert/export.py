"""``weights_convert export PRIOR OUT``: a prior of jaxdiff becomes a state dict of guided-diffusion, exactly."""

import argparse
import pathlib

import numpy as np
from flax import traverse_util

from jaxdiff.checkpoints import load_checkpoint
from jaxdiff.diffusion import SIGMA_DATA
from jaxdiff.files import atomic
from jaxdiff.models import PriorConfig
from weights_convert import names
from weights_convert.infer import check_published, flags

__all__ = ["add_arguments", "options", "run", "write_tensors"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the subcommand."""
    parser.add_argument("prior", metavar="PRIOR", help="embedded prior, folder, or .safetensors file")
    parser.add_argument("out", metavar="OUT", help="file to write: .safetensors, or .pt where torch is installed")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> int:
    """Write the state dict and print the flags that make its network. Returns the exit code.

    Raises:
        ValueError: if the prior cannot be read, or OUT not be written.
    """
    out = pathlib.Path(args.out)
    if out.suffix not in (".pt", ".safetensors"):
        raise ValueError(f"{out} must end in .safetensors or .pt.")
    if out.exists() and not args.overwrite:
        raise ValueError(f"{out} exists already; choose another OUT, or add --overwrite.")
    if out.exists() and out.resolve().is_relative_to(pathlib.Path(args.prior).resolve()):
        raise ValueError(f"{out} holds the prior itself, which would be lost; choose another OUT.")
    checkpoint = load_checkpoint(args.prior)
    check_published(checkpoint.config)
    tensors = names.to_torch(traverse_util.flatten_dict(checkpoint.params, sep="/"))
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic(out) as partial:
            write_tensors(partial, tensors)
    except OSError as error:
        raise ValueError(f"{out} cannot be written ({error.strerror or error}); choose another place.") from error
    print(f"{args.prior}: {len(tensors)} tensors -> {out}")
    print(flags(checkpoint.config))
    if (prediction := checkpoint.config.prediction) in SIGMA_DATA:
        print(
            f"The network's prediction is {prediction}, for which guided-diffusion has no flag: its own sampler takes the "
            "output for ε."
        )
    print(f"back: jaxdiff convert guided-diffusion {out} FOLDER {' '.join(options(checkpoint.config))}")
    return 0


def options(config: PriorConfig) -> list[str]:
    """What ``weights_convert guided-diffusion`` has to be told, since a state dict does not say it."""
    unet = config.adm
    values = {
        "--image-size": unet.image_size,
        "--num-heads": unet.num_heads if unet.num_head_channels is None else None,
        "--num-head-channels": unet.num_head_channels,
        "--num-heads-upsample": unet.num_heads_upsample,
        "--attention-order": unet.attention_order,
        "--steps": config.num_steps,
        "--schedule": config.schedule,
        "--prediction": config.prediction,
        "--variance": config.variance,
    }
    words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
    return [*words, "--rescale-timesteps" if config.rescale_timesteps else "--no-rescale-timesteps"]


def write_tensors(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a state dict as its name ends: .safetensors, or .pt by torch.

    Raises:
        ValueError: if torch is needed and not installed.
    """
    if path.suffix == ".safetensors":
        import safetensors.numpy

        safetensors.numpy.save_file(tensors, path)
        return
    try:
        import torch
    except ImportError as error:
        raise ValueError("a .pt file needs torch, which is not installed; write .safetensors instead.") from error
    torch.save({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, path)
