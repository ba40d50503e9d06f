"""Tasks as papers set them up, by origin: operator, noise and its scale, padding, mask rule, seed.

"Gaussian deblurring" is a different operator in almost every code, so each origin has its own.
"""

import numpy as np

from jaxdiff import operators as ops
from jaxdiff.tasks import makers
from jaxdiff.tasks.task import CLEAN, DOUBLED, LIGHT, Noise, Rows, Task, table

__all__ = ["PUBLISHED"]

# Chung et al., ICLR 2023 (DPS), configs/*.yaml at effbde7.
DPS: Rows = {
    "sr4": (makers.bicubic(4), LIGHT, "antialiased bicubic x4", "super_resolution"),
    "gaussian_blur": (makers.gaussian("reflect"), LIGHT, "Gaussian 61x61, std 3, reflection"),
    "motion_blur": (makers.motion("reflect"), LIGHT, "motion 61x61, intensity 0.5, reflection, new kernel each run"),
    "inpaint_box": (makers.box(16), LIGHT, "box of 128 at random, margin 16; noise on hidden pixels too"),
    "inpaint_random": (
        lambda key, shape: ops.inpaint_random(key, image_shape=shape, min_fraction=0.3, max_fraction=0.7),
        LIGHT,
        "30 to 70 % of the pixels hidden (the configuration as shipped)",
    ),
    "inpaint_random_92": (
        makers.random(0.92),
        LIGHT,
        "92 % of the pixels hidden (the paper's table)",
        "inpaint_random",
    ),
    "phase_retrieval": (makers.phase((-1, 1)), LIGHT, "Fourier magnitude, oversampling 2, images on [-1, 1]"),
}

# Zhang et al., CVPR 2025 (DAPS), configs/task; seed 42.
DAPS: Rows = {
    "sr4": (makers.bicubic(4), LIGHT, "antialiased bicubic x4", "super_resolution"),
    "gaussian_blur": (makers.gaussian("reflect"), LIGHT, "Gaussian 61x61, std 3, reflection"),
    "motion_blur": (makers.motion("reflect"), LIGHT, "motion 61x61, intensity 0.5, reflection"),
    "inpaint_box": (makers.box(32), LIGHT, "box of 128 at random, margin 32"),
    "inpaint_random": (makers.random(0.7), LIGHT, "70 % of the pixels hidden"),
    "phase_retrieval": (makers.phase((0, 1)), LIGHT, "Fourier magnitude, oversampling 2, images on [0, 1]"),
    "hdr": (
        lambda key, shape: ops.high_dynamic_range(image_shape=shape),
        LIGHT,
        "clip(2x, -1, 1)",
        "high_dynamic_range",
    ),
}

# Kawar et al., NeurIPS 2022 (DDRM), runners/diffusion.py and functions/svd_replacement.py; σ is doubled there.
DDRM: Rows = {
    "denoise": (lambda key, shape: ops.denoise(image_shape=shape), DOUBLED, "noise only"),
    "sr2": (makers.blocks(2), DOUBLED, "mean of 2x2 blocks", "super_resolution"),
    "sr4": (makers.blocks(4), DOUBLED, "mean of 4x4 blocks", "super_resolution"),
    "sr8": (makers.blocks(8), DOUBLED, "mean of 8x8 blocks", "super_resolution"),
    "deblur_gauss": (
        makers.truncated_blur(makers.taps(5, 10.0), makers.taps(5, 10.0)),
        DOUBLED,
        "separable, 5 taps of std 10 of which the code uses 4, zero padding, singular values below 0.03 dropped",
        "gaussian_blur",
    ),
    "deblur_uni": (
        makers.truncated_blur(np.full(9, 1 / 9), np.full(9, 1 / 9)),
        DOUBLED,
        "separable, 9 equal taps of which the code uses 8, zero padding, singular values below 0.03 dropped",
        "gaussian_blur",
    ),
    "color": (lambda key, shape: ops.grayscale(image_shape=shape), DOUBLED, "mean of the channels", "grayscale"),
    "inpaint_random": (makers.random(0.5), DOUBLED, "half of the pixels hidden"),
    "cs4": (makers.hadamard(0.25), DOUBLED, "a quarter of the Walsh-Hadamard coefficients at random"),
}

# Wang et al., ICLR 2023 (DDNM), guided_diffusion/diffusion.py; no noise in its main tables.
DDNM: Rows = {
    "sr4": (makers.blocks(4), CLEAN, "mean of 4x4 blocks", "super_resolution"),
    "sr_bicubic4": (makers.bicubic(4), CLEAN, "antialiased bicubic x4", "super_resolution"),
    "deblur_gauss": (
        makers.truncated_blur(makers.taps(5, 10.0), makers.taps(5, 10.0)),
        CLEAN,
        "as ddrm/deblur_gauss, no noise",
        "gaussian_blur",
    ),
    "deblur_aniso": (
        makers.truncated_blur(makers.taps(9, 1.0), makers.taps(9, 20.0)),
        CLEAN,
        "separable, 9 taps of std 1 and 20 of which the code uses 8, zero padding",
        "gaussian_blur",
    ),
    "color": (lambda key, shape: ops.grayscale(image_shape=shape), CLEAN, "mean of the channels", "grayscale"),
    "cs4": (makers.hadamard(0.25), CLEAN, "a quarter of the Walsh-Hadamard coefficients at random"),
}

# Zhu et al., CVPRW 2023 (DiffPIR), main_ddpir_*.py; σ is on [0, 1].
DIFFPIR: Rows = {
    "gaussian_blur": (makers.diffpir_gaussian, DOUBLED, "Gaussian 61x61, std uniform in 3 to 9, circular"),
    "motion_blur": (
        makers.motion("circular"),
        DOUBLED,
        "motion 61x61, intensity 0.5, circular, new kernel each image",
    ),
    "sr4": (makers.bicubic(4), DOUBLED, "antialiased bicubic x4", "super_resolution"),
    "inpaint_box": (makers.box(16), CLEAN, "box of 128 at random, no noise"),
    "inpaint_random": (makers.random(0.5), CLEAN, "half of the pixels hidden, no noise"),
}

# Wu et al., NeurIPS 2024 (PnP-DM): DPS's kernel, circular.
PNPDM: Rows = {
    "gaussian_blur": (makers.gaussian("circular"), LIGHT, "Gaussian 61x61, std 3, circular"),
}

# The study does not give its mask and kernel. jaxdiff reproduce says how they were inferred from its figures.
STUDY: Rows = {
    "denoise": (lambda key, shape: ops.denoise(image_shape=shape), Noise(0.1), "noise only"),
    "deconvolution": (
        makers.gaussian("reflect"),
        LIGHT,
        "Gaussian 61x61, std 3, reflection; σ is 0.01, 0.05 or 0.1",
        "gaussian_blur",
    ),
    "inpainting": (
        makers.centred_box(4),
        LIGHT,
        "centred box of a quarter of the side; σ is 0.01, 0.05 or 0.1",
        "inpaint_small_box",
    ),
}


def _with_poisson(tasks: dict[str, Task], names: tuple[str, ...]) -> dict[str, Task]:
    return {
        f"{name}_poisson": tasks[name]._replace(
            noise=CLEAN, model="poisson:1", about=f"{tasks[name].about}; Poisson noise of rate 1"
        )
        for name in names
    }


_DPS = table("dps", DPS)
PUBLISHED: dict[str, Task] = {
    **_DPS,
    **table("daps", DAPS, seed=42),
    **table("ddrm", DDRM),
    **table("ddnm", DDNM),
    **table("diffpir", DIFFPIR),
    **table("pnpdm", PNPDM),
    **table("study", STUDY),
}
POISSON = _with_poisson(_DPS, ("dps/sr4", "dps/gaussian_blur", "dps/motion_blur", "dps/inpaint_box"))
