"""Published tasks by name: they build at any size, state their noise's scale, and are the operators of their sources."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import noise
from jaxdiff import operators as ops
from jaxdiff.tasks import catalogue as presets
from jaxdiff.tasks import contact_sheet


@pytest.mark.parametrize("origin", sorted({name.split("/")[0] for name in presets.PRESETS}))
def test_presets_build_and_measure(origin):
    for name in presets.names(origin):
        setup = presets.get(name, (32, 32, 3))
        assert setup.operator.image_shape == (32, 32, 3)
        assert setup.operator.measurement_shape
        assert setup.about


def test_a_size_of_256_is_the_papers():
    blur = presets.get("dps/gaussian_blur").operator
    expected = ops.gaussian_blur(image_shape=(256, 256, 3), size=61, std=3.0)
    np.testing.assert_array_equal(blur.rows.matrix, expected.rows.matrix)
    box = presets.get("daps/inpaint_box").operator
    hidden = 1 - np.asarray(box.mask[..., 0])
    assert hidden.sum() == 128 * 128
    assert hidden.any(axis=1).argmax() >= 32
    assert presets.get("dps/phase_retrieval").operator.measurement_shape == (384, 384, 3)
    assert presets.get("daps/motion_blur").operator.kernel.shape == (61, 61)
    assert float(presets.get("dps/inpaint_random_92").operator.mask.sum()) == 65536 - int(0.92 * 65536)


def test_noise_is_on_the_symmetric_scale():
    assert float(presets.get("dps/sr4", (32, 32, 3)).noise_std) == pytest.approx(0.05)
    doubled = presets.get("ddrm/sr4", (32, 32, 3))
    assert doubled.published == presets.Noise(0.05, "[0, 1]")
    assert float(doubled.noise_std) == pytest.approx(0.1)
    assert isinstance(doubled.noise, noise.Gaussian)
    assert isinstance(presets.get("dps/sr4_poisson", (32, 32, 3)).noise, noise.Poisson)
    assert presets.get("ddnm/sr4", (32, 32, 3)).noise is None


def test_seeds_and_keys():
    same = [presets.get("daps/inpaint_random", (32, 32, 3)).operator.mask for _ in range(2)]
    other = presets.get("daps/inpaint_random", (32, 32, 3), jax.random.key(1)).operator.mask
    np.testing.assert_array_equal(*same)
    assert np.any(np.asarray(same[0]) != np.asarray(other))


@pytest.mark.parametrize(("name", "taps"), [("ddrm/deblur_gauss", 5), ("ddrm/deblur_uni", 9)])
def test_ddrms_blur_is_what_its_code_builds(name, taps):
    side = 24
    weights = np.exp(-0.5 * (np.arange(-2, 3) / 10) ** 2) if taps == 5 else np.ones(9)
    weights /= weights.sum()
    small = np.zeros((side, side))
    for i in range(side):
        for j in range(max(0, i - taps // 2), min(side, i + taps // 2)):
            small[i, j] = weights[j - i + taps // 2]
    u, s, vt = np.linalg.svd(small)
    small = u @ np.diag(np.where(s < 3e-2, 0, s)) @ vt
    x = np.random.default_rng(0).uniform(-1, 1, (side, side, 3)).astype(np.float32)
    y = presets.get(name, x.shape).operator(jnp.asarray(x))
    np.testing.assert_allclose(y, np.einsum("ij,jkc,lk->ilc", small, x, small), atol=1e-5)


def test_diffpirs_gaussian_is_circular_and_random():
    stds = []
    for seed in range(8):
        operator = presets.get("diffpir/gaussian_blur", (256, 256, 3), jax.random.key(seed)).operator
        assert isinstance(operator, ops.CircularBlur)
        kernel = np.asarray(operator.kernel, np.float64)
        stds.append(np.sqrt((kernel.sum(axis=0) * (np.arange(61) - 30) ** 2).sum()))
    assert 2.9 < min(stds) < 5 < max(stds) < 9


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="dps/gaussian_blur"):
        presets.get("dps/gausian_blur")
    with pytest.raises(ValueError, match="camera_blur"):
        presets.get("dps/nonlinear_blur")


def test_contact_sheet_has_a_tile_for_each_name():
    image = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    names = ("dps/sr4", "jaxdiff/mri4", "jaxdiff/quantize")
    sheet = contact_sheet.contact_sheet(image, names=names, columns=2, tile=40)
    assert sheet.size == (2 * 46 + 6, 2 * 74 + 6)
    levels = np.asarray(sheet)
    for left, top in ((6, 6), (52, 6), (6, 80), (52, 80)):
        assert levels[top : top + 40, left : left + 40].std() > 10
    assert set(presets.names("jaxdiff")) <= set(contact_sheet.SHEET)
