"""The update: averages, accumulation, learning rate, and one device against eight."""

import os
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from jaxdiff.models import PRESETS
from jaxdiff.training import loop
from jaxdiff.training import state as state_module
from jaxdiff.training.config import OptimizerConfig, TrainConfig
from jaxdiff.training.levels import spread_timesteps
from jaxdiff.training.report import Table
from jaxdiff.training.state import (
    average,
    data_mesh,
    ema_name,
    init_state,
    learning_rate,
    make_update,
    optimizer,
)

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _small(small_network, monkeypatch):
    monkeypatch.setattr(state_module, "network", small_network)


def _batch(start=0, count=8):
    rng = np.random.default_rng(start)
    image = jnp.asarray(rng.integers(0, 256, (count, 8, 8, 3)), jnp.uint8)
    return {"image": image, "index": jnp.arange(start, start + count, dtype=jnp.uint32)}


def _updates(config, count=3):
    state, update, trail = init_state(config), make_update(config, data_mesh(jax.devices()[:1])), []
    for i in range(count):
        state, metrics = update(state, _batch(8 * i))
        trail.append((jax.device_get(state), jax.device_get(metrics)))
    return trail


def _distance(a, b):
    def norm(tree):
        return sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)) ** 0.5

    return float(norm(jax.tree.map(lambda x, y: np.asarray(x) - np.asarray(y), a, b)) / norm(a))


@pytest.fixture(scope="module")
def trail_of():
    """Runs each configuration once."""
    runs = {}

    def run(config):
        if config not in runs:
            runs[config] = _updates(config)
        return runs[config]

    return run


def test_moving_averages_follow_the_parameters(tiny, trail_of):
    config = tiny()
    fast = slow = init_state(config).params
    for n, (state, _) in enumerate(trail_of(config), 1):
        warm = (1 + n) / (10 + n)
        fast, slow = (
            jax.tree.map(lambda a, b, d=d: d * np.asarray(a) + (1 - d) * b, old, state.params)
            for old, d in ((fast, min(0.5, warm)), (slow, min(0.9, warm)))
        )
        assert _distance(fast, state.ema[ema_name(0.5)]) < 1e-6
        assert _distance(slow, state.ema[ema_name(0.9)]) < 1e-6


@pytest.mark.parametrize("first", [0, 12345, 2**32 - 500])
def test_timesteps_are_uniform_over_a_run_and_spread_in_each_batch(first):
    index = (np.arange(first, first + 64000, dtype=np.uint64) % 2**32).astype(np.uint32)
    t = np.asarray(spread_timesteps(jax.random.key(3), jnp.asarray(index), 1000))
    assert t.min() == 0
    assert t.max() == 999
    counts = np.bincount(t, minlength=1000)
    assert np.abs(counts - 64).max() <= 3  # independent draws would spread by 8 = √64 and more
    # Three distance theorem: with 16 points of this sequence no gap is longer than φ²/16 of the circle.
    for batch in np.sort(t[:3200].reshape(-1, 16), axis=1):
        gaps = np.diff(np.append(batch, batch[0] + 1000))
        assert gaps.max() <= 1000 * 2.618 / 16 + 1


def test_average_reaches_its_decay():
    late = average({"w": jnp.ones(2)}, {"w": jnp.zeros(2)}, 0.9, jnp.asarray(1000))
    np.testing.assert_allclose(late["w"], 0.9, rtol=1e-6)


@pytest.mark.slow
def test_accumulation_equals_the_whole_batch(tiny, trail_of):
    whole, parts = trail_of(tiny()), _updates(tiny(optimizer__accumulate=4))
    for (a, in_one), (b, in_four) in zip(whole, parts, strict=True):
        np.testing.assert_allclose(in_one, in_four, rtol=1e-4)
        assert _distance(a.params, b.params) < 1e-4


def test_loss_falls_and_everything_stays_float32(tiny):
    config = tiny(dtype="bfloat16", optimizer__learning_rate=1e-2, steps=200)
    state, update = init_state(config), make_update(config, data_mesh(jax.devices()[:1]))
    losses = []
    for _ in range(100):
        state, metrics = update(state, _batch())
        losses.append(float(metrics.loss))
    assert losses[-1] < 0.7 * losses[0]
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves((state.params, state.ema)) if leaf.ndim}
    assert kinds == {"float32"}


def test_learning_rate_rises_and_falls():
    rate = learning_rate(OptimizerConfig(learning_rate=1.0, warmup_steps=10, final_fraction=0.1), 110)
    np.testing.assert_allclose(rate(0), 1 / 11, rtol=1e-6)
    np.testing.assert_allclose(rate(10), 1.0, rtol=1e-6)
    np.testing.assert_allclose(rate(60), 0.55, rtol=1e-5)
    np.testing.assert_allclose(rate(110), 0.1, rtol=1e-5)
    flat = learning_rate(OptimizerConfig(learning_rate=1.0, warmup_steps=0, decay="constant"), 110)
    assert flat(0) == flat(100) == 1.0


def test_weight_decay_and_clipping_are_where_they_should_be():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=0, decay="constant", weight_decay=0.1, clip_norm=1.0)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    transform = optimizer(config, 10)
    changes, _ = transform.update(jax.tree.map(jnp.zeros_like, params), transform.init(params), params)
    np.testing.assert_allclose(changes["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(changes["bias"], 0.0)
    _, state = transform.update(jax.tree.map(lambda p: 100 * p, params), transform.init(params), params)
    first_moment = optax.tree_utils.tree_get(state, "mu")
    total = sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(first_moment))
    np.testing.assert_allclose(total, 0.01, rtol=1e-5)  # (1 − b1) · clip_norm


@pytest.mark.slow
def test_eight_devices_equal_one(tiny, trail_of, tmp_path):
    config = tiny(optimizer__batch_size=8)
    (tmp_path / "config.json").write_text(config.to_json())
    script = f"""
import sys
import jax, numpy as np
from flax import traverse_util
sys.path.insert(0, {str(ROOT)!r})
from tests.support import networks
from jaxdiff.training.config import TrainConfig
from jaxdiff.training.state import data_mesh, init_state, make_update
assert jax.device_count() == 8
networks.install()
config = TrainConfig.from_json(open({str(tmp_path / "config.json")!r}).read())
state, update = init_state(config), make_update(config, data_mesh())
for i in range(3):
    rng = np.random.default_rng(8 * i)
    image = rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    state, metrics = update(state, {{"image": image, "index": np.arange(8 * i, 8 * i + 8, dtype=np.uint32)}})
assert len(metrics.loss.sharding.device_set) == 8
named = traverse_util.flatten_dict(jax.device_get(state.ema), sep="/")
np.savez({str(tmp_path / "eight.npz")!r}, loss=np.asarray(metrics.loss), **named)
"""
    devices = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    flags = os.environ | {"XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=flags, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    state, metrics = trail_of(config)[-1]
    with np.load(tmp_path / "eight.npz") as eight:
        np.testing.assert_allclose(eight["loss"], metrics.loss, rtol=1e-5)
        expected = traverse_util.flatten_dict(state.ema, sep="/")
        assert _distance(expected, {name: eight[name] for name in expected}) < 1e-5


@pytest.mark.parametrize(
    ("cores", "batch", "parts", "used"), [(6, 16, 1, 4), (8, 16, 1, 8), (3, 16, 1, 2), (8, 12, 3, 4), (5, 7, 1, 1)]
)
def test_a_cpu_cut_into_cores_takes_as_many_as_share_the_batch(monkeypatch, cores, batch, parts, used):
    config = TrainConfig(PRESETS["faces64"], optimizer=OptimizerConfig(batch_size=batch, accumulate=parts))
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(platform="cpu")] * cores)
    assert len(loop._devices(config)) == used


def test_averages_of_different_decays_have_different_names():
    decays = [0.0, 0.5, 0.9999, 0.9999999, 0.99999991]
    assert len({ema_name(decay) for decay in decays}) == len(decays)
    assert ema_name(0.9999) == "ema0_9999"


def test_half_a_row_is_no_row(tmp_path):
    (tmp_path / "log.csv").write_text("step,seconds\r\n1,0.5\r\n2,12.5\r\n3,1")  # of "3,17.25"
    assert [row["step"] for row in Table(tmp_path / "log.csv", ["step", "seconds"], 10).rows] == ["1", "2"]
