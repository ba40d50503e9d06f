"""Judge draws and restorations: exact posteriors, calibration, scores."""

from jaxdiff.evaluation.calibration import Calibration, calibration, coverage
from jaxdiff.evaluation.exact import (
    MixturePosterior,
    MomentErrors,
    gaussian_posterior,
    mixture_posterior,
    moment_errors,
    sliced_wasserstein,
)
from jaxdiff.evaluation.frechet import Moments, frechet_distance, moments_from, moments_of
from jaxdiff.evaluation.kernel import KernelDistance, kernel_distance
from jaxdiff.evaluation.scores import SCORES, scores

__all__ = [
    "SCORES",
    "Calibration",
    "KernelDistance",
    "MixturePosterior",
    "MomentErrors",
    "Moments",
    "calibration",
    "coverage",
    "frechet_distance",
    "gaussian_posterior",
    "kernel_distance",
    "mixture_posterior",
    "moment_errors",
    "moments_from",
    "moments_of",
    "scores",
    "sliced_wasserstein",
]
