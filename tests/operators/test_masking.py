"""Masks: how many pixels and where, by key, position and shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops

SHAPE = (24, 32, 3)


@pytest.mark.parametrize(("fraction", "kept"), [(0.92, 62), (0.7, 231), (0.3, 538), (0.0, 768)])
def test_random_mask_hides_an_exact_count(fraction, kept):
    mask = ops.inpaint_random(jax.random.key(0), image_shape=SHAPE, fraction=fraction).mask
    assert set(np.unique(mask)) <= {0.0, 1.0}
    assert mask.shape == (24, 32, 1)
    assert int(mask.sum()) == kept == 768 - int(768 * fraction)


@pytest.mark.parametrize(("fraction", "hidden"), [(0.39, 3900), (0.35, 3500), (0.01, 100), (0.29, 2900), (0.59, 5900)])
def test_a_share_means_its_decimal_however_it_is_given(fraction, hidden):
    def kept(share):
        return ops.inpaint_random(jax.random.key(0), image_shape=(100, 100, 1), fraction=share).mask.sum()

    assert [10000 - int(count) for count in (kept(fraction), kept(jnp.float32(fraction)), jax.jit(kept)(fraction))] == [
        hidden
    ] * 3
    assert int(jax.jit(kept)(1.0)) == 1, "a traced share cannot be refused, and keeps one pixel"


def test_a_drawn_share_is_the_same_compiled():
    def mask(key):
        return ops.inpaint_random(key, image_shape=SHAPE, min_fraction=0.3, max_fraction=0.7).mask

    keys = jax.random.split(jax.random.key(4), 50)
    np.testing.assert_array_equal(jax.jit(jax.vmap(mask))(keys), jnp.stack([mask(key) for key in keys]))


def test_random_masks_differ_by_key_and_cover_the_range():
    make = jax.vmap(lambda k: ops.inpaint_random(k, image_shape=SHAPE, min_fraction=0.3, max_fraction=0.7))
    shares = 1 - np.asarray(make(jax.random.split(jax.random.key(1), 200)).mask).mean(axis=(1, 2, 3))
    assert 0.29 < shares.min() < 0.35 < 0.65 < shares.max() < 0.71
    assert abs(shares.mean() - 0.5) < 0.03


def test_box_sits_where_it_should():
    centred = np.asarray(ops.inpaint_box(image_shape=SHAPE, size=(8, 10)).mask[..., 0])
    assert not centred[8:16, 11:21].any()
    assert centred.sum() == 24 * 32 - 80
    placed = np.asarray(ops.inpaint_box(image_shape=SHAPE, size=4, position=(0, 28)).mask[..., 0])
    assert not placed[:4, 28:].any()
    assert placed.sum() == 24 * 32 - 16


def test_random_boxes_keep_their_margin_and_reach_every_place():
    make = jax.vmap(lambda k: ops.inpaint_box(image_shape=SHAPE, size=8, key=k, margin=(2, 4)))
    hidden = 1 - np.asarray(make(jax.random.split(jax.random.key(2), 400)).mask)[..., 0]
    assert np.all(hidden.sum(axis=(1, 2)) == 64)
    tops, lefts = hidden.any(axis=2).argmax(axis=1), hidden.any(axis=1).argmax(axis=1)
    assert set(tops) == set(range(2, 14))  # DPS: from margin to side - margin - box, the last excluded
    assert set(lefts) == set(range(4, 20))


def test_masks_from_arrays():
    keep = np.zeros((24, 32), bool)
    keep[3] = True
    for mask in (keep, keep.astype(np.uint8), keep[..., None], jnp.asarray(keep, jnp.float32)):
        operator = ops.inpaint_mask(image_shape=SHAPE, mask=mask)
        assert operator.mask.shape == (24, 32, 1)
        assert operator(jnp.ones(SHAPE)).sum() == 96


def test_noise_on_hidden_pixels_can_be_dropped():
    operator = ops.inpaint_box(image_shape=SHAPE, size=8)
    y = jnp.ones(SHAPE)
    np.testing.assert_array_equal(operator.keep_observed(y), operator(y))


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_outpainting_hides_half(side):
    mask = np.asarray(ops.outpaint(image_shape=SHAPE, side=side).mask[..., 0])
    assert mask.mean() == 0.5
    edge = {"left": mask[:, 0], "right": mask[:, -1], "top": mask[0], "bottom": mask[-1]}[side]
    assert not edge.any()


def test_outpainting_hides_a_border():
    mask = np.asarray(ops.outpaint(image_shape=SHAPE, side="border", fraction=0.5).mask[..., 0])
    assert mask[6:-6, 6:-6].all()
    assert mask.sum() == 12 * 20


def test_strokes_and_text_hide_some_and_keep_most():
    make = jax.vmap(lambda k: ops.inpaint_strokes(k, image_shape=(48, 48, 3)))
    shares = 1 - np.asarray(make(jax.random.split(jax.random.key(3), 20)).mask).mean(axis=(1, 2, 3))
    assert np.all((shares > 0.01) & (shares < 0.5))
    assert len(np.unique(shares)) > 10
    text = np.asarray(ops.inpaint_text(image_shape=(64, 64, 3)).mask)
    assert 0.05 < 1 - text.mean() < 0.4
