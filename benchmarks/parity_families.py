"""Parity of every family of public priors with its original code, from files in the original layouts to outputs and D(x; σ).

Run:     python -m benchmarks.parity_families        (a minute on two CPU cores)
Needs:   tests/golden/families: small networks with random weights, and what the original PyTorch code made of them.
Seen:    CPU, float32, relative L2: outputs at most 1.2e-6, D(x; σ) at most 7.2e-7, gradients in the input at most 2.1e-6.
"""

import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import schedules
from jaxdiff.denoisers import Denoiser
from jaxdiff.models import PriorConfig, module_of
from jaxdiff.typing import PyTree
from weights_convert.families import consistency, ddpm, diffusers, edm, rules, score_sde
from weights_convert.sources import read_source

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "families"
LIMIT = 1e-5

Arrays = dict[str, np.ndarray]
Rows = dict[str, float]


def cases() -> dict[str, dict[str, Any]]:
    """Each recorded network by name: family, arguments, and the original's float32 error."""
    return json.loads((GOLDEN / "index.json").read_text())


def load(name: str, case: dict[str, Any]) -> tuple[PriorConfig, PyTree]:
    """Configuration and parameters of a recorded network."""
    family = case["family"]
    if case["file"] is None:
        from benchmarks.parity_unet import recipe

        config = edm.config_from(case["class_name"], case["config"])
        return config, edm.convert(recipe(rules.torch_shapes(edm.names(config.unet), config.unet)), config)  # type: ignore[arg-type]
    source = read_source(GOLDEN / case["file"])
    if family == "edm":
        config = edm.config_from(source.config["class_name"], source.config["init_kwargs"])
        return config, edm.convert(source.tensors, config)
    if family == "diffusers":
        config = diffusers.config_from(source.config["unet"], source.config["scheduler"])
        return config, diffusers.convert(source.tensors, config)
    if family == "pesser":
        config = ddpm.config_from(case["config"])
        return config, ddpm.convert(source.tensors, config)
    if family == "score_sde":
        data = {"image_size": case["image_size"], "centered": case["centered"]}
        config = score_sde.config_from(case["model"], sde=case["sde"], continuous=case["continuous"], **data)
        return config, score_sde.convert(source.tensors, config)
    config = consistency.config_from(case["config"], kind="edm")
    return config, consistency.convert(source.tensors, config)


def denoiser_of(config: PriorConfig, params: PyTree, dtype: Any = jnp.float32) -> Denoiser:
    """What ``load_denoiser`` makes of a converted checkpoint, unclipped."""
    side = config.unet.image_size
    return Denoiser(
        params=jax.tree.map(jnp.asarray, params),
        schedule=schedules.named(config.schedule, config.num_steps, config.schedule_range, dtype=dtype),
        module=module_of(config.unet, dtype),
        image_shape=(side, side, config.unet.in_channels),
        prediction=config.prediction,
        variance=config.variance,
        rescale_timesteps=config.rescale_timesteps,
        preconditioning=config.preconditioning,
        clip=False,
    )


def projection(shape: tuple[int, ...]) -> np.ndarray:
    """The direction in which an output's gradient was recorded."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def compare(name: str, case: dict[str, Any], *, gradient: bool = True) -> Rows:
    """Relative L2 error of everything that is recorded of a network, by what it is."""
    with np.load(GOLDEN / case["npz"]) as file:
        arrays = {key: np.moveaxis(value, 1, -1) if value.ndim == 4 else value for key, value in file.items()}
    denoiser = denoiser_of(*load(name, case))
    found = dict({"edm": _edm, "consistency_models": _consistency}.get(case["family"], _timed)(denoiser, arrays))
    return found | ({"input gradient": _gradient(name, denoiser, arrays)} if gradient else {})


def _gradient(name: str, denoiser: Denoiser, arrays: Arrays) -> float:
    """Error of ∇ₓ⟨v, F(x)⟩."""
    with np.load(GOLDEN / "gradients.npz") as file:
        recorded = np.moveaxis(file[name], 1, -1)
    x = arrays["net_x"] if "net_x" in arrays else arrays["x"]
    label = next(arrays[key] for key in ("net_t", "labels", "t", "sigma") if key in arrays).ravel()
    label = np.log(label) if denoiser.preconditioning is not None and "net_t" not in arrays else label
    classes = (
        jnp.asarray(arrays["y"], jnp.int32) if "y" in arrays else arrays.get("labels") if "net_t" in arrays else None
    )
    across = np.moveaxis(projection(np.moveaxis(x, -1, 1).shape), 1, -1)

    @jax.jit
    def pulled(params: PyTree, x: Any) -> Any:
        output = functools.partial(denoiser.module.apply, {"params": params})
        return jax.vjp(lambda x: output(x, jnp.asarray(label, jnp.float32), classes), x)[1](across)[0]

    return error(pulled(denoiser.params, x), recorded)


def _edm(denoiser: Denoiser, arrays: Arrays) -> Iterator[tuple[str, float]]:
    vectors, classes = arrays.get("labels"), None
    if vectors is not None:
        classes = jnp.asarray(vectors.argmax(1), jnp.int32)
    output = _output(denoiser, arrays["net_x"], arrays["net_t"].ravel(), vectors)
    yield "F", error(output, arrays["F"])
    yield "D", error(_denoise(denoiser, arrays["x"], arrays["sigma"], classes), arrays["D"])
    if "D_nolabel" in arrays:
        yield "D without label", error(_denoise(denoiser, arrays["x"], arrays["sigma"]), arrays["D_nolabel"])


def _consistency(denoiser: Denoiser, arrays: Arrays) -> Iterator[tuple[str, float]]:
    classes = jnp.asarray(arrays["y"], jnp.int32) if "y" in arrays else None
    output = _output(denoiser, arrays["net_x"], arrays["net_t"].ravel(), classes)
    yield "F", error(output, arrays["F"])
    for kind in ("edm", "cd"):
        form = consistency.prior(denoiser.module.config, kind).preconditioning
        found = _denoise(denoiser.replace(preconditioning=form), arrays["x"], arrays["sigma"], classes)
        yield f"D, {kind}", error(found, arrays[f"D_{kind}"])


def _timed(denoiser: Denoiser, arrays: Arrays) -> Iterator[tuple[str, float]]:
    """Networks that are told a timestep, or σ on [0, 1], by which their originals divide the output."""
    x = arrays["x"]
    labels = next(arrays[key] for key in ("labels", "t", "sigma") if key in arrays).ravel()
    exploding = denoiser.preconditioning is not None
    seen, divisor = (np.log(labels), labels[:, None, None, None]) if exploding else (labels, 1)
    for key, shift in (("out", 0.0), ("out_tfrac", 0.25)):
        if key in arrays:
            output = _output(denoiser, x, jnp.asarray(seen + shift, jnp.float32))
            yield {"out": "output", "out_tfrac": "output at fractional t"}[key], error(output / divisor, arrays[key])
    if "x0" in arrays:
        yield "D", error(_denoise(denoiser, 2 * x - 1, 2 * labels), 2 * arrays["x0"] - 1)


@jax.jit  # op by op, every operation of the network is compiled by itself: three times as long
def _output(denoiser: Denoiser, *inputs: Any) -> Any:
    return denoiser.module.apply({"params": denoiser.params}, *inputs)


@jax.jit
def _denoise(denoiser: Denoiser, x: np.ndarray, sigma: np.ndarray, classes: Any = None) -> Any:
    @functools.partial(jax.vmap, in_axes=(0, 0, None if classes is None else 0))
    def denoise(x: Any, sigma: Any, label: Any) -> Any:
        return denoiser.replace(label=label).denoise(x, sigma)

    return denoise(x, sigma.ravel(), classes)


def error(found: Any, expected: np.ndarray) -> float:
    """Relative L2."""
    return float(np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected))


def rows() -> Iterator[tuple[str, float, float]]:
    """(what, error, limit) of every case."""
    for name, case in cases().items():
        for what, found in compare(name, case).items():
            yield f"{name}: {what}", found, LIMIT


if __name__ == "__main__":
    for row, found, most in rows():
        print(f"{row:45s} {found:.1e}  (limit {most:.0e})")
