"""Tasks of our own: the short names, and what else the operators can do."""

from jaxdiff import operators as ops
from jaxdiff.operators.kernels import gaussian_kernel
from jaxdiff.tasks import makers
from jaxdiff.tasks.task import CLEAN, LIGHT, Noise, Rows, Task, table

__all__ = ["OWN", "SHORT"]

DEFAULT: Rows = {
    "denoise": (lambda key, shape: ops.denoise(image_shape=shape), Noise(0.1), "noise only"),
    "inpaint_box": (makers.centred_box(2), LIGHT, "a centred box of half the side is missing"),
    "inpaint_random": (makers.random(0.7), LIGHT, "70 % of the pixels are missing"),
    "gaussian_blur": (
        makers.gaussian("reflect"),
        LIGHT,
        "Gaussian blur, σ = 3 px at 256 and 1.5 px at 64, reflect padding",
    ),
    "motion_blur": (
        makers.motion("reflect"),
        LIGHT,
        "a random camera-shake trajectory (61 px at 256, 15 px at 64)",
    ),
    "outpaint": (lambda key, shape: ops.outpaint(image_shape=shape), LIGHT, "the right half is missing"),
    "super_resolution": (makers.bicubic(4), LIGHT, "a quarter of the size, bicubic"),
    "grayscale": (lambda key, shape: ops.grayscale(image_shape=shape), LIGHT, "the mean of the colours"),
    "phase_retrieval": (
        lambda key, shape: ops.phase_retrieval(image_shape=shape),
        LIGHT,
        "the magnitude of the oversampled Fourier transform",
    ),
    "high_dynamic_range": (
        lambda key, shape: ops.high_dynamic_range(image_shape=shape),
        LIGHT,
        "twice the contrast, clipped to [-1, 1]",
    ),
    "jpeg": (lambda key, shape: ops.jpeg(image_shape=shape, quality=10), Noise(0.02), "JPEG of quality 10"),
}

JAXDIFF: Rows = {
    "outpaint": (lambda key, shape: ops.outpaint(image_shape=shape), LIGHT, "the right half hidden"),
    "outpaint_border": (
        lambda key, shape: ops.outpaint(image_shape=shape, side="border"),
        LIGHT,
        "a border of a quarter of the side hidden",
    ),
    "strokes": (lambda key, shape: ops.inpaint_strokes(key, image_shape=shape), LIGHT, "brush strokes"),
    "text": (lambda key, shape: ops.inpaint_text(image_shape=shape), LIGHT, "lettering"),
    "anisotropic_blur": (
        lambda key, shape: ops.gaussian_blur(
            image_shape=shape,
            size=makers.odd_length(shape, 61),
            std=(makers.width(shape, 1.0), makers.width(shape, 5.0)),
            angle=30,
        ),
        LIGHT,
        "Gaussian of std 1 and 5, turned by 30 degrees",
    ),
    "defocus_blur": (
        lambda key, shape: ops.defocus_blur(image_shape=shape, radius=makers.width(shape, 6.0)),
        LIGHT,
        "disc of radius 6",
    ),
    "varying_blur": (makers.varying, LIGHT, "four Gaussians blended from corner to corner"),
    "nearest4": (
        lambda key, shape: ops.nearest_downsample(image_shape=shape, factor=4),
        LIGHT,
        "every fourth pixel, no filter",
    ),
    "blur_downsample4": (
        lambda key, shape: ops.blur_downsample(
            image_shape=shape, kernel=gaussian_kernel(makers.odd_length(shape, 25), makers.width(shape, 2.0)), factor=4
        ),
        LIGHT,
        "circular Gaussian of std 2, every fourth pixel",
    ),
    "demosaic": (lambda key, shape: ops.bayer_mosaic(image_shape=shape), LIGHT, "Bayer mosaic RGGB"),
    "mri4": (makers.mri, LIGHT, "single coil, a quarter of the columns, 8 % in the middle"),
    "mri_radial": (
        lambda key, shape: ops.mri(
            image_shape=shape, mask=ops.radial_mask(shape=makers.sides(shape), spokes=makers.length(shape, 40))
        ),
        LIGHT,
        "single coil, 40 spokes",
    ),
    "mri_spiral": (
        lambda key, shape: ops.mri(
            image_shape=shape, mask=ops.spiral_mask(shape=makers.sides(shape), turns=makers.length(shape, 32))
        ),
        LIGHT,
        "single coil, a spiral of 32 turns",
    ),
    "mri8_multicoil": (makers.multicoil, LIGHT, "eight coils, an eighth of the columns"),
    "ct_sparse": (
        lambda key, shape: ops.ct(image_shape=shape, angles=max(4, makers.length(shape, 60)), normalize=True),
        LIGHT,
        "60 views over 180 degrees, operator scaled to norm about 1",
    ),
    "ct_limited": (
        lambda key, shape: ops.ct(image_shape=shape, angles=max(4, makers.length(shape, 90)), arc=90, normalize=True),
        LIGHT,
        "90 views over 90 degrees, operator scaled to norm about 1",
    ),
    "compressed_sensing": (
        lambda key, shape: ops.compressed_sensing(key, image_shape=shape, ratio=0.25),
        LIGHT,
        "a quarter of the coefficients of a randomized Hadamard transform",
    ),
    "single_pixel_camera": (
        lambda key, shape: ops.single_pixel_camera(image_shape=shape, ratio=0.1),
        LIGHT,
        "the tenth of coarsest Hadamard patterns",
    ),
    "coded_phase_retrieval": (
        lambda key, shape: ops.coded_phase_retrieval(key, image_shape=shape),
        LIGHT,
        "magnitudes behind four random phase masks",
    ),
    "quantize": (lambda key, shape: ops.quantize(image_shape=shape, levels=4), CLEAN, "four levels (2 bits)"),
    "jpeg10": (lambda key, shape: ops.jpeg(image_shape=shape, quality=10), CLEAN, "JPEG of quality 10", "jpeg"),
    "gamma": (lambda key, shape: ops.gamma_curve(image_shape=shape, gamma=3.0), LIGHT, "power curve, gamma 3"),
    "tone_curve": (
        lambda key, shape: ops.tone_curve(image_shape=shape, values=[-1, -0.9, 0.2, 0.9, 1]),
        LIGHT,
        "a curve of hard contrast",
    ),
    "camera_blur": (
        lambda key, shape: ops.camera_blur(key, image_shape=shape, size=makers.odd_length(shape, 61)),
        LIGHT,
        "motion blur of the light, saturated; stands in for the networks' nonlinear blur",
    ),
    "inpaint_small_box": (makers.centred_box(4), LIGHT, "a centred box of a quarter of the side hidden"),
}

SHORT: dict[str, Task] = table("default", DEFAULT)
OWN: dict[str, Task] = table("jaxdiff", JAXDIFF)
