"""``weights_convert export PRIOR OUT``: a prior of jaxdiff becomes a state dict of guided-diffusion, exactly."""

import argparse
import os
import pathlib

import numpy as np
from flax import traverse_util

from jaxdiff.checkpoints import load_checkpoint
from weights_convert import names
from weights_convert.infer import flags

__all__ = ["add_arguments", "run"]


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
    checkpoint = load_checkpoint(args.prior)
    tensors = names.to_torch(traverse_util.flatten_dict(checkpoint.params, sep="/"))
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(partial, out.suffix, tensors)
        partial.replace(out)
    except OSError as error:
        raise ValueError(f"{out} cannot be written ({error.strerror or error}); choose another place.") from error
    finally:
        partial.unlink(missing_ok=True)
    print(f"{args.prior}: {len(tensors)} tensors -> {out}")
    print(flags(checkpoint.config))
    return 0


def _write(path: pathlib.Path, suffix: str, tensors: dict[str, np.ndarray]) -> None:
    if suffix == ".safetensors":
        import safetensors.numpy

        path.write_bytes(safetensors.numpy.save(tensors))
        return
    try:
        import torch
    except ImportError as error:
        raise ValueError("a .pt file needs torch, which is not installed; write .safetensors instead.") from error
    torch.save({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, path)
