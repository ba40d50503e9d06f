"""Batches, memory and devices: what is chosen, and that it does not change an image."""

import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff.engine import batches, placement, stack
from jaxdiff.hosts import share
from jaxdiff.models.unet import UNet
from tests.support.networks import small_unet

KEY = jax.random.key(5)


def problem(i, shape=(32, 32, 3)):
    operator = jd.operators.inpaint_random(jax.random.fold_in(KEY, i), image_shape=shape, fraction=0.5)
    image = jax.random.uniform(jax.random.fold_in(KEY, 100 + i), shape, minval=-1)
    return jd.observe(jax.random.fold_in(KEY, 200 + i), operator, image, 0.05)


@pytest.fixture(scope="module")
def one():
    return placement.choose_devices(1, 100)


@pytest.mark.parametrize(
    ("count", "a_run", "fixed", "limit", "size"),
    [
        (5, 1, 0, 100, 5),  # all at once
        (16, 1, 0, 100, 16),
        (17, 1, 0, 100, 9),  # two batches, as even as can be
        (64, 10, 0, 100, 10),
        (64, 10, 50, 100, 5),  # the weights take half
        (64, 10, 95, 100, 1),
    ],
)
def test_the_largest_batch_is_what_memory_allows(monkeypatch, one, count, a_run, fixed, limit, size):
    monkeypatch.setattr(placement, "SPARE", 0.0)
    monkeypatch.setattr(placement, "available_memory", lambda device: limit)
    asked = []

    def needs(batch):
        asked.append(batch)
        return fixed + a_run * batch

    found, fits = placement.largest_batch(count, one, needs)
    assert found == size
    assert fits == (fixed + a_run * size <= limit)
    assert len(asked) <= 3, "each question compiles a program"


@pytest.mark.slow
def test_the_programs_own_analysis_decides(tiny, monkeypatch):
    made = [problem(i) for i in range(12)]
    sampler = jd.samplers.dps(zeta=0.5)
    run = lambda: jd.restore(KEY, tiny, made, sampler, steps=4)  # noqa: E731
    whole = run()
    sizes = []
    original = batches.largest_batch
    monkeypatch.setattr(batches, "largest_batch", lambda *a: sizes.append(original(*a)) or sizes[-1])
    engine = batches.Engine(
        tiny, sampler, jd.samplers.grid_for(tiny, sampler, 4), placement.choose_devices(1, 12), None, None, None
    )
    needed = engine._needs(stack(made), 12)
    assert needed > 12 * 2 * 32 * 32 * 3 * 4, "at least images and measurements"
    monkeypatch.setattr(placement, "available_memory", lambda device: 0.6 * needed)
    cut = run()
    assert sizes[0][1]
    assert sizes[0][0] < 12
    np.testing.assert_allclose(cut.x, whole.x, atol=1e-5)


def test_room_is_made_for_all_devices_of_a_cpu(monkeypatch, one):
    asked = []
    monkeypatch.setattr(placement.memory, "make_room", asked.append)
    monkeypatch.setattr(placement.Placement, "width", 3)
    placement.make_room(one, 100.0)
    assert asked == [300.0]


def test_a_run_makes_room_for_each_of_its_programs(monkeypatch, tiny):
    asked = []
    monkeypatch.setattr(batches, "make_room", lambda _, needed: asked.append(needed))
    jd.restore(KEY, tiny, [problem(0, tiny.image_shape)], jd.samplers.ddnm(), steps=2)
    assert asked
    assert min(asked) > 0


def test_free_memory_is_a_number():
    assert 0 < placement.available_memory(jax.local_devices()[0]) < math.inf


def test_a_network_that_cannot_save_memory_is_still_tried(tiny, monkeypatch):
    monkeypatch.setattr(placement, "available_memory", lambda device: 1.0)
    engine = batches.Engine(
        tiny,
        jd.samplers.ddpm(),
        jd.samplers.grid_for(tiny, jd.samplers.ddpm(), 4),
        placement.choose_devices(1, 4),
        None,
        None,
        None,
    )
    engine._settle(None, 4, "auto")
    assert engine.size == 1


@pytest.mark.slow
def test_devices_that_run_out_of_memory_get_smaller_batches(tiny, monkeypatch, caplog):
    made = [problem(i) for i in range(5)]
    arguments = (KEY, tiny, made, jd.samplers.dps(zeta=0.5))
    expected = jd.restore(*arguments, steps=4, batch_size=5)
    original = batches.compiled

    def short_of_memory(*a):
        program = original(*a)
        if len(a[2]) > 2:

            def fail(*_):
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

            fail.memory_analysis = program.memory_analysis
            return fail
        return program

    monkeypatch.setattr(batches, "compiled", short_of_memory)
    found = jd.restore(*arguments, steps=4, batch_size=5)
    np.testing.assert_allclose(found.x, expected.x, atol=1e-5)
    assert "going on with 2" in caplog.text, "said aloud"


def test_another_error_is_not_taken_for_memory(tiny, monkeypatch):
    def broken(*_):
        raise RuntimeError("INTERNAL: something else")

    monkeypatch.setattr(batches, "compiled", broken)
    with pytest.raises(RuntimeError, match="something else"):
        jd.restore(KEY, tiny, None, jd.samplers.ddpm(), count=2, steps=2)


@pytest.mark.slow
def test_a_network_computes_layers_twice_where_not_one_image_fits(monkeypatch, caplog):
    module = UNet(small_unet())
    params = jax.jit(module.init)(KEY, jnp.zeros((1, 16, 16, 3)), jnp.zeros(1))["params"]
    prior = jd.Denoiser(params, jd.schedules.linear(20), module=module, image_shape=(16, 16, 3))
    made, sampler = [problem(i, (16, 16, 3)) for i in range(2)], jd.samplers.dps(zeta=0.5)
    plain = jd.restore(KEY, prior, made, sampler, steps=2, batch_size=2).x
    monkeypatch.setattr(placement, "available_memory", lambda device: 1.0)
    lean = jd.restore(KEY, prior, made, sampler, steps=2).x
    assert "computed twice" in caplog.text
    np.testing.assert_allclose(lean, plain, atol=1e-4)


@pytest.mark.slow
def test_an_iterator_is_read_as_it_is_needed(tiny):
    made, sampler = [problem(i) for i in range(7)], jd.samplers.dps(zeta=0.5)
    read, done = [], []

    def stream():
        for i, each in enumerate(made):
            read.append((i, len(done)))
            yield each

    found = jd.restore(
        KEY, tiny, stream(), sampler, steps=3, batch_size=2, report=lambda n: done.append(n) if n else None
    )
    np.testing.assert_allclose(found.x, jd.restore(KEY, tiny, made, sampler, steps=3, batch_size=7).x, atol=1e-5)
    assert read[6][1] >= 1, "the last is read only after the first batches are done"
    single, _ = jax.jit(lambda k, p: jd.sample(k, tiny, p, sampler, steps=3))(jax.random.fold_in(KEY, 6), made[6])
    np.testing.assert_allclose(found.x[6], single, atol=1e-5)


def test_one_diverged_run_leaves_the_others_alone(tiny):
    made = [problem(i) for i in range(3)]
    spoilt = jax.tree.map(lambda leaf: leaf * jnp.nan, made[1].operator)  # y with NaN would be refused
    spoiled = [made[0], made[1].replace(operator=spoilt), made[2]]
    sampler = jd.samplers.dps(zeta=0.5)
    good, bad = (jd.restore(KEY, tiny, each, sampler, steps=3).x for each in (made, spoiled))
    assert not np.isfinite(bad[1]).all()
    np.testing.assert_array_equal(good[[0, 2]], bad[[0, 2]])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"count": None}, "count=N"),
        ({"count": 2, "batch_size": 0}, "batch_size=0"),
        ({"count": 2, "batch_size": "large"}, "'auto'"),
        ({"count": 2, "devices": 99}, "devices=99"),
        ({"count": 2, "devices": []}, "at least one"),
        ({"count": 0}, "nothing to restore"),
        ({"count": -1}, "nothing to restore"),
    ],
)
def test_impossible_options_are_refused(tiny, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        jd.restore(KEY, tiny, None, jd.samplers.ddpm(), steps=2, **options)


def test_an_empty_iterator_is_refused(tiny):
    with pytest.raises(ValueError, match="iterator is empty"):
        jd.restore(KEY, tiny, iter(()), jd.samplers.ddpm(), steps=2)


def test_hosts_share_a_list_without_overlap(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    parts = []
    for index in range(3):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts += share(range(10))
    assert sorted(parts) == list(range(10))


@pytest.mark.slow
def test_eight_devices_give_what_one_gives(tmp_path):
    """In a process of its own, since the number of devices is fixed when JAX starts."""
    script = tmp_path / "eight.py"
    script.write_text(
        """
import sys
sys.path.insert(0, sys.argv[1])
import jax, jax.numpy as jnp, numpy as np
import jaxdiff as jd
from tests.support.networks import tiny_denoiser

tiny = tiny_denoiser((16, 16, 3))
key = jax.random.key(1)
problems = []
for i in range(11):
    operator = jd.operators.inpaint_random(jax.random.fold_in(key, i), image_shape=(16, 16, 3), fraction=0.5)
    image = jax.random.uniform(jax.random.fold_in(key, 50 + i), (16, 16, 3), minval=-1)
    problems.append(jd.observe(key, operator, image, 0.05))
assert len(jax.local_devices()) == 8
for sampler in (jd.samplers.dps(zeta=0.5), jd.samplers.ddrm()):
    one = jd.restore(key, tiny, problems, sampler, steps=6, devices=1, batch_size=11)
    for devices, size in ((8, 8), (8, "auto"), (4, 8), (3, 5)):
        many = jd.restore(key, tiny, problems, sampler, steps=6, devices=devices, batch_size=size)
        np.testing.assert_allclose(many.x, one.x, atol=1e-5)
        np.testing.assert_allclose(many.residual, one.residual, rtol=1e-4)
drawn = [jd.restore(key, tiny, None, jd.samplers.ddpm(), count=5, steps=4, devices=d).x for d in (1, 8)]
np.testing.assert_allclose(*drawn, atol=1e-5)
"""
    )
    devices = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    flags = os.environ | {"XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu"}
    root = str(pathlib.Path(__file__).parents[2])
    done = subprocess.run([sys.executable, str(script), root], env=flags, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_layers_that_are_computed_twice_give_the_same_gradient():
    config = small_unet(channel_mult=(1, 2), attention_factors=(2,))
    plain, lean = UNet(config), UNet(config, remat=True)
    x, t = jax.random.normal(KEY, (1, 16, 16, 3)), jnp.array([7.0])
    params = jax.jit(plain.init)(KEY, x, t)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.02 * np.random.default_rng(0).normal(size=leaf.shape), params)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    assert jax.tree.structure(jax.eval_shape(lean.init, KEY, x, t)["params"]) == jax.tree.structure(params)
    gradient = lambda net: jax.jit(jax.grad(lambda x: jnp.sum(net.apply({"params": params}, x, t) ** 2)))  # noqa: E731
    compiled = [gradient(net).lower(x).compile() for net in (plain, lean)]
    np.testing.assert_allclose(*(program(x) for program in compiled), rtol=1e-4, atol=1e-5)
