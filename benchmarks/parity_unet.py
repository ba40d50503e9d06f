"""Parity of the UNet with guided-diffusion on the same weights: outputs, input gradients, FFHQ-256, features of t.

Run:     python -m benchmarks.parity_unet        (about a minute on two CPU cores; 2 GB of memory)
Needs:   tests/golden/unet. Weights are not stored: they are drawn by name (``recipe``).
Seen:    CPU, float32, relative L2: outputs at most 1.3e-6, input gradients 2.1e-6, FFHQ-256 1.9e-6 (torch's own float32
         error against float64 is 1e-6 to 2e-6).
"""

import json
import pathlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxdiff.models import PRESETS, UNet, UNetConfig, parameter_shapes, timestep_embedding
from weights_convert.guided_diffusion import torch_shapes
from weights_convert.names import from_torch

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "unet"
LIMIT = 1e-5
RECTANGULAR_T = 500


def _stream(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def normal(name: str, shape: Iterable[int]) -> np.ndarray:
    """Standard normal numbers that belong to a name."""
    return _stream(name).standard_normal(tuple(shape)).astype(np.float32)


def recipe(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights of the references: n drawn by the name; 1 + 0.1n for scales, 0.02n for biases, n/√fan-in for others."""
    weights = {}
    for name, shape in shapes.items():
        n = _stream(name).standard_normal(shape)
        if name.endswith(".bias"):
            n = 0.02 * n
        elif len(shape) == 1:
            n = 1 + 0.1 * n
        else:
            n = n / np.sqrt(np.prod(shape[1:]))
        weights[name] = n.astype(np.float32)
    return weights


def variants() -> dict[str, dict[str, Any]]:
    """Constructor arguments of the small networks, by name."""
    return json.loads((GOLDEN / "variants.json").read_text())


def configuration(variant: Mapping[str, Any]) -> UNetConfig:
    """Our configuration from guided-diffusion's arguments, flags or constructor."""
    given = dict(variant["kwargs"])
    if variant["kind"] == "create_model":
        given["model_channels"] = given.pop("num_channels")
        given["channel_mult"] = [int(m) for m in given["channel_mult"].split(",")]
        resolutions = given.pop("attention_resolutions").split(",")
        given["attention_factors"] = [given["image_size"] // int(r) for r in resolutions]
        given["out_channels"] = 6 if given.pop("learn_sigma") else 3
    else:
        given["attention_factors"] = given.pop("attention_resolutions")
    given["attention_order"] = "new" if given.pop("use_new_attention_order", False) else "legacy"
    return UNetConfig.from_dict(given)


def parameters(config: UNetConfig) -> Any:
    """The recipe's weights for a configuration, as jaxdiff's parameters."""
    named = from_torch(recipe(torch_shapes(parameter_shapes(config))))
    return jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(named, sep="/"))


def relative(found: Any, expected: np.ndarray) -> float:
    """‖found − expected‖ / ‖expected‖ in float64."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _last(array: np.ndarray) -> jax.Array:
    return jnp.asarray(np.moveaxis(array, 1, -1))


def compare(name: str, variant: Mapping[str, Any], *, gradient: bool = True) -> dict[str, float]:
    """Errors of one small network: output at whole and fractional t, of a rectangular image, and the input gradient."""
    config = configuration(variant)
    params = parameters(config)
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = dict(file)
    labels = jnp.asarray(golden["y"], jnp.int32) if "y" in golden else None
    module = UNet(config)

    @jax.jit
    def apply(params: Any, x: jax.Array, t: jax.Array) -> Any:
        return module.apply({"params": params}, x, t, labels)

    @jax.jit
    def pull_back(params: Any, x: jax.Array, t: jax.Array, v: jax.Array) -> jax.Array:
        return jax.vjp(lambda x: apply(params, x, t), x)[1](v)[0]

    def output(x: str, t: np.ndarray) -> np.ndarray:
        found = apply(params, _last(golden[x]), jnp.asarray(t, jnp.float32))
        return np.moveaxis(np.asarray(found), -1, 1)

    errors = {
        "output": relative(output("x", golden["t"]), golden["out"]),
        "fractional t": relative(output("x", golden["t_frac"]), golden["out_tfrac"]),
    }
    if "x_rect" in golden:
        t = np.full(len(golden["x_rect"]), RECTANGULAR_T)
        errors["rectangular"] = relative(output("x_rect", t), golden["out_rect"])
    if gradient:
        found = pull_back(params, _last(golden["x"]), jnp.asarray(golden["t"], jnp.float32), _last(golden["v"]))
        errors["input gradient"] = relative(np.moveaxis(np.asarray(found), -1, 1), golden["grad_x"])
    return errors


def compare_ffhq() -> float:
    """Error of the FFHQ-256 network's output at t = 250, rows and columns 96 to 159."""
    config = PRESETS["ffhq_256"].unet
    x = _last(normal("ffhq256/x", (1, 3, 256, 256)))
    apply = jax.jit(lambda p, x: UNet(config).apply({"params": p}, x, jnp.array([250])))
    output = np.moveaxis(np.asarray(apply(parameters(config), x)), -1, 1)
    with np.load(GOLDEN / "ffhq256_t250_crop.npz") as file:
        return relative(output[:, :, 96:160, 96:160], file["crop"])


def compare_embedding() -> float:
    """Largest error of the features of t; a float32 phase is off by up to 6e-5 at t = 999."""
    with np.load(GOLDEN / "timestep_embedding.npz") as file:
        whole = [
            np.abs(timestep_embedding(jnp.asarray(file["t_int"], jnp.int32), dim) - file[f"emb{dim}"]).max()
            for dim in (32, 64, 128, 256)
        ]
        fractional = [
            np.abs(timestep_embedding(jnp.asarray(file["t_frac"]), dim) - file[f"emb{dim}_frac"]).max()
            for dim in (32, 33)
        ]
    return float(max(whole + fractional))


def rows() -> list[tuple[str, float, float]]:
    """(what is compared, error, limit)."""
    table = [("features of t, largest difference", compare_embedding(), 5e-5)]
    for name, variant in variants().items():
        table += [(f"{name}: {what}", error, LIMIT) for what, error in compare(name, variant).items()]
    return [*table, ("FFHQ-256 at t = 250: output (crop)", compare_ffhq(), LIMIT)]


if __name__ == "__main__":
    for what, error, limit in rows():
        print(f"{what:45s} {error:.1e}  (limit {limit:.0e})")
