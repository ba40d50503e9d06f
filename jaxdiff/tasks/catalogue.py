"""Published tasks by the name of their origin: operator, noise and on which scale, padding, mask rule, seed.

``get("dps/gaussian_blur")`` sets up a row of a paper's table at 256x256. At another size, lengths that are a share of
the image (boxes, large kernels, padding) scale with the side; factors, and filters of a few taps, do not.

Two traps are kept apart here. The same "σ = 0.05" is a standard deviation on [-1, 1] in some codes and on [0, 1], half as
strong, in others: :class:`Noise` says which, and every set-up carries it on [-1, 1]. And "Gaussian deblurring" is a
different operator in almost every code.
"""

import difflib
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import noise as noise_models
from jaxdiff import operators as ops
from jaxdiff.operators.convolution import band_matrix
from jaxdiff.operators.kernels import gaussian_kernel
from jaxdiff.typing import Array, Key, Shape

__all__ = ["PRESETS", "Noise", "Preset", "Setup", "get", "names"]


class Noise(NamedTuple):
    """A noise level as its source prints it.

    Attributes:
        std: the number.
        scale: the range of the images it is added to: "[-1, 1]", or "[0, 1]", where it is doubled.
    """

    std: float
    scale: Literal["[-1, 1]", "[0, 1]"] = "[-1, 1]"

    @property
    def on_symmetric_scale(self) -> float:
        """The standard deviation on [-1, 1]."""
        return self.std * (2 if self.scale == "[0, 1]" else 1)


class Preset(NamedTuple):
    """A published task.

    Attributes:
        make: (key, image_shape) → operator.
        noise: as printed.
        about: one line.
        seed: that the source's code sets, or 0 where it sets none; the draws themselves are ours.
        poisson: photons per grey level, where the noise is Poisson's.
    """

    make: Callable[[Key, Shape], ops.Operator]
    noise: Noise
    about: str
    seed: int = 0
    poisson: float | None = None


class Setup(NamedTuple):
    """A task ready to run.

    Attributes:
        name: of the preset.
        operator: A.
        noise_std: σ on [-1, 1] (0 for Poisson noise, which ``observe`` does not draw: ``noise.sample`` does).
        noise: the model to draw from and to take the likelihood of; None where there is no noise. Samplers know one σ: for
            Poisson noise give ``Problem`` one near its spread, √(2 (y + 1)/(255 rate)).
        published: the noise level as the source prints it.
        about: one line.
    """

    name: str
    operator: ops.Operator
    noise_std: Array
    noise: noise_models.NoiseModel | None
    published: Noise
    about: str


def get(name: str, image_shape: Shape = (256, 256, 3), key: Key | None = None) -> Setup:
    """Set up a published task.

    Args:
        name: "origin/task", see :func:`names`.
        image_shape: (H, W, C).
        key: for what is random; by default the preset's seed.

    Raises:
        ValueError: if there is no such preset (the sentence suggests the nearest), or the image does not suit it.

    >>> setup = get("ddrm/sr4", (64, 64, 3))
    >>> setup.operator.measurement_shape, round(float(setup.noise_std), 3)
    ((16, 16, 3), 0.1)
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.4)
        if name.endswith("/nonlinear_blur"):
            raise ValueError(f"{name!r} needs a third party's network; jaxdiff has 'jaxdiff/camera_blur' instead.")
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known are {', '.join(PRESETS)}."
        raise ValueError(f"there is no preset {name!r}; {hint}")
    preset = PRESETS[name]
    operator = preset.make(jax.random.key(preset.seed) if key is None else key, tuple(image_shape))
    std = preset.noise.on_symmetric_scale
    model: noise_models.NoiseModel | None = noise_models.gaussian(std) if std > 0 else None
    if preset.poisson is not None:
        model = noise_models.poisson(preset.poisson)
    return Setup(name, operator, jnp.asarray(std, jnp.float32), model, preset.noise, preset.about)


def names(origin: str | None = None) -> list[str]:
    """The presets' names, of one origin or all."""
    return [name for name in PRESETS if origin is None or name.startswith(origin + "/")]


def _sides(shape: Shape) -> tuple[int, int]:
    return shape[0], shape[1]


def _share(shape: Shape, pixels: float) -> int:
    """A length of so many pixels at 256, at this size."""
    return max(1, round(pixels * min(shape[:2]) / 256))


def _odd(shape: Shape, pixels: float) -> int:
    """The same, odd."""
    return 2 * max(1, round((pixels * min(shape[:2]) / 256 - 1) / 2)) + 1


def _std(shape: Shape, pixels: float) -> float:
    """A blur's width at this size: by the root of the side, since 3/4 of a pixel at 64 would hardly show."""
    return pixels * math.sqrt(min(shape[:2]) / 256)


def _gaussian(padding: Literal["reflect", "circular"]) -> Callable[[Key, Shape], ops.Operator]:
    def make(key: Key, shape: Shape) -> ops.Operator:
        return ops.gaussian_blur(image_shape=shape, size=_odd(shape, 61), std=_std(shape, 3.0), padding=padding)

    return make


def _motion(padding: Literal["reflect", "circular"]) -> Callable[[Key, Shape], ops.Operator]:
    return lambda key, shape: ops.motion_blur(key, image_shape=shape, size=_odd(shape, 61), padding=padding)


def _box(margin: int) -> Callable[[Key, Shape], ops.Operator]:
    def make(key: Key, shape: Shape) -> ops.Operator:
        return ops.inpaint_box(image_shape=shape, size=_share(shape, 128), key=key, margin=_share(shape, margin))

    return make


def _random(fraction: float) -> Callable[[Key, Shape], ops.Operator]:
    return lambda key, shape: ops.inpaint_random(key, image_shape=shape, fraction=fraction)


def _bicubic(factor: int) -> Callable[[Key, Shape], ops.Operator]:
    return lambda key, shape: ops.super_resolution(image_shape=shape, factor=factor)


def _blocks(factor: int) -> Callable[[Key, Shape], ops.Operator]:
    return lambda key, shape: ops.block_average(image_shape=shape, factor=factor)


def _phase(value_range: tuple[float, float]) -> Callable[[Key, Shape], ops.Operator]:
    return lambda key, shape: ops.phase_retrieval(image_shape=shape, value_range=value_range)


def _hadamard(ratio: float) -> Callable[[Key, Shape], ops.Operator]:
    return lambda key, shape: ops.compressed_sensing(key, image_shape=shape, ratio=ratio, signs=False)


def _truncated_blur(down: np.ndarray, across: np.ndarray) -> Callable[[Key, Shape], ops.Operator]:
    """The separable blur of DDRM and DDNM as their code builds it, from 2k + 1 taps along rows and columns.

    Their loop stops one short, so that the last tap is left out and the blur darkens; and singular values of either
    factor below 0.03 are set to zero in the operator itself, not in its inverse only.
    """

    def factor(side: int, taps: np.ndarray) -> np.ndarray:
        matrix = band_matrix(np.append(taps[:-1], 0.0), side, "zero")
        u, s, vt = np.linalg.svd(matrix)
        return (u * np.where(s < 3e-2, 0.0, s)) @ vt

    def make(key: Key, shape: Shape) -> ops.Operator:
        rows, columns = factor(shape[0], down), factor(shape[1], across)
        return ops.separable(image_shape=shape, rows=rows, columns=columns, rcond=1e-5)

    return make


def _taps(count: int, std: float) -> np.ndarray:
    weights = np.exp(-0.5 * ((np.arange(count) - count // 2) / std) ** 2)
    return weights / weights.sum()


def _diffpir_gaussian(key: Key, shape: Shape) -> ops.Operator:
    std = _std(shape, 3.0) * (2 * float(jax.random.uniform(key, ())) + 1)
    kernel = gaussian_kernel(_odd(shape, 61), std)
    return ops.blur(image_shape=shape, kernel=kernel, padding="circular")


def _mri(key: Key, shape: Shape) -> ops.Operator:
    return ops.mri(image_shape=shape, mask=ops.cartesian_mask(key, shape=_sides(shape), acceleration=4))


def _multicoil(key: Key, shape: Shape) -> ops.Operator:
    mask = ops.cartesian_mask(key, shape=_sides(shape), acceleration=8, center_fraction=0.04)
    return ops.multicoil_mri(
        image_shape=shape, mask=mask, sensitivities=ops.coil_sensitivities(shape=_sides(shape), coils=8)
    )


def _varying(key: Key, shape: Shape) -> ops.Operator:
    size = _odd(shape, 41)
    kernels = [gaussian_kernel(size, (_std(shape, a), _std(shape, b))) for a, b in ((0.5, 0.5), (1, 4), (4, 1), (4, 4))]
    weights = ops.blend_weights((shape[0], shape[1]), (2, 2))
    return ops.varying_blur(image_shape=shape, kernels=np.stack(kernels), weights=weights)


LIGHT = Noise(0.05)
DOUBLED = Noise(0.05, "[0, 1]")
CLEAN = Noise(0.0)

_LINES: dict[str, tuple[Callable[[Key, Shape], ops.Operator], Noise, str]] = {
    # Chung et al., ICLR 2023 (DPS), configs/*.yaml at effbde7.
    "dps/sr4": (_bicubic(4), LIGHT, "antialiased bicubic x4"),
    "dps/gaussian_blur": (_gaussian("reflect"), LIGHT, "Gaussian 61x61, std 3, reflection"),
    "dps/motion_blur": (_motion("reflect"), LIGHT, "motion 61x61, intensity 0.5, reflection, new kernel each run"),
    "dps/inpaint_box": (_box(16), LIGHT, "box of 128 at random, margin 16; noise on hidden pixels too"),
    "dps/inpaint_random": (
        lambda key, shape: ops.inpaint_random(key, image_shape=shape, min_fraction=0.3, max_fraction=0.7),
        LIGHT,
        "30 to 70 % of the pixels hidden (the configuration as shipped)",
    ),
    "dps/inpaint_random_92": (_random(0.92), LIGHT, "92 % of the pixels hidden (the paper's table)"),
    "dps/phase_retrieval": (_phase((-1, 1)), LIGHT, "Fourier magnitude, oversampling 2, images on [-1, 1]"),
    # Zhang et al., CVPR 2025 (DAPS), configs/task; seed 42.
    "daps/sr4": (_bicubic(4), LIGHT, "antialiased bicubic x4"),
    "daps/gaussian_blur": (_gaussian("reflect"), LIGHT, "Gaussian 61x61, std 3, reflection"),
    "daps/motion_blur": (_motion("reflect"), LIGHT, "motion 61x61, intensity 0.5, reflection"),
    "daps/inpaint_box": (_box(32), LIGHT, "box of 128 at random, margin 32"),
    "daps/inpaint_random": (_random(0.7), LIGHT, "70 % of the pixels hidden"),
    "daps/phase_retrieval": (_phase((0, 1)), LIGHT, "Fourier magnitude, oversampling 2, images on [0, 1]"),
    "daps/hdr": (lambda key, shape: ops.high_dynamic_range(image_shape=shape), LIGHT, "clip(2x, -1, 1)"),
    # Kawar et al., NeurIPS 2022 (DDRM), runners/diffusion.py and functions/svd_replacement.py; σ is doubled there.
    "ddrm/denoise": (lambda key, shape: ops.denoise(image_shape=shape), DOUBLED, "noise only"),
    "ddrm/sr2": (_blocks(2), DOUBLED, "mean of 2x2 blocks"),
    "ddrm/sr4": (_blocks(4), DOUBLED, "mean of 4x4 blocks"),
    "ddrm/sr8": (_blocks(8), DOUBLED, "mean of 8x8 blocks"),
    "ddrm/deblur_gauss": (
        _truncated_blur(_taps(5, 10.0), _taps(5, 10.0)),
        DOUBLED,
        "separable, 5 taps of std 10 of which the code uses 4, zero padding, singular values below 0.03 dropped",
    ),
    "ddrm/deblur_uni": (
        _truncated_blur(np.full(9, 1 / 9), np.full(9, 1 / 9)),
        DOUBLED,
        "separable, 9 equal taps of which the code uses 8, zero padding, singular values below 0.03 dropped",
    ),
    "ddrm/color": (lambda key, shape: ops.grayscale(image_shape=shape), DOUBLED, "mean of the channels"),
    "ddrm/inpaint_random": (_random(0.5), DOUBLED, "half of the pixels hidden"),
    "ddrm/cs4": (_hadamard(0.25), DOUBLED, "a quarter of the Walsh-Hadamard coefficients at random"),
    # Wang et al., ICLR 2023 (DDNM), guided_diffusion/diffusion.py; no noise in its main tables.
    "ddnm/sr4": (_blocks(4), CLEAN, "mean of 4x4 blocks"),
    "ddnm/sr_bicubic4": (_bicubic(4), CLEAN, "antialiased bicubic x4"),
    "ddnm/deblur_gauss": (_truncated_blur(_taps(5, 10.0), _taps(5, 10.0)), CLEAN, "as ddrm/deblur_gauss, no noise"),
    "ddnm/deblur_aniso": (
        _truncated_blur(_taps(9, 1.0), _taps(9, 20.0)),
        CLEAN,
        "separable, 9 taps of std 1 and 20 of which the code uses 8, zero padding",
    ),
    "ddnm/color": (lambda key, shape: ops.grayscale(image_shape=shape), CLEAN, "mean of the channels"),
    "ddnm/cs4": (_hadamard(0.25), CLEAN, "a quarter of the Walsh-Hadamard coefficients at random"),
    # Zhu et al., CVPRW 2023 (DiffPIR), main_ddpir_*.py; σ is on [0, 1].
    "diffpir/gaussian_blur": (_diffpir_gaussian, DOUBLED, "Gaussian 61x61, std uniform in 3 to 9, circular"),
    "diffpir/motion_blur": (
        _motion("circular"),
        DOUBLED,
        "motion 61x61, intensity 0.5, circular, new kernel each image",
    ),
    "diffpir/sr4": (_bicubic(4), DOUBLED, "antialiased bicubic x4"),
    "diffpir/inpaint_box": (_box(16), CLEAN, "box of 128 at random, no noise"),
    "diffpir/inpaint_random": (_random(0.5), CLEAN, "half of the pixels hidden, no noise"),
    # Wu et al., NeurIPS 2024 (PnP-DM): DPS's kernel, circular.
    "pnpdm/gaussian_blur": (_gaussian("circular"), LIGHT, "Gaussian 61x61, std 3, circular"),
    # The study does not give its mask and kernel; these are our choice, and jaxdiff reproduce says so.
    "study/denoise": (lambda key, shape: ops.denoise(image_shape=shape), Noise(0.1), "noise only"),
    "study/deconvolution": (_gaussian("reflect"), LIGHT, "Gaussian 61x61, std 3, reflection; σ is 0.01, 0.05 or 0.1"),
    "study/inpainting": (
        lambda key, shape: ops.inpaint_box(image_shape=shape, size=(shape[0] // 2, shape[1] // 2)),
        LIGHT,
        "centred box of half the side; σ is 0.01, 0.05 or 0.1",
    ),
    # Ours: what else the operators can do.
    "jaxdiff/outpaint": (lambda key, shape: ops.outpaint(image_shape=shape), LIGHT, "the right half hidden"),
    "jaxdiff/outpaint_border": (
        lambda key, shape: ops.outpaint(image_shape=shape, side="border"),
        LIGHT,
        "a border of a quarter of the side hidden",
    ),
    "jaxdiff/strokes": (lambda key, shape: ops.inpaint_strokes(key, image_shape=shape), LIGHT, "brush strokes"),
    "jaxdiff/text": (lambda key, shape: ops.inpaint_text(image_shape=shape), LIGHT, "lettering"),
    "jaxdiff/anisotropic_blur": (
        lambda key, shape: ops.gaussian_blur(
            image_shape=shape, size=_odd(shape, 61), std=(_std(shape, 1.0), _std(shape, 5.0)), angle=30
        ),
        LIGHT,
        "Gaussian of std 1 and 5, turned by 30 degrees",
    ),
    "jaxdiff/defocus_blur": (
        lambda key, shape: ops.defocus_blur(image_shape=shape, radius=_std(shape, 6.0)),
        LIGHT,
        "disc of radius 6",
    ),
    "jaxdiff/varying_blur": (_varying, LIGHT, "four Gaussians blended from corner to corner"),
    "jaxdiff/nearest4": (
        lambda key, shape: ops.nearest_downsample(image_shape=shape, factor=4),
        LIGHT,
        "every fourth pixel, no filter",
    ),
    "jaxdiff/blur_downsample4": (
        lambda key, shape: ops.blur_downsample(
            image_shape=shape, kernel=gaussian_kernel(_odd(shape, 25), _std(shape, 2.0)), factor=4
        ),
        LIGHT,
        "circular Gaussian of std 2, every fourth pixel",
    ),
    "jaxdiff/demosaic": (lambda key, shape: ops.bayer_mosaic(image_shape=shape), LIGHT, "Bayer mosaic RGGB"),
    "jaxdiff/mri4": (_mri, LIGHT, "single coil, a quarter of the columns, 8 % in the middle"),
    "jaxdiff/mri_radial": (
        lambda key, shape: ops.mri(
            image_shape=shape, mask=ops.radial_mask(shape=_sides(shape), spokes=_share(shape, 40))
        ),
        LIGHT,
        "single coil, 40 spokes",
    ),
    "jaxdiff/mri_spiral": (
        lambda key, shape: ops.mri(
            image_shape=shape, mask=ops.spiral_mask(shape=_sides(shape), turns=_share(shape, 32))
        ),
        LIGHT,
        "single coil, a spiral of 32 turns",
    ),
    "jaxdiff/mri8_multicoil": (_multicoil, LIGHT, "eight coils, an eighth of the columns"),
    "jaxdiff/ct_sparse": (
        lambda key, shape: ops.ct(image_shape=shape, angles=max(4, _share(shape, 60)), normalize=True),
        LIGHT,
        "60 views over 180 degrees, operator scaled to norm about 1",
    ),
    "jaxdiff/ct_limited": (
        lambda key, shape: ops.ct(image_shape=shape, angles=max(4, _share(shape, 90)), arc=90, normalize=True),
        LIGHT,
        "90 views over 90 degrees, operator scaled to norm about 1",
    ),
    "jaxdiff/compressed_sensing": (
        lambda key, shape: ops.compressed_sensing(key, image_shape=shape, ratio=0.25),
        LIGHT,
        "a quarter of the coefficients of a randomized Hadamard transform",
    ),
    "jaxdiff/single_pixel_camera": (
        lambda key, shape: ops.single_pixel_camera(image_shape=shape, ratio=0.1),
        LIGHT,
        "the tenth of coarsest Hadamard patterns",
    ),
    "jaxdiff/coded_phase_retrieval": (
        lambda key, shape: ops.coded_phase_retrieval(key, image_shape=shape),
        LIGHT,
        "magnitudes behind four random phase masks",
    ),
    "jaxdiff/quantize": (lambda key, shape: ops.quantize(image_shape=shape, levels=4), CLEAN, "four levels (2 bits)"),
    "jaxdiff/jpeg10": (lambda key, shape: ops.jpeg(image_shape=shape, quality=10), CLEAN, "JPEG of quality 10"),
    "jaxdiff/gamma": (lambda key, shape: ops.gamma_curve(image_shape=shape, gamma=3.0), LIGHT, "power curve, gamma 3"),
    "jaxdiff/tone_curve": (
        lambda key, shape: ops.tone_curve(image_shape=shape, values=[-1, -0.9, 0.2, 0.9, 1]),
        LIGHT,
        "a curve of hard contrast",
    ),
    "jaxdiff/camera_blur": (
        lambda key, shape: ops.camera_blur(key, image_shape=shape, size=_odd(shape, 61)),
        LIGHT,
        "motion blur of the light, saturated; stands in for the networks' nonlinear blur",
    ),
}

_SEEDS = {"daps": 42}

PRESETS: dict[str, Preset] = {
    name: Preset(make, noise, about, _SEEDS.get(name.split("/")[0], 0)) for name, (make, noise, about) in _LINES.items()
}
for _name in ("sr4", "gaussian_blur", "motion_blur", "inpaint_box"):
    _preset = PRESETS[f"dps/{_name}"]
    PRESETS[f"dps/{_name}_poisson"] = _preset._replace(
        noise=CLEAN, poisson=1.0, about=f"{_preset.about}; Poisson noise of rate 1"
    )
