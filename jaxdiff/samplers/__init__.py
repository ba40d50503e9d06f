"""Posterior samplers, one method a file, and the one loop that runs them."""

from jaxdiff.samplers.base import GuidedSampler, Info, Sampler, State
from jaxdiff.samplers.ddnm import DDNM, ddnm
from jaxdiff.samplers.ddrm import DDRM, ddrm
from jaxdiff.samplers.dpm_solver import DPMSolver, dpm_solver
from jaxdiff.samplers.dps import DPS, dps
from jaxdiff.samplers.dsg import DSG, dsg
from jaxdiff.samplers.grids import karras_grid, log_snr_grid
from jaxdiff.samplers.heun import Heun, heun
from jaxdiff.samplers.lgd_mc import LGDMC, lgd_mc
from jaxdiff.samplers.loop import grid_for, run, sample, start
from jaxdiff.samplers.mcg import MCG, mcg
from jaxdiff.samplers.mmps import MMPS, mmps
from jaxdiff.samplers.pigdm import PiGDM, pigdm
from jaxdiff.samplers.repaint import RePaint, repaint, resampling_grid
from jaxdiff.samplers.score_ald import ScoreALD, score_ald
from jaxdiff.samplers.sdedit import SDEdit, sdedit
from jaxdiff.samplers.tmpd import TMPD, tmpd
from jaxdiff.samplers.transitions import DDIM, DDPM, Transition
from jaxdiff.samplers.unconditional import ddim, ddpm

__all__ = [
    "DDIM",
    "DDNM",
    "DDPM",
    "DDRM",
    "DPMSolver",
    "DPS",
    "DSG",
    "GuidedSampler",
    "Heun",
    "Info",
    "LGDMC",
    "MCG",
    "MMPS",
    "PiGDM",
    "RePaint",
    "SDEdit",
    "Sampler",
    "ScoreALD",
    "State",
    "TMPD",
    "Transition",
    "ddim",
    "ddnm",
    "ddpm",
    "ddrm",
    "dpm_solver",
    "dps",
    "dsg",
    "grid_for",
    "heun",
    "karras_grid",
    "lgd_mc",
    "log_snr_grid",
    "mcg",
    "mmps",
    "pigdm",
    "repaint",
    "resampling_grid",
    "run",
    "sample",
    "score_ald",
    "sdedit",
    "start",
    "tmpd",
]
