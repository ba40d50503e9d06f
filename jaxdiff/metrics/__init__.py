"""Image quality measures for one pair of images [H, W, C] in [-1, 1]; use `jax.vmap` for batches."""

from jaxdiff.metrics.image import psnr, ssim
from jaxdiff.metrics.lpips import lpips, lpips_embedding, lpips_layers, lpips_params

__all__ = ["lpips", "lpips_embedding", "lpips_layers", "lpips_params", "psnr", "ssim"]
