"""Denoisers: a network with its noise schedule, your own network, autoguidance, and priors with a known posterior."""

from jaxdiff.denoisers.exact import GaussianMixturePrior, GaussianPrior, gaussian_mixture_prior, gaussian_prior
from jaxdiff.denoisers.guided import Autoguided, autoguided
from jaxdiff.denoisers.network import PREDICTIONS, VARIANCES, Denoiser, DenoiserLike, Prediction
from jaxdiff.denoisers.own import from_function, from_module
from jaxdiff.models.preconditioning import Preconditioning

__all__ = [
    "PREDICTIONS",
    "VARIANCES",
    "Autoguided",
    "Denoiser",
    "DenoiserLike",
    "GaussianMixturePrior",
    "GaussianPrior",
    "Preconditioning",
    "Prediction",
    "autoguided",
    "from_function",
    "from_module",
    "gaussian_mixture_prior",
    "gaussian_prior",
]
