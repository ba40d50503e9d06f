"""Bad parameters are refused with a sentence that says what to do."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators as ops
from jaxdiff.problems import observe

KEY = jax.random.key(0)
S = (16, 16, 3)
IMAGE = {"image_shape": S}

BAD = {
    "shape of two": lambda: ops.denoise(image_shape=(8, 8)),
    "shape of one number": lambda: ops.denoise(image_shape=8),
    "shape of a text": lambda: ops.denoise(image_shape="8x8"),
    "size of a text": lambda: ops.inpaint_box("8", **IMAGE),
    "half a size": lambda: ops.inpaint_box(4.5, **IMAGE),
    "half a margin": lambda: ops.inpaint_box(4, **IMAGE, key=KEY, margin=1.5),
    "std of a text": lambda: ops.gaussian_blur("wide", **IMAGE, size=5),
    "kernel of a text": lambda: ops.blur("disc", **IMAGE),
    "fraction of a text": lambda: ops.inpaint_random(KEY, **IMAGE, fraction="half"),
    "fraction of a list": lambda: ops.inpaint_random(KEY, **IMAGE, fraction=[0.3]),
    "half a spoke": lambda: ops.radial_mask(2.5, shape=(16, 16)),
    "half an arm": lambda: ops.spiral_mask(2, shape=(16, 16), arms=1.5),
    "half a coil": lambda: ops.coil_sensitivities(2.5, shape=(16, 16)),
    "half a stroke": lambda: ops.inpaint_strokes(KEY, **IMAGE, strokes=1.5),
    "half a mask": lambda: ops.coded_phase_retrieval(KEY, **IMAGE, masks=2.5),
    "ratio of NaN": lambda: ops.compressed_sensing(KEY, **IMAGE, ratio=float("nan")),
    "half a pixel around": lambda: ops.pad(1.5, **IMAGE),
    "shape with zero": lambda: ops.denoise(image_shape=(8, 0, 3)),
    "box too large": lambda: ops.inpaint_box(**IMAGE, size=17),
    "box hides all": lambda: ops.inpaint_box(**IMAGE, size=16),
    "box outside": lambda: ops.inpaint_box(**IMAGE, size=8, position=(10, 0)),
    "box placed twice": lambda: ops.inpaint_box(**IMAGE, size=8, position=(0, 0), key=KEY),
    "box without room": lambda: ops.inpaint_box(**IMAGE, size=12, key=KEY, margin=4),
    "box of no size": lambda: ops.inpaint_box(**IMAGE, size=0),
    "fraction of all": lambda: ops.inpaint_random(KEY, **IMAGE, fraction=1.0),
    "fraction above one": lambda: ops.inpaint_random(KEY, **IMAGE, fraction=1.2),
    "empty range of fractions": lambda: ops.inpaint_random(KEY, **IMAGE, min_fraction=0.7, max_fraction=0.3),
    "margin of a fixed box": lambda: ops.inpaint_box(**IMAGE, size=4, margin=2),
    "position of three": lambda: ops.inpaint_box(**IMAGE, size=4, position=(1, 2, 3)),
    "position of one": lambda: ops.inpaint_box(**IMAGE, size=4, position=3),
    "strokes over all": lambda: ops.inpaint_strokes(KEY, **IMAGE, thickness=5.0),
    "no fraction": lambda: ops.inpaint_random(KEY, **IMAGE),
    "half a range": lambda: ops.inpaint_random(KEY, **IMAGE, min_fraction=0.1),
    "two fractions": lambda: ops.inpaint_random(KEY, **IMAGE, fraction=0.1, min_fraction=0.1),
    "mask of another shape": lambda: ops.inpaint_mask(**IMAGE, mask=np.ones((8, 8))),
    "mask keeps nothing": lambda: ops.inpaint_mask(**IMAGE, mask=np.zeros((16, 16))),
    "mask of levels": lambda: ops.inpaint_mask(**IMAGE, mask=np.full((16, 16), 255)),
    "mask with NaN": lambda: ops.inpaint_mask(**IMAGE, mask=np.full((16, 16), np.nan)),
    "outpaint unknown side": lambda: ops.outpaint(**IMAGE, side="up"),
    "outpaint all": lambda: ops.outpaint(**IMAGE, fraction=1.0),
    "outpaint nothing": lambda: ops.outpaint(**IMAGE, fraction=0.0),
    "no strokes": lambda: ops.inpaint_strokes(KEY, **IMAGE, strokes=0),
    "no text": lambda: ops.inpaint_text(**IMAGE, text=" "),
    "even kernel": lambda: ops.blur(**IMAGE, kernel=np.ones((4, 4))),
    "even size": lambda: ops.gaussian_blur(**IMAGE, size=60),
    "negative std": lambda: ops.gaussian_blur(**IMAGE, std=-1.0),
    "kernel too far": lambda: ops.gaussian_blur(**IMAGE, std=5.0),
    "motion too far": lambda: ops.motion_blur(KEY, **IMAGE, size=61),
    "kernel of zeros": lambda: ops.blur(**IMAGE, kernel=np.zeros((3, 3))),
    "kernel with NaN": lambda: ops.blur(**IMAGE, kernel=np.full((3, 3), np.nan)),
    "kernel of three axes": lambda: ops.blur(**IMAGE, kernel=np.ones((3, 3, 1))),
    "unknown padding": lambda: ops.gaussian_blur(**IMAGE, std=1.0, padding="edge"),
    "intensity above one": lambda: ops.motion_blur(KEY, **IMAGE, size=5, intensity=2.0),
    "disc of no radius": lambda: ops.defocus_blur(**IMAGE, radius=0.0),
    "disc too large": lambda: ops.defocus_blur(**IMAGE, radius=4.0, size=5),
    "weights that do not fit": lambda: ops.varying_blur(
        **IMAGE, kernels=np.ones((2, 3, 3)), weights=np.ones((3, 16, 16))
    ),
    "factor that does not divide": lambda: ops.block_average(**IMAGE, factor=3),
    "half a factor": lambda: ops.super_resolution(**IMAGE, factor=2.5),
    "factor of zero": lambda: ops.block_average(**IMAGE, factor=0),
    "offset too large": lambda: ops.nearest_downsample(**IMAGE, factor=2, offset=2),
    "unknown method": lambda: ops.resize(**IMAGE, size=8, method="spline"),
    "half an offset": lambda: ops.nearest_downsample(**IMAGE, factor=2, offset=0.5),
    "half a corner": lambda: ops.crop(**IMAGE, size=4, corner=(1.7, 2)),
    "half a padding": lambda: ops.phase_retrieval(**IMAGE, padding=(1.5, 2.5)),
    "levels that are no whole number": lambda: ops.quantize(**IMAGE, levels=2.5),
    "two qualities": lambda: ops.jpeg(**IMAGE, quality=np.array([30, 60])),
    "two factors": lambda: ops.high_dynamic_range(**IMAGE, factor=np.array([1.0, 2.0])),
    "motion of two sides": lambda: ops.motion_kernel(KEY, size=(5, 9)),
    "disc of no size": lambda: ops.defocus_blur(**IMAGE, radius=0.4, size=-3),
    "separable on two axes": lambda: ops.separable(image_shape=(2, 2), rows=np.eye(2), columns=np.eye(2)),
    "rows of zeros": lambda: ops.separable(**IMAGE, rows=np.zeros((3, 16)), columns=np.eye(16)),
    "rows with NaN": lambda: ops.separable(**IMAGE, rows=np.full((3, 16), np.nan), columns=np.eye(16)),
    "matrix that does not fit": lambda: ops.separable(**IMAGE, rows=np.ones((3, 3)), columns=np.ones((3, 16))),
    "mosaic of one channel": lambda: ops.bayer_mosaic(image_shape=(8, 8, 1)),
    "unknown pattern": lambda: ops.bayer_mosaic(**IMAGE, pattern="rgbg"),
    "luma of two channels": lambda: ops.grayscale(image_shape=(8, 8, 2), weights="luma"),
    "colours that do not fit": lambda: ops.color_matrix(**IMAGE, matrix=np.ones((2, 4))),
    "colours of zero": lambda: ops.color_matrix(**IMAGE, matrix=np.zeros((2, 3))),
    "k-space mask that does not fit": lambda: ops.mri(**IMAGE, mask=np.ones((8, 8))),
    "k-space mask of nothing": lambda: ops.mri(**IMAGE, mask=np.zeros((16, 16))),
    "soft k-space mask": lambda: ops.mri(**IMAGE, mask=np.full((16, 16), 0.5)),
    "complex image of three": lambda: ops.mri(**IMAGE, mask=np.ones((16, 16)), complex_image=True),
    "coils that do not fit": lambda: ops.multicoil_mri(
        **IMAGE, mask=np.ones((16, 16)), sensitivities=np.ones((2, 8, 8))
    ),
    "coils with NaN": lambda: ops.multicoil_mri(
        **IMAGE, mask=np.ones((16, 16)), sensitivities=np.full((2, 16, 16), np.nan + 0j)
    ),
    "acceleration too high": lambda: ops.cartesian_mask(KEY, shape=(16, 16), acceleration=40),
    "middle too wide": lambda: ops.cartesian_mask(KEY, shape=(16, 64), acceleration=8, center_fraction=0.5),
    "no spokes": lambda: ops.radial_mask(shape=(16, 16), spokes=0),
    "no turns": lambda: ops.spiral_mask(shape=(16, 16), turns=0),
    "no coils": lambda: ops.coil_sensitivities(shape=(16, 16), coils=0),
    "no angles": lambda: ops.ct(**IMAGE, angles=np.zeros(0)),
    "zero angles": lambda: ops.ct(**IMAGE, angles=0),
    "one angle": lambda: ops.ct(**IMAGE, angles=10.0),
    "angle of NaN": lambda: ops.ct(**IMAGE, angles=np.array([np.nan])),
    "no power of two": lambda: ops.compressed_sensing(KEY, image_shape=(12, 16, 3), ratio=0.5),
    "ratio above one": lambda: ops.single_pixel_camera(**IMAGE, ratio=1.5),
    "no ratio": lambda: ops.single_pixel_camera(**IMAGE),
    "dense and large": lambda: ops.gaussian_sensing(KEY, image_shape=(128, 128, 3), ratio=0.1),
    "matrix of another width": lambda: ops.from_matrix(np.ones((3, 5)), **IMAGE),
    "matrix of zeros": lambda: ops.from_matrix(np.zeros((3, 12)), image_shape=(2, 2, 3)),
    "negative padding": lambda: ops.phase_retrieval(**IMAGE, padding=-1),
    "empty range": lambda: ops.phase_retrieval(**IMAGE, value_range=(1, 1)),
    "no masks": lambda: ops.coded_phase_retrieval(KEY, **IMAGE, masks=0),
    "factor not positive": lambda: ops.high_dynamic_range(**IMAGE, factor=0.0),
    "one level": lambda: ops.quantize(**IMAGE, levels=1),
    "quality of zero": lambda: ops.jpeg(**IMAGE, quality=0),
    "JPEG of two channels": lambda: ops.jpeg(image_shape=(8, 8, 2)),
    "unknown subsampling": lambda: ops.jpeg(**IMAGE, subsampling="4:1:1"),
    "gamma not positive": lambda: ops.gamma_curve(**IMAGE, gamma=0.0),
    "curve of one knot": lambda: ops.tone_curve(**IMAGE, values=[0.0]),
    "camera without kernel": lambda: ops.camera_blur(**IMAGE),
    "light below zero": lambda: ops.camera_blur(**IMAGE, kernel=-np.ones((3, 3))),
    "composition that does not fit": lambda: ops.denoise(**IMAGE) @ ops.grayscale(**IMAGE),
    "sum that does not fit": lambda: ops.denoise(**IMAGE) + ops.grayscale(**IMAGE),
    "stack of two images": lambda: ops.stack(ops.denoise(**IMAGE), ops.denoise(image_shape=(8, 8, 3))),
    "stack of nothing": lambda: ops.stack(),
    "scale by zero": lambda: 0.0 * ops.denoise(**IMAGE),
    "division by zero": lambda: ops.denoise(**IMAGE) / 0,
    "division by an array": lambda: ops.denoise(**IMAGE) / np.ones(3),
    "product with an array": lambda: np.ones(3) * ops.denoise(**IMAGE),
    "scale by an array": lambda: ops.scale(ops.denoise(**IMAGE), jnp.ones(3)),
    "window outside": lambda: ops.crop(**IMAGE, size=8, corner=(10, 0)),
    "pad below zero": lambda: ops.pad(**IMAGE, width=-1),
    "function that does not fit": lambda: ops.from_function(lambda x: x @ jnp.ones((5, 5)), **IMAGE),
    "a seed for pixels": lambda: ops.inpaint_random(0, **IMAGE, fraction=0.5),
    "a seed for a box": lambda: ops.inpaint_box(4, **IMAGE, key=0),
    "a seed for a shake": lambda: ops.motion_blur(0, **IMAGE, size=5),
    "a seed for strokes": lambda: ops.inpaint_strokes(0, **IMAGE),
    "a seed for columns": lambda: ops.cartesian_mask(0, shape=(16, 16), acceleration=4),
    "a seed for phases": lambda: ops.coded_phase_retrieval(0, **IMAGE),
    "a seed for signs": lambda: ops.compressed_sensing(0, **IMAGE, ratio=0.5),
    "a seed for a matrix": lambda: ops.gaussian_sensing(0, **IMAGE, ratio=0.5),
    "a corner of one number": lambda: ops.crop(**IMAGE, size=4, corner=3),
    "two radii": lambda: ops.defocus_blur([1.0, 2.0], **IMAGE),
    "an infinite radius": lambda: ops.defocus_blur(float("inf"), **IMAGE),
    "an infinite std": lambda: ops.gaussian_blur(float("inf"), **IMAGE),
    "a std of parsecs": lambda: ops.gaussian_blur(1e30, **IMAGE),
    "factor beyond the image": lambda: ops.super_resolution(17, **IMAGE),
    "three stds": lambda: ops.gaussian_blur([1.0, 2.0, 3.0], **IMAGE),
    "a rotation of NaN": lambda: ops.gaussian_blur((1.0, 2.0), **IMAGE, size=5, angle=float("nan")),
    "a negative rcond": lambda: ops.blur(np.ones((3, 3)), **IMAGE, rcond=-1),
    "no points a pixel": lambda: ops.kernels.disc_kernel(5, 1.0, oversample=0),
    "a range of one number": lambda: ops.phase_retrieval(**IMAGE, value_range=1.0),
    "one weight": lambda: ops.grayscale(0.5, **IMAGE),
    "half a column": lambda: ops.equispaced_mask(4, shape=(16, 16), offset=1.5),
    "a mask of text": lambda: ops.inpaint_mask("mask.png", **IMAGE),
    "a mask of a table": lambda: ops.inpaint_mask({"a": 1}, **IMAGE),
    "a number as text": lambda: ops.inpaint_text(5, **IMAGE),
    "a negative ring of coils": lambda: ops.coil_sensitivities(4, shape=(16, 16), radius=-1.0),
    "function of two arrays": lambda: ops.from_function(lambda x: (x, x), **IMAGE),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_with_one_sentence(name):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the sentence is examined below
        BAD[name]()
    sentence = str(caught.value)
    assert sentence.endswith((".", "]", "}")) or sentence[-1].isalnum()
    assert 20 < len(sentence) < 400
    assert "\n" not in sentence.split(": ", 1)[0]


def test_an_even_size_names_the_next_odd_one():
    for size, expected in ((60, "use 61."), ((4, 7), r"use \(5, 7\)."), ((4, 5), "use 5.")):
        with pytest.raises(ValueError, match=expected):
            ops.gaussian_blur(**IMAGE, size=size, std=1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ops.crop(image_shape=(8, 8, 3), size=4),
        lambda: ops.nearest_downsample(image_shape=(8, 8, 3), factor=2),
        lambda: ops.compressed_sensing(KEY, image_shape=(8, 8, 3), ratio=0.5),
        lambda: ops.denoise(image_shape=(8, 8, 3)),
    ],
    ids=["crop", "nearest", "sensing", "denoise"],
)
def test_a_batch_is_refused_and_vmap_named(make):
    operator = make()
    batch = jnp.zeros((8, 8, 8, 3))
    with pytest.raises(ValueError, match=r"one image \(8, 8, 3\), got shape \(8, 8, 8, 3\).*vmap"):
        operator(batch)
    assert jax.vmap(operator)(batch).shape == (8, *operator.measurement_shape)


FACTORIES = [
    name
    for name in ops.__all__
    if inspect.isfunction(getattr(ops, name)) and "image_shape" in inspect.signature(getattr(ops, name)).parameters
]


@pytest.mark.parametrize("name", FACTORIES)
def test_what_a_factory_is_about_may_be_given_by_position(name):
    """And without the image's shape, the refusal names that."""
    if name == "denoise":
        assert ops.denoise(S).image_shape == S
        return
    with pytest.raises(TypeError, match=r"missing \d required keyword-only arguments?: 'image_shape'"):
        getattr(ops, name)(*[None] * _needed(getattr(ops, name)))


def _needed(factory):
    """How many arguments by position there must be, but one at least."""
    positional = [p for p in inspect.signature(factory).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
    return max(1, sum(p.default is p.empty for p in positional))


def test_by_position_and_by_keyword_are_the_same():
    mask = np.eye(16)
    for by_position, by_keyword in (
        (ops.inpaint_mask(mask, **IMAGE), ops.inpaint_mask(**IMAGE, mask=mask)),
        (ops.gaussian_blur(1.5, **IMAGE), ops.gaussian_blur(**IMAGE, std=1.5)),
        (ops.super_resolution(2, **IMAGE), ops.super_resolution(**IMAGE, factor=2)),
    ):
        assert jax.tree.structure(by_position) == jax.tree.structure(by_keyword)
        jax.tree.map(np.testing.assert_array_equal, by_position, by_keyword)


WRONG = {
    "negative noise": (lambda: observe(KEY, ops.denoise(**IMAGE), jnp.zeros(S), jnp.float32(-0.1)), "noise_std"),
    "noise of NaN": (lambda: observe(KEY, ops.denoise(**IMAGE), jnp.zeros(S), np.array(np.nan)), "noise_std"),
    "noise of three": (lambda: observe(KEY, ops.denoise(**IMAGE), jnp.zeros(S), jnp.ones(3)), "noise_std"),
    "image of another size": (
        lambda: observe(KEY, ops.denoise(**IMAGE), jnp.zeros((8, 8, 3)), 0.1),
        "measures one image",
    ),
    "bytes": (lambda: observe(KEY, ops.denoise(**IMAGE), np.zeros(S, np.uint8), 0.1), "divide by 127.5"),
    "seed for a key": (lambda: observe(0, ops.denoise(**IMAGE), jnp.zeros(S), 0.1), "not a key"),
}


@pytest.mark.parametrize("name", WRONG)
def test_impossible_measurements(name):
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        call()
