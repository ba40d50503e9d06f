"""Quality measures that compare two images [H, W, C] in [-1, 1], and the features by which sets of images are compared.

`evaluate` takes a batch too and gives all of them; use `jax.vmap` for batches with the others.
"""

from jaxdiff.metrics.image import psnr, ssim
from jaxdiff.metrics.inception import inception_features, inception_params
from jaxdiff.metrics.lpips import lpips, lpips_embedding, lpips_layers, lpips_params
from jaxdiff.metrics.together import evaluate

__all__ = [
    "evaluate",
    "inception_features",
    "inception_params",
    "lpips",
    "lpips_embedding",
    "lpips_layers",
    "lpips_params",
    "psnr",
    "ssim",
]
