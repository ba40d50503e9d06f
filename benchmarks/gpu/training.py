"""Train the embedded prior with all images on the device, and write its moving averages while it goes on."""

import io
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as PILImage

from benchmarks.gpu.record import Record
from jaxdiff.checkpoints import save_checkpoint
from jaxdiff.training.config import TrainConfig, load_config
from jaxdiff.training.state import data_mesh, ema_name, init_state, make_update
from jaxdiff.typing import Array, Key

CONFIG = "faces64_device"
EVERY = 60.0
"""Seconds between two files of weights."""
SPARE = 20.0
"""Seconds for the last file."""
OFTEN = ("ffhq", "stylegan")
"""Sets whose images are drawn four times as often: they are nearest to what is evaluated."""


def images_of(paths: list[Path], size: int) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of some zip files, [n, size, size, 3] bytes, and how often each is drawn."""
    images, weights = [], []
    for path in paths:
        with zipfile.ZipFile(path) as archive, ThreadPoolExecutor() as pool:
            files = [archive.read(name) for name in archive.namelist() if not name.endswith("/")]
            found = list(pool.map(lambda data: _pixels(data, size), files))
        images += found
        weights += [4.0 if any(word in path.name for word in OFTEN) else 1.0] * len(found)
    return np.stack(images), np.asarray(weights, np.float32)


def _pixels(data: bytes, size: int) -> np.ndarray:
    with PILImage.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB").resize((size, size), PILImage.Resampling.LANCZOS))


def run(record: Record, images: np.ndarray, weights: np.ndarray, changes: dict[str, object], most: int | None) -> None:
    """Measure the rate, set the number of updates by it, train until the time is up."""
    config = load_config(CONFIG, {"steps": 10**6, **changes})
    data, odds = jnp.asarray(images), jnp.log(jnp.asarray(weights))
    rate = _rate(config, data, odds)
    updates = int(rate * (record.left() - SPARE)) if most is None else most
    config = load_config(
        CONFIG, {**changes, "steps": max(updates, 2), "optimizer.warmup_steps": min(1000, updates // 10)}
    )
    record.write("training", updates=config.steps, images_per_s=rate * config.optimizer.batch_size, images=len(images))
    mesh = data_mesh(jax.devices()[:1])
    state, update, written = init_state(config), make_update(config, mesh), time.monotonic()
    for step, batch in zip(range(config.steps), _batches(config, data, odds), strict=False):
        state, metrics = update(state, batch)
        if step % 50 == 0:
            record.write("training", step=step, loss=float(metrics.loss), grad_norm=float(metrics.grad_norm))
        if time.monotonic() - written > EVERY:
            _save(record, config, state.ema, step + 1)
            written = time.monotonic()
        if record.left() < SPARE / 2:
            break
    _save(record, config, state.ema, int(state.step))


def _rate(config: TrainConfig, data: Array, odds: Array, updates: int = 10) -> float:
    """Updates a second, once compiled."""
    state, update = init_state(config), make_update(config, data_mesh(jax.devices()[:1]))
    batches = _batches(config, data, odds)
    state, _ = update(state, next(batches))
    jax.block_until_ready(state.params)
    begun = time.perf_counter()
    for _ in range(updates):
        state, _ = update(state, next(batches))
    jax.block_until_ready(state.params)
    return updates / (time.perf_counter() - begun)


def _batches(config: TrainConfig, data: Array, odds: Array) -> Iterator[dict[str, Array]]:
    """Batches drawn on the device, half of them mirrored."""
    size = config.optimizer.batch_size

    @jax.jit
    def draw(key: Key, first: Array, data: Array, odds: Array) -> dict[str, Array]:
        which, turned = jax.random.split(key)
        chosen = data[jax.random.categorical(which, odds, shape=(size,))]
        mirrored = jax.random.bernoulli(turned, 0.5, (size, 1, 1, 1))
        return {
            "image": jnp.where(mirrored, chosen[:, :, ::-1], chosen),
            "index": first + jnp.arange(size, dtype=jnp.uint32),
        }

    step = 0
    while True:
        key = jax.random.fold_in(jax.random.key(config.seed + 1), step)
        yield draw(key, jnp.uint32(step * size % 2**32), data, odds)
        step += 1


def _save(record: Record, config: TrainConfig, averages: dict[str, object], step: int) -> None:
    """Each moving average as a prior in half precision: a file that replaces the one before."""
    for decay in config.ema:
        name = f"prior-{ema_name(decay)}.safetensors"
        about = {"training": {"updates": step, "batch_size": config.optimizer.batch_size}}
        save_checkpoint(
            record.out / name, averages[ema_name(decay)], config.prior, metadata=about, dtype=np.float16, overwrite=True
        )
        record.write("weights", file=name, step=step, bytes=(record.out / name).stat().st_size)
