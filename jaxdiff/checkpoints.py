"""Load and save priors.

A checkpoint is a folder (Orbax: ``params/`` beside ``prior.json``) or a pair of files (``NAME.safetensors`` beside
``NAME.json``). The JSON holds the architecture and the diffusion process (``PriorConfig``), where the weights come from,
and checksums of their files and of itself. Nothing is guessed: names, shapes and values are checked against the
architecture, and a mismatch is an error.
"""

import contextlib
import hashlib
import inspect
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxdiff import assets, hub, schedules
from jaxdiff.denoisers import Denoiser
from jaxdiff.files import one_sentence, open_regular, parse_json
from jaxdiff.models import PriorConfig, module_of, parameter_shapes
from jaxdiff.names import nearest
from jaxdiff.typing import PyTree, Shape

__all__ = [
    "EMBEDDED",
    "Checkpoint",
    "check_target",
    "denoiser_of",
    "load_checkpoint",
    "load_denoiser",
    "save_checkpoint",
]

EMBEDDED = ("faces64",)
"""Priors that travel with the package."""

DESCRIPTION = "prior.json"
FORMAT = "jaxdiff prior"
CONVERT = "jaxdiff convert"
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
DTYPES = ("float32", "bfloat16", "float64")
STORED = ("F64", "F32", "F16", "BF16")  # types of safetensors that hold weights
MAX_DESCRIPTION = 2**24  # bytes; that of a large network takes some thousands


Path = str | os.PathLike[str]
Named = dict[str, np.ndarray]
Description = dict[str, Any]


class Checkpoint(NamedTuple):
    """A prior as stored: parameters (nested by name, float32), what they are for, and where they come from."""

    params: PyTree
    config: PriorConfig
    metadata: dict[str, Any]


def load_denoiser(name_or_path: Path, *, dtype: Any = None, clip: bool = True, label: int | None = None) -> Denoiser:
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
    dtype: Any = jnp.float32,
    clip: bool = True,
    label: int | None = None,
    name: str | None = None,
) -> Denoiser:
    """The denoiser of parameters in memory, as ``load_denoiser`` makes it of those on disk.

    Raises:
        ValueError: if the label is none of the prior's.
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
    weights, description = _locate(name_or_path)
    config, metadata = _read_description(description)
    _check_files(weights, metadata.pop("files", {}))
    named = _read_safetensors(weights) if os.path.isfile(weights) else _read_orbax(weights)
    _check_parameters(str(name_or_path), named, parameter_shapes(config.unet))
    params = {name: np.asarray(value, np.float32) for name, value in named.items()}
    for name, value in params.items():
        if not np.isfinite(value).all():
            raise ValueError(
                f"{name_or_path}: parameter {name} holds NaN or infinite values; convert or train it again."
            )
    return Checkpoint(traverse_util.unflatten_dict(params, sep="/"), config, metadata)


def save_checkpoint(
    path: Path,
    params: PyTree,
    config: PriorConfig,
    *,
    metadata: Mapping[str, Any] | None = None,
    dtype: Any = None,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint whole or not at all: an Orbax folder, or a pair of files if ``path`` ends in ``.safetensors``.

    Args:
        path: folder or ``.safetensors`` file to make.
        params: the network's parameters, nested by name.
        config: what they are for.
        metadata: further facts for the JSON: source, licence, training.
        dtype: type on disk, float32 by default; float16 halves the size.
        overwrite: replace the prior that is there; anything else stays (``check_target``).

    Raises:
        ValueError: if the parameters do not fit the architecture, or the place is taken or cannot be written.
    """
    path = pathlib.Path(path).absolute()
    named = {k: np.asarray(v) for k, v in traverse_util.flatten_dict(params, sep="/").items()}
    _check_parameters("these parameters", named, parameter_shapes(config.unet))
    with np.errstate(over="ignore"):  # what float16 cannot hold is found, and named, below
        named = {k: np.ascontiguousarray(v, np.dtype(dtype or np.float32)) for k, v in sorted(named.items())}
    for name, value in named.items():
        if not np.isfinite(value).all():
            raise ValueError(f"parameter {name} is not finite as {value.dtype}; it is not saved.")
    description = {"format": FORMAT, "version": 1, "prior": config.to_dict(), **(metadata or {})}
    check_target(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(path) as folder:
            if path.suffix == ".safetensors":
                _write_safetensors(path, folder, named, description)
            else:
                _write_orbax(path, folder, named, description)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror or error}); choose another folder.") from error


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """See that a checkpoint can go to ``path`` and that nothing is lost: only a prior or an empty folder is replaced.

    Raises:
        ValueError: if something is there and ``overwrite`` is off, or something that is no part of a prior is there.
    """
    path = pathlib.Path(path)
    pair = path.suffix == ".safetensors"
    there = [p for p in ((path, path.with_suffix(".json")) if pair else (path,)) if os.path.exists(p)]
    if there and not overwrite:
        raise ValueError(f"{there[0]} exists already; choose another place, or ask to overwrite it (--overwrite).")
    parts = _parts(path, path.with_suffix(".json")) if pair else _parts(path / "params", path / DESCRIPTION)
    inside = there if pair or not os.path.isdir(path) else path.rglob("*")
    if foreign := next((p for p in inside if p not in parts), None):
        raise ValueError(
            f"{foreign} is no part of a prior that jaxdiff wrote, and is not overwritten; choose another place, or move "
            "it away."
        )


# --- finding and reading ---------------------------------------------------------------


def _locate(name_or_path: Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Weights and description of a prior."""
    text = os.fspath(name_or_path)
    if hub.is_address(text):
        text = os.fspath(hub.converted(text))
    if text in EMBEDDED:
        return assets.path(f"{text}.safetensors"), assets.path(f"{text}.json")
    path = pathlib.Path(text).expanduser()
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
    raise ValueError(f"{path} is no prior; give a folder or .safetensors file that weights_convert or training wrote.")


def _unknown(text: str) -> str:
    near = nearest(text, EMBEDDED, cutoff=0.5)
    hint = f" Did you mean {near!r}?" if near else ""
    names, text = ", ".join(EMBEDDED), one_sentence(text)
    return f"there is no prior {text!r}: no embedded one has that name ({names}) and no such path exists.{hint}"


def _read_description(path: pathlib.Path) -> tuple[PriorConfig, dict[str, Any]]:
    try:
        description = _parse_description(path)
    except (OSError, ValueError) as error:
        why = one_sentence(getattr(error, "strerror", None) or error)
        raise ValueError(f"{path} cannot be read as JSON ({why}); convert the checkpoint again.") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{path} does not describe a prior of jaxdiff; convert the checkpoint again.")
    if description.get("version") != 1 or not isinstance(description.get("prior"), dict):
        raise ValueError(f"{path} is of a version that this jaxdiff does not know; upgrade jaxdiff.")
    if description.get("checksum", checksum := _checksum(description)) != checksum:  # older priors have none
        raise ValueError(
            f'{path} is damaged: it does not fit its checksum; make the prior again, or delete the line "checksum" if you '
            "changed it yourself."
        )
    try:
        config = PriorConfig.from_dict(description["prior"])
    except ValueError as error:
        raise ValueError(f"{path}: {one_sentence(error)}") from error
    return config, {k: v for k, v in description.items() if k not in ("format", "version", "prior", "checksum")}


def _parse_description(path: pathlib.Path) -> Any:
    with open_regular(path) as file:
        text = file.read(MAX_DESCRIPTION + 1)
    if len(text) > MAX_DESCRIPTION:
        raise ValueError("it is far longer than a description")
    return parse_json(text.decode("utf-8"))


def _checksum(description: Description) -> str:
    """SHA-256 of what a description says, but for its checksum, however it is laid out."""
    said = {name: value for name, value in description.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
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


def _read_orbax(path: pathlib.Path) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.restore(path.absolute())
        return {k: np.asarray(v) for k, v in traverse_util.flatten_dict(tree, sep="/").items()}
    except Exception as error:  # Orbax and its storage raise many kinds for a damaged folder.
        reason = one_sentence(error, 200) or type(error).__name__
        raise ValueError(f"{path} is damaged or incomplete ({reason}); convert the checkpoint again.") from error


def _parts(weights: pathlib.Path, description: pathlib.Path) -> set[pathlib.Path]:
    """The files and folders of a prior, as its description records them; none if it describes no prior."""
    try:
        told = _parse_description(description)
        # A folder's description may have the name that a pair's would have.
        ours = told["format"] == FORMAT and ("" in told["files"]) == (weights.suffix == ".safetensors")
        files = [description, *(weights / name for name in told["files"])] if ours else []
    except (OSError, ValueError, TypeError, KeyError):
        return set()
    return {part for file in files for part in (file, *file.parents)}


# --- writing -------------------------------------------------------------------------------


@contextlib.contextmanager
def _temporary_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder beside ``path``, so that a rename moves what is in it into place in one step."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name[:32]}.", suffix=".partial", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_description(path: pathlib.Path, description: Description, weights: pathlib.Path) -> None:
    whole = json.loads(json.dumps({**description, "files": _fingerprints(weights)}))  # as it will be read
    whole["checksum"] = _checksum(whole)
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_safetensors(path: pathlib.Path, folder: pathlib.Path, named: Named, description: Description) -> None:
    import safetensors.numpy

    safetensors.numpy.save_file(named, folder / "weights")  # `save` would hold all of it twice
    _write_description(folder / "description", description, folder / "weights")
    (folder / "description").replace(path.with_suffix(".json"))
    (folder / "weights").replace(path)


def _write_orbax(path: pathlib.Path, folder: pathlib.Path, named: Named, description: Description) -> None:
    import orbax.checkpoint as ocp

    whole = folder / "whole"
    whole.mkdir()
    # Weights hardly shrink, and compressing them takes their size in memory once more. Older Orbax always does it.
    known = inspect.signature(ocp.PyTreeCheckpointer).parameters
    with ocp.PyTreeCheckpointer(**({"use_compression": False} if "use_compression" in known else {})) as checkpointer:
        checkpointer.save(whole / "params", traverse_util.unflatten_dict(named, sep="/"))
    _write_description(whole / DESCRIPTION, description, whole / "params")
    whole.chmod(0o755)
    if path.is_dir():
        path.rename(folder / "replaced")
    whole.rename(path)


# --- checks -----------------------------------------------------------------------------------


def _fingerprints(weights: pathlib.Path) -> dict[str, str]:
    """SHA-256 of each file of the weights, by its name below them ("" for the only one)."""
    files = sorted(f for f in weights.rglob("*") if f.is_file())
    names = [""] if weights.is_file() else [path.relative_to(weights).as_posix() for path in files]
    return {name: _fingerprint(weights, name) for name in names}


def _fingerprint(weights: pathlib.Path, name: str) -> str:
    with open_regular(weights / name if name else weights) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(weights: pathlib.Path, recorded: Any) -> None:
    """Compare the recorded files, and no others, with their fingerprints: Orbax tells damage late, and with many words."""
    try:
        whole = isinstance(recorded, dict) and bool(recorded) and all(map(_is_below, recorded))
        whole = whole and all(_fingerprint(weights, name) == digest for name, digest in recorded.items())
    except FileNotFoundError:
        whole = False
    except OSError as error:
        raise ValueError(f"{weights} cannot be read ({error.strerror or error}).") from error
    if not whole:
        raise ValueError(
            f"{weights} is damaged or incomplete: not what its description was written for; make it again."
        )


def _is_below(name: str) -> bool:
    """Whether a recorded name stays in the folder of the weights."""
    path = pathlib.PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _check_parameters(where: str, named: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]) -> None:
    problems = [
        (f"missing {n}" if n not in named else f"unknown {n}")
        if n not in named or n not in shapes
        else f"{n} is {list(named[n].shape)}, not {list(shapes[n])}"
        for n in sorted(set(named) | set(shapes))
        if n not in named or n not in shapes or tuple(named[n].shape) != tuple(shapes[n])
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ValueError(f"{where} does not fit the architecture that it is described with: {one_sentence(shown)}.")
    for name, value in named.items():
        if not (np.issubdtype(value.dtype, np.floating) or value.dtype.name == "bfloat16"):
            raise ValueError(f"{where}: parameter {name} is of type {value.dtype}, not floating point.")


def _check_label(label: int | None, num_classes: int | None) -> None:
    if label is None:
        return
    if num_classes is None:
        raise ValueError("this prior is not class-conditional; leave out the label.")
    if not 0 <= label < num_classes:
        raise ValueError(f"label {label} is not one of this prior's classes 0 … {num_classes - 1}.")
