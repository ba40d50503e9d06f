"""Tasks by name: they build at any size, state their noise's scale, and are the operators of their sources."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import noise, tasks
from jaxdiff import operators as ops
from jaxdiff.tasks import contact_sheet


@pytest.mark.parametrize("origin", sorted({task.origin for task in tasks.TASKS.values()}))
def test_tasks_build_and_measure(origin):
    for name in tasks.names(origin):
        setup = tasks.get(name, (32, 32, 3))
        assert setup.operator.image_shape == (32, 32, 3)
        assert setup.operator.measurement_shape
        assert setup.about


@pytest.mark.slow
def test_a_size_of_256_is_the_papers():
    blur = tasks.get("dps/gaussian_blur").operator
    expected = ops.gaussian_blur(image_shape=(256, 256, 3), size=61, std=3.0)
    np.testing.assert_array_equal(blur.rows.matrix, expected.rows.matrix)
    box = tasks.get("daps/inpaint_box").operator
    hidden = 1 - np.asarray(box.mask[..., 0])
    assert hidden.sum() == 128 * 128
    assert hidden.any(axis=1).argmax() >= 32
    assert tasks.get("dps/phase_retrieval").operator.measurement_shape == (384, 384, 3)
    assert tasks.get("daps/motion_blur").operator.kernel.shape == (61, 61)
    assert float(tasks.get("dps/inpaint_random_92").operator.mask.sum()) == 65536 - int(0.92 * 65536)


def test_noise_is_on_the_symmetric_scale():
    assert float(tasks.get("dps/sr4", (32, 32, 3)).noise_std) == pytest.approx(0.05)
    doubled = tasks.get("ddrm/sr4", (32, 32, 3))
    assert doubled.published == tasks.Noise(0.05, "[0, 1]")
    assert float(doubled.noise_std) == pytest.approx(0.1)
    assert isinstance(doubled.noise, noise.Gaussian)
    assert isinstance(tasks.get("dps/sr4_poisson", (32, 32, 3)).noise, noise.Poisson)
    assert tasks.get("ddnm/sr4", (32, 32, 3)).noise is None


def test_seeds_and_keys():
    same = [tasks.get("daps/inpaint_random", (32, 32, 3)).operator.mask for _ in range(2)]
    other = tasks.get("daps/inpaint_random", (32, 32, 3), jax.random.key(1)).operator.mask
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
    y = tasks.get(name, x.shape).operator(jnp.asarray(x))
    np.testing.assert_allclose(y, np.einsum("ij,jkc,lk->ilc", small, x, small), atol=1e-5)


def test_diffpirs_gaussian_is_circular_and_random():
    stds = []
    for seed in range(8):
        operator = tasks.get("diffpir/gaussian_blur", (256, 256, 3), jax.random.key(seed)).operator
        assert isinstance(operator, ops.CircularBlur)
        kernel = np.asarray(operator.kernel, np.float64)
        stds.append(np.sqrt((kernel.sum(axis=0) * (np.arange(61) - 30) ** 2).sum()))
    assert 2.9 < min(stds) < 5 < max(stds) < 9


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="dps/gaussian_blur"):
        tasks.get("dps/gausian_blur")
    with pytest.raises(ValueError, match="camera_blur"):
        tasks.get("dps/nonlinear_blur")


def test_one_resolver_knows_every_kind_of_name():
    assert tasks.get("super_resolution", (32, 32, 3)).operator.measurement_shape == (8, 8, 3)
    assert tasks.get_task("dps/sr4").family == tasks.get_task("super_resolution").family == "super_resolution"
    assert set(tasks.names("default")) == {name for name in tasks.TASKS if "/" not in name}
    assert tasks.names("dps") == [name for name in tasks.TASKS if name.startswith("dps/")]


def test_poisson_tasks_are_measured_with_photons():
    task = tasks.get_task("dps/sr4_poisson")
    assert task.family == "super_resolution"
    assert task.shown_noise == "poisson:1"
    problems = tasks.measure("dps/sr4_poisson", jax.random.key(0), np.zeros((2, 32, 32, 3), np.float32))
    assert isinstance(problems.noise, noise.Poisson)
    counts = (np.asarray(problems.y) + 1) * 127.5
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    np.testing.assert_allclose(problems.noise_std, np.sqrt(2 / 255), rtol=0.02)
    with pytest.raises(ValueError, match=r"poisson:1; give σ"):
        task.measured_with("gaussian")
    with pytest.raises(ValueError, match=r"σ = 0.1 .* poisson:1"):
        task.measured_with(std=0.1)
    assert task.measured_with("gaussian", 0.1) == 0.1


def test_settings_searched_under_gaussian_noise_are_not_those_of_photons():
    tuned = tasks.settings("dps", "super_resolution", "faces64")
    for found in (
        tasks.settings("dps", "dps/sr4_poisson", "faces64"),
        tasks.settings("dps", "super_resolution", "faces64", noise=noise.poisson()),
    ):
        assert found != tuned
    assert tasks.settings("dps", "super_resolution", "faces64", noise=0.1) == tuned


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tasks.get(None), "None is not the name of a task"),
        (lambda: tasks.get("inpaint_box", "64"), "image_shape must be three positive integers"),
        (lambda: tasks.get("inpaint_random", (16, 16, 3), 0), "key=0 is not a key"),
        (lambda: tasks.settings("dsp"), "dps"),
        (lambda: tasks.best("jpeg", None, noise="loud"), "noise must be a number"),
        (lambda: tasks.measure("jpeg", 0, np.zeros((1, 16, 16, 3))), "key=0 is not a key"),
        (lambda: tasks.measure("jpeg", jax.random.key(0), np.zeros((16, 16, 3))), r"images must be \[B, H, W, C\]"),
        (
            lambda: tasks.measure("jpeg", jax.random.key(0), np.zeros((1, 16, 16, 3)), indices=[1, 2]),
            "1 images and 2 indices",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


OWN = """
from jaxdiff import operators, tasks

def halves(key, image_shape):
    "The left half alone."
    return operators.outpaint(image_shape=image_shape)

known = tasks.Task(halves, tasks.Noise(0.1, "[0, 1]"), "ours", "outpaint")
number = 3

def alone(image_shape):
    return operators.outpaint(image_shape=image_shape)

def nothing(key, image_shape):
    pass
"""


def test_a_task_of_ones_own_has_a_name_too(tmp_path, monkeypatch):
    (tmp_path / "my_tasks.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    task = tasks.get_task("my_tasks:halves")
    assert (task.about, task.noise_std) == ("The left half alone.", 0.05)
    assert tasks.get_task("my_tasks:known").noise_std == 0.2
    assert tasks.settings("dps", "my_tasks:halves", "faces64") == tasks.settings("dps", None, "faces64")
    problems = tasks.measure("my_tasks:known", jax.random.key(0), np.zeros((2, 32, 32, 3), np.float32))
    assert problems.y.shape == (2, 32, 32, 3)
    for name, word in (
        ("my_tasks:none", "no 'none'"),
        ("my_task:halves", "PYTHONPATH"),
        ("my_tasks:number", "no task"),
        ("my_tasks:alone", r"'my_tasks:alone' must be a function \(key, image_shape\) → operator, but it fails"),
        ("my_tasks:nothing", "'my_tasks:nothing' returned None, which is no operator"),
    ):
        with pytest.raises(ValueError, match=word):
            tasks.get_task(name).make(jax.random.key(0), (32, 32, 3))


def test_contact_sheet_has_a_tile_for_each_name():
    image = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    names = ("dps/sr4", "jaxdiff/mri4", "jaxdiff/quantize")
    sheet = contact_sheet.contact_sheet(image, names=names, columns=2, tile=40)
    assert sheet.size == (2 * 46 + 6, 2 * 74 + 6)
    levels = np.asarray(sheet)
    for left, top in ((6, 6), (52, 6), (6, 80), (52, 80)):
        assert levels[top : top + 40, left : left + 40].std() > 10
    assert set(tasks.names("jaxdiff")) <= set(contact_sheet.SHEET)
