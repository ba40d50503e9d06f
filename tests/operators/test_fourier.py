"""Magnetic resonance against numpy's FFT; sampling masks and coil maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops
from tests.support.tiers import fast_only


def _image(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def _centred_fft(x):
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x), norm="ortho"))


def test_single_coil_is_the_masked_transform():
    x = _image((7, 8, 2))
    mask = np.random.default_rng(1).uniform(size=(7, 8)) < 0.5
    each = np.asarray(ops.mri(image_shape=x.shape, mask=mask)(jnp.asarray(x)))
    assert each.shape == (7, 8, 2, 2)
    for channel in range(2):
        expected = mask * _centred_fft(x[..., channel])
        np.testing.assert_allclose(each[:, :, channel, 0] + 1j * each[:, :, channel, 1], expected, atol=1e-5)
    both = np.asarray(ops.mri(image_shape=x.shape, mask=mask, complex_image=True)(jnp.asarray(x)))
    expected = mask * _centred_fft(x[..., 0] + 1j * x[..., 1])
    np.testing.assert_allclose(both[:, :, 0, 0] + 1j * both[:, :, 0, 1], expected, atol=1e-5)


def test_multicoil_is_each_coil_by_itself():
    x = _image((6, 8, 1))
    mask = np.asarray(ops.equispaced_mask(shape=(6, 8), acceleration=2))
    parts = np.asarray(ops.coil_sensitivities(shape=(6, 8), coils=3))
    maps = parts[..., 0] + 1j * parts[..., 1]
    for sensitivities in (parts, maps):
        operator = ops.multicoil_mri(image_shape=x.shape, mask=mask, sensitivities=sensitivities)
        y = np.asarray(operator(jnp.asarray(x)))
        for coil in range(3):
            expected = mask * _centred_fft(maps[coil] * x[..., 0])
            np.testing.assert_allclose(y[coil, :, :, 0, 0] + 1j * y[coil, :, :, 0, 1], expected, atol=1e-5)


def test_all_frequencies_give_the_image_back():
    x = jnp.asarray(_image((8, 6, 3)))
    full = np.ones((8, 6))
    single = ops.mri(image_shape=x.shape, mask=full)
    maps = ops.coil_sensitivities(shape=(8, 6), coils=4)
    np.testing.assert_allclose(single.adjoint(single(x)), x, atol=1e-5)
    several = ops.multicoil_mri(image_shape=x.shape, mask=full, sensitivities=maps)
    np.testing.assert_allclose(several.adjoint(several(x)), x, atol=1e-5)


def test_coil_maps_add_to_one():
    maps = np.asarray(ops.coil_sensitivities(shape=(9, 12), coils=5), np.float64)
    np.testing.assert_allclose((maps**2).sum(axis=(0, 3)), 1, atol=1e-6)


@pytest.mark.parametrize("acceleration", [2, 4, 8])
def test_cartesian_masks(acceleration):
    make = jax.jit(jax.vmap(lambda k: ops.cartesian_mask(k, shape=(16, 64), acceleration=acceleration)))
    masks = np.asarray(make(jax.random.split(jax.random.key(0), 32)))
    assert np.all(masks == masks[:, :1])
    assert np.all(masks[:, 0].sum(axis=1) == 64 // acceleration)
    assert masks[:, 0, 30:35].all()
    outside = masks[:, 0, :30].mean(axis=0)
    assert outside.min() < outside.max()
    spaced = np.asarray(ops.equispaced_mask(shape=(16, 64), acceleration=acceleration))
    assert spaced[0, ::acceleration].all()


def test_radial_and_spiral_masks_pass_through_the_middle():
    for mask in (ops.radial_mask(shape=(32, 48), spokes=7), ops.spiral_mask(shape=(32, 48), turns=5, arms=2)):
        mask = np.asarray(mask)
        assert mask[16, 24] == 1
        assert 0.05 < mask.mean() < 0.6
    # A spoke at angle 0 is the whole middle row.
    assert np.asarray(ops.radial_mask(shape=(8, 8), spokes=1))[4].all()


@pytest.mark.slow
@pytest.mark.parametrize("channels", fast_only([2], [1, 2]))
def test_the_pseudo_inverse_has_a_gradient_in_the_mask(channels):
    """At frequencies of which neither side is seen too, where a singular value is √0."""
    shape = (6, 8, channels)
    mask = jnp.asarray(ops.cartesian_mask(jax.random.key(0), shape=(6, 8), acceleration=3), jnp.float32)
    image, weights = jnp.asarray(_image(shape)), jnp.asarray(_image(shape, 1))
    operator = ops.mri(image_shape=shape, mask=mask, complex_image=channels == 2)
    y = operator(image)

    def value(mask):
        return jnp.vdot(weights, operator.replace(mask=mask).pinv(y))

    gradient = jax.grad(value)(mask)
    assert bool(jnp.all(jnp.isfinite(gradient)))
    seen = jnp.where(mask > 0, 1.0, 0.0) * jnp.asarray(_image((6, 8), 2))
    h = 1e-2
    difference = (value(mask + h * seen) - value(mask - h * seen)) / (2 * h)
    np.testing.assert_allclose(jnp.vdot(gradient, seen), difference, rtol=2e-3)


@pytest.mark.parametrize("width", [0.02, 0.9])
def test_coils_see_every_pixel_however_narrow(width):
    maps = ops.coil_sensitivities(shape=(16, 16), coils=4, width=width)
    np.testing.assert_allclose(jnp.sum(maps**2, axis=(0, 3)), 1.0, atol=1e-5)


def test_one_number_is_a_square_shape():
    for make in (lambda shape: ops.radial_mask(shape=shape, spokes=3), lambda s: ops.spiral_mask(shape=s, turns=2)):
        np.testing.assert_array_equal(make(16), make((16, 16)))
