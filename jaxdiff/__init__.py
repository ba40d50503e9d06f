"""jaxdiff: image restoration with diffusion priors, in JAX."""

from jaxdiff import denoisers, diffusion, hosts, metrics, operators, samplers, schedules, tasks
from jaxdiff.checkpoints import load_denoiser
from jaxdiff.denoisers import Denoiser, GaussianMixturePrior, GaussianPrior, Prediction
from jaxdiff.engine import restore
from jaxdiff.problems import Problem, observe
from jaxdiff.runtime import fast_cpu
from jaxdiff.samplers.loop import sample
from jaxdiff.samplers.posterior import posterior
from jaxdiff.schedules import NoiseSchedule

__version__ = "0.1.0"

__all__ = [
    "Denoiser",
    "GaussianMixturePrior",
    "GaussianPrior",
    "NoiseSchedule",
    "Prediction",
    "Problem",
    "denoisers",
    "fast_cpu",
    "diffusion",
    "hosts",
    "load_denoiser",
    "metrics",
    "observe",
    "operators",
    "posterior",
    "restore",
    "sample",
    "samplers",
    "schedules",
    "tasks",
]
