"""Write a whole restoration as one StableHLO artifact that runs with jax and flatbuffers alone.

The artifact fixes the operator with its mask or kernel, the method with its settings, and the grid of timesteps. Its inputs
are a batch of measurements (or images, which it then measures), σ, a seed and the index of each image. Image i gets the key
``fold_in(key(seed), i)``, the same in any batch. Small networks lie inside the artifact. The weights of large ones are an
argument, so that they can be exchanged; they lie beside it in an ``.npz`` file, which numpy reads.
"""

import contextlib
import dataclasses
import importlib.util
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxdiff.denoisers import Denoiser
from jaxdiff.files import atomic, check_folder, parse_json
from jaxdiff.operators.base import Operator
from jaxdiff.problems import Problem, observe
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import sample
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array, PyTree

__all__ = ["INPUTS", "PLATFORMS", "Artifact", "check_free", "export_restoration", "write_artifact"]

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
INPUTS = ("measurement", "image")
INSIDE_LIMIT = 50 * 2**20
"""Bytes of weights that are still put inside the artifact by default."""

SUFFIX = ".jaxexport"


class Artifact(NamedTuple):
    """An exported run.

    Attributes:
        exported: what ``jax.export`` made; ``exported.call(y, noise_std, seed, index[, weights])`` runs it.
        weights: the network's parameters by full name where they are an argument, else None.
        description: inputs, output and how to run it, plain JSON.
        seconds: what tracing and lowering took (compilation is up to the machine that runs it).
    """

    exported: jax.export.Exported
    weights: dict[str, np.ndarray] | None
    description: dict[str, Any]
    seconds: float


def export_restoration(
    denoiser: Denoiser,
    operator: Operator,
    sampler: Sampler,
    *,
    steps: int | str | TimeGrid | None = None,
    spacing: str | None = None,
    batch_size: int = 1,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    inputs: str = "measurement",
    weights: str = "auto",
    about: Mapping[str, Any] | None = None,
) -> Artifact:
    """Trace and lower ``jax.vmap(jd.sample)`` with everything fixed but the data.

    Row i of the result is ``jd.sample(fold_in(key(seed), index[i]), denoiser, Problem(operator, y[i], noise_std), sampler,
    steps=steps, spacing=spacing)``. With ``inputs="image"`` that key is split in two first: one half draws the noise of
    ``observe``, the other runs the sampler.

    Args:
        denoiser: the prior.
        operator: A, fixed.
        sampler: the method, fixed.
        steps: as in ``jd.sample``.
        spacing: as in ``jd.sample``.
        batch_size: images a call.
        platforms: of ``PLATFORMS``; the one artifact serves all of them.
        inputs: "measurement", or "image": clean pictures, measured inside.
        weights: "inside" the artifact, "beside" it as an argument, or "auto": inside up to 50 MiB.
        about: further facts for the description.

    Returns:
        The artifact, to be written with ``write_artifact``.

    Raises:
        ValueError: if an option is not possible.
    """
    _check(batch_size, platforms, inputs, weights)
    if importlib.util.find_spec("flatbuffers") is None:  # jax.export's file format
        raise ValueError("an artifact needs the package flatbuffers: pip install 'jaxdiff[export]'.")
    named = {k: np.asarray(v) for k, v in _named(getattr(denoiser, "params", {})).items()}
    size = sum(value.nbytes for value in named.values())
    beside = weights == "beside" or (weights == "auto" and size > INSIDE_LIMIT)

    restore = _program(denoiser, operator, sampler, inputs, steps=steps, spacing=spacing)
    shape = jax.ShapeDtypeStruct(tuple(operator.image_shape), jnp.float32)
    datum = shape if inputs == "image" else jax.eval_shape(operator, shape)
    arguments = [
        jax.ShapeDtypeStruct((batch_size, *datum.shape), datum.dtype),
        jax.ShapeDtypeStruct((), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.uint32),
        jax.ShapeDtypeStruct((batch_size,), jnp.uint32),
    ]
    tree = [{k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in named.items()}] if beside else []
    begun = time.perf_counter()
    exported = jax.export.export(jax.jit(restore), platforms=list(platforms))(*arguments, *tree)
    seconds = time.perf_counter() - begun
    description = _description(exported, arguments, inputs, batch_size, beside, size) | dict(about or {})
    return Artifact(exported, named if beside else None, description, seconds)


def _program(
    denoiser: Denoiser, operator: Operator, sampler: Sampler, inputs: str, **grid: Any
) -> Callable[..., Array]:
    """The function of a batch: (data, σ, seed, index[, weights]) → images."""

    def restore(data: Array, noise_std: Array, seed: Array, index: Array, *parameters: dict[str, Array]) -> Array:
        prior = denoiser
        if parameters:
            known = [parameters[0][name] for name in _named(denoiser.params)]
            prior = dataclasses.replace(denoiser, params=jax.tree.unflatten(jax.tree.structure(denoiser.params), known))

        def one(data: Array, i: Array) -> Array:
            key = jax.random.fold_in(jax.random.key(seed), i)
            if inputs == "image":
                noise_key, key = jax.random.split(key)
                problem = observe(noise_key, operator, data, noise_std)
            else:
                problem = Problem(operator, data, noise_std)
            return sample(key, prior, problem, sampler, **grid)[0]

        return jax.vmap(one)(data, index)

    return restore


def _named(params: PyTree) -> dict[str, Any]:
    """The arrays of a pytree by their paths, such as "input_blocks_0_0/kernel"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(map(_word, path)) or "params": leaf for path, leaf in leaves}


def _word(entry: Any) -> str:
    return str(next(getattr(entry, name) for name in ("key", "name", "idx") if hasattr(entry, name)))


def _check(batch_size: int, platforms: Sequence[str], inputs: str, weights: str) -> None:
    if batch_size < 1:
        raise ValueError(f"a batch of {batch_size} is not possible: take at least one image a call.")
    if not platforms or len(set(platforms)) < len(platforms) or set(platforms) - set(PLATFORMS):
        raise ValueError(f"platforms must be some of {', '.join(PLATFORMS)}, each once; got {', '.join(platforms)!r}.")
    if inputs not in INPUTS:
        raise ValueError(f"inputs must be one of {', '.join(INPUTS)}; got {inputs!r}.")
    if weights not in ("auto", "inside", "beside"):
        raise ValueError(f"weights must be auto, inside or beside; got {weights!r}.")


def _description(
    exported: jax.export.Exported,
    arguments: Sequence[jax.ShapeDtypeStruct],
    inputs: str,
    batch_size: int,
    beside: bool,
    size: int,
) -> dict[str, Any]:
    meaning = {
        "measurement": ("y", "measurements, on the scale of images in [-1, 1]"),
        "image": ("image", "clean images in [-1, 1], measured inside with noise from the seed"),
    }[inputs]
    names = [
        meaning,
        ("noise_std", "σ of the noise, a standard deviation on the [-1, 1] scale"),
        ("seed", "of everything random"),
        ("index", "number of each image in the data set: image i is restored with the key fold_in(key(seed), i)"),
    ]
    rows = [
        {"name": name, "shape": list(a.shape), "dtype": a.dtype.name, "meaning": text}
        for a, (name, text) in zip(arguments, names, strict=True)
    ]
    if beside:
        text = f"parameters by full name, {size / 2**20:.0f} MiB, from the .npz file beside the artifact"
        rows.append({"name": "weights", "shape": "as in the file", "dtype": "float32", "meaning": text})
    (out,) = exported.out_avals
    return {
        "format": "StableHLO by jax.export",
        "jax": jax.__version__,
        "needs": ["jax", "flatbuffers"],
        "calling_convention_version": exported.calling_convention_version,
        "platforms": list(exported.platforms),
        "inputs": rows,
        "output": {"shape": list(out.shape), "dtype": out.dtype.name, "meaning": "restored images, not clipped"},
        "weights": "beside" if beside else "inside",
        "batch_size": batch_size,
    }


def write_artifact(path: str | Path, artifact: Artifact) -> list[Path]:
    """Write ``NAME.jaxexport``, ``NAME.json`` beside it and, where weights are apart, ``NAME.npz``, each whole or not at all.

    All are written under temporary names first, so a failure leaves an earlier artifact as it was. Then an earlier program is
    deleted, and the new one takes its name last. So a program that is there has its other files beside it.

    Args:
        path: NAME, with or without ``.jaxexport``.
        artifact: from ``export_restoration``.

    Returns:
        The files, the artifact first.

    Raises:
        ValueError: if they cannot be written, or files of these names belong to something else.
    """
    path = check_free(path)
    files: dict[Path, bytes] = {}
    if artifact.weights is not None:
        buffer = io.BytesIO()
        np.savez(buffer, **artifact.weights)  # type: ignore[arg-type]
        files[path.with_suffix(".npz")] = buffer.getvalue()
    text = json.dumps(artifact.description | {"run": _recipe(path, artifact)}, indent=2, ensure_ascii=False)
    files[path.with_suffix(".json")] = (text + "\n").encode()
    files[path] = bytes(artifact.exported.serialize())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as written:  # the first to enter leaves last: the artifact
            for name, content in reversed(files.items()):
                written.enter_context(atomic(name)).write_bytes(content)
            for old in (path, path.with_suffix(".npz")):  # ours: check_free has seen to it
                old.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror or error}); choose another --out.") from None
    return list(reversed(files))


def check_free(path: str | Path) -> Path:
    """The path ``NAME.jaxexport``, if an artifact can be written there.

    Raises:
        ValueError: if its folder cannot be written to, or ``NAME.json`` or ``NAME.npz`` is there and is no artifact's:
            settings of ``jaxdiff tune``, say.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder; name a file in it, such as {path / f'restore{SUFFIX}'}.")
    check_folder(path.parent)
    if path.suffix != SUFFIX:
        path = path.with_name(path.name + SUFFIX)
    beside = path.with_suffix(".json")
    if beside.exists():
        try:
            ours = "StableHLO" in parse_json(beside.read_text("utf-8")).get("format", "")
        except (OSError, ValueError, AttributeError, TypeError):
            ours = False
        if not ours:
            raise ValueError(f"{beside} is there already and describes no artifact; choose another --out.")
    weights = path.with_suffix(".npz")
    if weights.exists() and not beside.exists():
        raise ValueError(f"{weights} is there already and belongs to no artifact; choose another --out.")
    return path


def _recipe(path: Path, artifact: Artifact) -> list[str]:
    """The Python that runs the artifact: jax and numpy, nothing else."""
    first = artifact.description["inputs"][0]
    batch = artifact.description["batch_size"]
    beside = artifact.weights is not None
    lines = [
        "import pathlib, jax.export, numpy as np",
        f"run = jax.jit(jax.export.deserialize(pathlib.Path({path.name!r}).read_bytes()).call)",
        f"{first['name']} = np.zeros({first['shape']}, np.{first['dtype']})  # yours",
        f"index = np.arange({batch}, dtype=np.uint32)",
    ]
    if beside:
        lines.append(f"weights = dict(np.load({path.with_suffix('.npz').name!r}))")
    more = ", weights" if beside else ""
    return [*lines, f"x = np.asarray(run({first['name']}, np.float32(0.05), np.uint32(0), index{more}))"]
