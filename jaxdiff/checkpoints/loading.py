"""From a prior on disk to its parameters and its denoiser."""

import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxdiff import assets, hub, schedules
from jaxdiff.checkpoints import description
from jaxdiff.checkpoints.description import DESCRIPTION, Named, Path
from jaxdiff.denoisers import Denoiser
from jaxdiff.files import one_sentence
from jaxdiff.models import PriorConfig, module_of, parameter_shapes
from jaxdiff.names import nearest
from jaxdiff.typing import DTypeLike, PyTree

__all__ = ["EMBEDDED", "Checkpoint", "denoiser_of", "load_checkpoint", "load_denoiser"]

EMBEDDED = ("faces64",)
"""Priors that travel with the package."""

CONVERT = "jaxdiff convert"
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
DTYPES = ("float32", "bfloat16", "float64")
STORED = ("F64", "F32", "F16", "BF16")
"""Types of safetensors that hold weights."""


class Checkpoint(NamedTuple):
    """A prior as stored: parameters (nested by name, float32), what they are for, and where they come from."""

    params: PyTree
    config: PriorConfig
    metadata: dict[str, Any]


def load_denoiser(
    name_or_path: Path, *, dtype: DTypeLike | None = None, clip: bool = True, label: int | None = None
) -> Denoiser:
    """Load a prior: the embedded one, a converted checkpoint, or one from the Hugging Face Hub.

    Args:
        name_or_path: "faces64"; a folder or ``.safetensors`` file that ``jaxdiff convert`` or ``jaxdiff train`` wrote; or
            "hf:owner/repo[@revision][:file]", which is downloaded and converted once.
        dtype: the type in which the network computes. It is float32 (the default), bfloat16, or float64. With bfloat16,
            parameters stay float32. With float64, whole runs are in float64, and JAX's 64-bit mode must be on.
        clip: whether x̂₀ is clipped to [-1, 1].
        label: the class, for a class-conditional prior. ``denoiser.replace(label=...)`` changes it later.

    Returns:
        A denoiser at the image shape that the network was trained on.

    Raises:
        ValueError: if there is no such prior, it is damaged or does not fit its architecture, or cannot compute in
            ``dtype``.
    """
    try:
        dtype = jnp.dtype(jnp.float32 if dtype is None else dtype)
    except TypeError:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.") from None
    if dtype.name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype.name}.")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError("dtype float64 needs JAX's 64-bit mode; set JAX_ENABLE_X64=1, or choose float32 or bfloat16.")
    params, config, _ = load_checkpoint(name_or_path)
    name = next((name for name in EMBEDDED if name == os.fspath(name_or_path)), None)
    return denoiser_of(params, config, dtype=dtype, clip=clip, label=label, name=name)


def denoiser_of(
    params: PyTree,
    config: PriorConfig,
    *,
    dtype: DTypeLike = jnp.float32,
    clip: bool = True,
    label: int | None = None,
    name: str | None = None,
) -> Denoiser:
    """The denoiser of parameters in memory, as ``load_denoiser`` makes it of those on disk.

    Raises:
        ValueError: if the prior has no such label.
    """
    _check_label(label, config.unet.num_classes)
    unet = config.unet
    stored = jnp.float64 if dtype == jnp.float64 else jnp.float32
    params = jax.tree.map(lambda a: jnp.asarray(a, stored), params)
    return Denoiser(
        params=params,
        schedule=schedules.named(config.schedule, config.num_steps, config.schedule_range, dtype=stored),
        label=None if label is None else jnp.asarray(label, jnp.int32),
        module=module_of(unet, dtype, name=name),
        image_shape=(unet.image_size, unet.image_size, unet.in_channels),
        prediction=config.prediction,
        variance=config.variance,
        clip=clip,
        rescale_timesteps=config.rescale_timesteps,
        preconditioning=config.preconditioning,
    )


def load_checkpoint(name_or_path: Path) -> Checkpoint:
    """Read and check a checkpoint: every parameter of the architecture, each once, of its shape and finite.

    Raises:
        ValueError: if there is no such prior, or it is damaged or does not fit its architecture.
    """
    weights, told = _locate(name_or_path)
    config, metadata = description.read(told)
    description.check_files(weights, metadata.pop("files", {}))
    named = _read_safetensors(weights) if os.path.isfile(weights) else _read_orbax(weights)
    description.check_parameters(str(name_or_path), named, parameter_shapes(config.unet))
    params = {name: np.asarray(value, np.float32) for name, value in named.items()}
    for name, value in params.items():
        if not np.isfinite(value).all():
            raise ValueError(
                f"{name_or_path}: parameter {name} holds NaN or infinite values; convert or train it again."
            )
    return Checkpoint(traverse_util.unflatten_dict(params, sep="/"), config, metadata)


def _locate(name_or_path: Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Weights and description of a prior."""
    text = os.fspath(name_or_path)
    if hub.is_address(text):
        text = os.fspath(hub.converted(text))
    if text in EMBEDDED:
        return assets.path(f"{text}.safetensors"), assets.path(f"{text}.json")
    path = pathlib.Path(os.path.expanduser(text))
    if not os.path.exists(path):
        raise ValueError(_unknown(text))
    if path.is_dir():
        if not (path / DESCRIPTION).is_file():
            raise ValueError(
                f"{path} is no prior: it has no {DESCRIPTION}. Convert a checkpoint with `{CONVERT} FILE OUT`."
            )
        return path / "params", path / DESCRIPTION
    if path.suffix == ".safetensors" and path.with_suffix(".json").is_file():
        return path, path.with_suffix(".json")
    if path.suffix in (*TORCH_SUFFIXES, ".safetensors"):
        raise ValueError(
            f"{path} is a checkpoint as another program wrote it; convert it first: "
            f"`{CONVERT} {path} checkpoints/{path.stem}`, then load checkpoints/{path.stem}."
        )
    raise ValueError(
        f"{path} is no prior; give a folder or .safetensors file that jaxdiff convert or jaxdiff train wrote."
    )


def _unknown(text: str) -> str:
    near = nearest(text, EMBEDDED, cutoff=0.5)
    hint = f" Did you mean {near!r}?" if near else ""
    names, text = ", ".join(EMBEDDED), one_sentence(text)
    return f"there is no prior {text!r}: no embedded one has that name ({names}) and no such path exists.{hint}"


def _read_safetensors(path: pathlib.Path) -> Named:
    import safetensors

    named = {}
    try:
        with safetensors.safe_open(path, framework="np") as source:
            for name in source.keys():  # noqa: SIM118
                if (dtype := source.get_slice(name).get_dtype()) not in STORED:
                    raise ValueError(f"parameter {name} is of type {dtype}, not floating point of 16 to 64 bits")
                named[name] = source.get_tensor(name)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} is damaged or cut off ({one_sentence(error)}); get or convert it again.") from error
    return named


def _read_orbax(path: pathlib.Path) -> Named:
    import orbax.checkpoint as ocp

    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.restore(path.absolute())
        return {k: np.asarray(v) for k, v in traverse_util.flatten_dict(tree, sep="/").items()}
    except Exception as error:  # Orbax and its storage raise many kinds for a damaged folder.
        reason = one_sentence(error, 200) or type(error).__name__
        raise ValueError(f"{path} is damaged or incomplete ({reason}); convert the checkpoint again.") from error


def _check_label(label: int | None, num_classes: int | None) -> None:
    if label is None:
        return
    if num_classes is None:
        raise ValueError("this prior is not class-conditional; leave out the label.")
    if not 0 <= label < num_classes:
        raise ValueError(f"label {label} is not one of this prior's classes 0 … {num_classes - 1}.")
