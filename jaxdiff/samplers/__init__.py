"""Posterior samplers, one method a file, and the one loop that runs them."""

from jaxdiff.samplers.base import GuidedSampler, Info, Sampler, State
from jaxdiff.samplers.dpm_solver import DPMSolver, dpm_solver
from jaxdiff.samplers.dps import DPS, dps
from jaxdiff.samplers.grids import karras_grid, log_snr_grid
from jaxdiff.samplers.heun import Heun, heun
from jaxdiff.samplers.loop import grid_for, run, sample, start
from jaxdiff.samplers.score_ald import ScoreALD, score_ald
from jaxdiff.samplers.sdedit import SDEdit, sdedit
from jaxdiff.samplers.transitions import DDIM, DDPM, Transition
from jaxdiff.samplers.unconditional import ddim, ddpm

__all__ = [
    "DDIM",
    "DDPM",
    "DPMSolver",
    "DPS",
    "GuidedSampler",
    "Heun",
    "Info",
    "SDEdit",
    "Sampler",
    "ScoreALD",
    "State",
    "Transition",
    "ddim",
    "ddpm",
    "dpm_solver",
    "dps",
    "grid_for",
    "heun",
    "karras_grid",
    "log_snr_grid",
    "run",
    "sample",
    "score_ald",
    "sdedit",
    "start",
]
