"""Forward models y = A(x): frozen pytrees, built by the factories below."""

from jaxdiff.operators.base import LinearOperator, Operator, SpectralOperator
from jaxdiff.operators.convolution import Blur, CircularBlur, blur, defocus_blur, gaussian_blur, motion_blur
from jaxdiff.operators.kernels import disc_kernel, gaussian_kernel, motion_kernel
from jaxdiff.operators.masking import Denoise, Mask, denoise, inpaint_box, inpaint_mask, inpaint_random
from jaxdiff.operators.separable import Separable, separable

__all__ = [
    "Blur",
    "CircularBlur",
    "Denoise",
    "LinearOperator",
    "Mask",
    "Operator",
    "Separable",
    "SpectralOperator",
    "blur",
    "defocus_blur",
    "denoise",
    "disc_kernel",
    "gaussian_blur",
    "gaussian_kernel",
    "inpaint_box",
    "inpaint_mask",
    "inpaint_random",
    "motion_blur",
    "motion_kernel",
    "separable",
]
