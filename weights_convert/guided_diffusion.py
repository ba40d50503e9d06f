"""``weights_convert guided-diffusion FILE OUT``: a PyTorch checkpoint becomes a prior of jaxdiff."""

import argparse
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdiff.checkpoints import check_target, save_checkpoint
from jaxdiff.denoisers import PREDICTIONS
from jaxdiff.models import PRESETS, PriorConfig, parameter_shapes
from jaxdiff.typing import Shape
from weights_convert import check, names
from weights_convert.arrays import shapes_of
from weights_convert.infer import Hidden, flags, infer
from weights_convert.reader import read_state_dict, sha256

__all__ = ["add_arguments", "add_choices", "convert_tensors", "run", "target", "written"]

LICENCE_NOTE = "The weights keep the terms of their source; look them up before you use them or pass them on."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the subcommand."""
    parser.add_argument("file", metavar="FILE", help=".pt, .pth, .ckpt or .safetensors checkpoint")
    parser.add_argument("out", metavar="OUT", help="folder (or .safetensors file) to make")
    parser.add_argument("--format", choices=("orbax", "safetensors"), help="default: orbax, or as OUT's ending says")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="type on disk")
    parser.add_argument("--overwrite", action="store_true", help="replace the prior that is at OUT")
    parser.add_argument("--key", help="where the state dict is nested in FILE, such as model or ema.state_dict")
    parser.add_argument("--check", metavar="REFERENCE.npz", help="compare with the original's x, t, out[, y] first")
    parser.add_argument("--licence", default=LICENCE_NOTE, help="note on the weights' terms, for the JSON")
    add_choices(parser)


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Declare what neither names nor shapes tell: parts of the network, and the process."""
    shapes = parser.add_argument_group("what shapes cannot tell (known for a preset)")
    shapes.add_argument("--preset", choices=sorted(PRESETS), help="default: the preset that the shapes equal")
    shapes.add_argument("--image-size", type=int, help="side of the training images, pixels")
    shapes.add_argument("--num-heads", type=int, help="attention heads, where not given by channels")
    shapes.add_argument("--num-head-channels", type=int, help="channels of an attention head")
    shapes.add_argument("--num-heads-upsample", type=int, help="attention heads on the way up, where different")
    shapes.add_argument("--attention-order", choices=("legacy", "new"), help="new: use_new_attention_order True")
    process = parser.add_argument_group("diffusion process")
    process.add_argument("--steps", type=int, dest="num_steps", help="steps of the training process (default 1000)")
    process.add_argument("--schedule", choices=("linear", "cosine", "scaled_linear"), help="default linear")
    process.add_argument("--prediction", choices=PREDICTIONS, help="default eps")
    process.add_argument(
        "--variance",
        choices=("fixed_small", "fixed_large", "learned", "learned_range"),
        help="default learned_range with learned variance, else fixed_large",
    )
    process.add_argument(
        "--rescale-timesteps", action=argparse.BooleanOptionalAction, default=None, help="t · 1000 / steps"
    )


def run(args: argparse.Namespace) -> int:
    """Convert, check and write; print what was found. Returns the exit code.

    Raises:
        ValueError: if anything about the file, the options or the place to write to is wrong.
    """
    out = target(args.out, args.format)
    source = pathlib.Path(os.path.realpath(args.file))
    if pathlib.Path(os.path.realpath(out)) in (source, *source.parents):
        raise ValueError(f"{args.file} is {out} or lies in it, and would be lost; choose another OUT.")
    check_target(out, overwrite=args.overwrite)
    state = read_state_dict(args.file, key=args.key)
    hidden = Hidden(**{name: getattr(args, name) for name in Hidden._fields})
    found = infer({name: value.shape for name, value in state.tensors.items()}, hidden, args.preset)
    params = convert_tensors(state.tensors, found.config)
    count = sum(value.size for value in params.values())
    print(f"{args.file}: {len(params)} tensors, {count:,} parameters" + (f" under {state.key!r}" if state.key else ""))
    print(f"preset: {found.preset or 'none'}" + (f"; assumed: {', '.join(found.assumed)}" if found.assumed else ""))
    print(flags(found.config))
    nested = traverse_util.unflatten_dict(params, sep="/")
    if args.check:
        print(check.report(check.compare(nested, found.config, args.check), args.check))
    metadata = {
        "preset": found.preset,
        "flags": flags(found.config),
        "parameters": count,
        "source": {
            "file": os.path.basename(args.file),
            "bytes": os.path.getsize(args.file),
            "sha256": sha256(args.file),
            "key": state.key,
        },
        "licence": args.licence,
    }
    save_checkpoint(out, nested, found.config, metadata=metadata, dtype=args.dtype, overwrite=args.overwrite)
    print(written(out))
    return 0


def written(out: pathlib.Path) -> str:
    """The last words of a conversion: where the prior is, and the file to open first."""
    return f"written: {out}\nopen {out.with_suffix('.json') if out.suffix == '.safetensors' else out / 'prior.json'}"


def target(out: str, chosen: str | None) -> pathlib.Path:
    """Where a prior goes: OUT, with the ending that the format has.

    Raises:
        ValueError: if the two do not fit.
    """
    path = pathlib.Path(out)
    if chosen == "safetensors" and path.suffix != ".safetensors":
        return path.with_name(path.name + ".safetensors")
    if chosen == "orbax" and path.suffix == ".safetensors":
        raise ValueError(f"{out} names a safetensors file; leave out its ending for --format orbax.")
    return path


def convert_tensors(tensors: Mapping[str, np.ndarray], config: PriorConfig) -> dict[str, np.ndarray]:
    """Parameters by jaxdiff's names, float32: every tensor used exactly once, none missing.

    Raises:
        ValueError: listing what is missing, extra or mis-shaped, or not finite.
    """
    shapes = torch_shapes(parameter_shapes(config.unet))
    missing = sorted(set(shapes) - set(tensors))
    extra = sorted(set(tensors) - set(shapes))
    found = shapes_of(tensors)
    wrong = [
        f"{name} is {found[name]}, not {shapes[name]}"
        for name in sorted(set(shapes) & set(tensors))
        if found[name] != shapes[name]
    ]
    lists = {"missing": missing, "extra": extra, "mis-shaped": wrong}
    if any(lists.values()):
        parts = (f"{len(v)} {what} ({', '.join(v[:6])}{', …' if len(v) > 6 else ''})" for what, v in lists.items() if v)
        raise ValueError(f"the checkpoint is not the network that its shapes suggest: {'; '.join(parts)}.")
    params: dict[str, np.ndarray] = {}
    for name in tensors:
        params |= names.from_torch({name: _checked(name, tensors[name])})
    return params


def _checked(name: str, value: np.ndarray) -> np.ndarray:
    if value.dtype.kind != "f":
        raise ValueError(f"the tensor {name} holds {value.dtype} numbers; a network's weights are floating point.")
    if not np.isfinite(value).all():
        raise ValueError(f"the tensor {name} holds NaN or infinite values; the checkpoint is of no use.")
    return np.asarray(value, np.float32)


def torch_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes by guided-diffusion's names and in its layouts, from jaxdiff's."""
    # A broadcast zero has any shape and takes no memory.
    zero = np.zeros((), np.float32)
    stand_ins: dict[str, Any] = {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()}
    return {name: tuple(value.shape) for name, value in names.to_torch(stand_ins).items()}
