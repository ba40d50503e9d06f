"""jaxdiff: image restoration with diffusion priors, in JAX."""

from functools import partial

from jaxdiff import denoisers, diffusion, hosts, metrics, noise, operators, plots, samplers, schedules, tasks, testing
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
    "noise",
    "observe",
    "operators",
    "plots",
    "posterior",
    "restore",
    "sample",
    "samplers",
    "schedules",
    "tasks",
    "testing",
]

for _module in (denoisers, diffusion, hosts, metrics, noise, operators, plots, samplers, schedules, tasks, testing):
    setattr(_module, "__dir__", partial(list, _module.__all__))  # noqa: B010  # what completion offers
