"""Denoisers: a network with its schedule, a network of one's own, and priors whose denoiser is exact."""

from jaxdiff.denoisers.exact import GaussianMixturePrior, GaussianPrior, gaussian_mixture_prior, gaussian_prior
from jaxdiff.denoisers.network import PREDICTIONS, VARIANCES, Denoiser, DenoiserLike, Prediction
from jaxdiff.denoisers.own import from_function, from_module
from jaxdiff.models.preconditioning import Preconditioning

__all__ = [
    "PREDICTIONS",
    "VARIANCES",
    "Denoiser",
    "DenoiserLike",
    "GaussianMixturePrior",
    "GaussianPrior",
    "Preconditioning",
    "Prediction",
    "from_function",
    "from_module",
    "gaussian_mixture_prior",
    "gaussian_prior",
]
