"""Posterior samplers, one method a file, and the one loop that runs them."""

from jaxdiff.samplers.annealed_langevin import AnnealedLangevin, annealed_langevin
from jaxdiff.samplers.base import GuidedSampler, Info, Sampler, State
from jaxdiff.samplers.continuous import denoise_ve
from jaxdiff.samplers.daps import DAPS, daps
from jaxdiff.samplers.ddnm import DDNM, ddnm
from jaxdiff.samplers.ddrm import DDRM, ddrm
from jaxdiff.samplers.diffpir import DiffPIR, diffpir
from jaxdiff.samplers.dpm_solver import DPMSolver, dpm_solver
from jaxdiff.samplers.dps import DPS, dps
from jaxdiff.samplers.dsg import DSG, dsg
from jaxdiff.samplers.exact import gaussian_posterior, mixture_posterior, moment_errors, sliced_wasserstein
from jaxdiff.samplers.fast_dips import FastDIPS, fast_dips
from jaxdiff.samplers.fps import FPS, fps
from jaxdiff.samplers.grids import karras_grid, log_snr_grid
from jaxdiff.samplers.heun import Heun, heun
from jaxdiff.samplers.lgd_mc import LGDMC, lgd_mc
from jaxdiff.samplers.loop import grid_for, run, sample, start
from jaxdiff.samplers.mcg import MCG, mcg
from jaxdiff.samplers.mmps import MMPS, mmps
from jaxdiff.samplers.pigdm import PiGDM, pigdm
from jaxdiff.samplers.pnp_dm import PnPDM, pnp_dm
from jaxdiff.samplers.posterior import Calibration, Posterior, calibration, coverage, posterior
from jaxdiff.samplers.reddiff import REDDiff, reddiff
from jaxdiff.samplers.repaint import RePaint, repaint, resampling_grid
from jaxdiff.samplers.score_ald import ScoreALD, score_ald
from jaxdiff.samplers.sdedit import SDEdit, sdedit
from jaxdiff.samplers.sitcom import SITCOM, sitcom
from jaxdiff.samplers.tds import TDS, tds
from jaxdiff.samplers.tmpd import TMPD, tmpd
from jaxdiff.samplers.transitions import DDIM, DDPM, Transition
from jaxdiff.samplers.unconditional import ddim, ddpm

__all__ = [
    "AnnealedLangevin",
    "Calibration",
    "DAPS",
    "DDIM",
    "DDNM",
    "DDPM",
    "DDRM",
    "DPMSolver",
    "DPS",
    "DSG",
    "DiffPIR",
    "FPS",
    "FastDIPS",
    "GuidedSampler",
    "Heun",
    "Info",
    "LGDMC",
    "MCG",
    "MMPS",
    "PiGDM",
    "PnPDM",
    "Posterior",
    "REDDiff",
    "RePaint",
    "SDEdit",
    "SITCOM",
    "Sampler",
    "ScoreALD",
    "State",
    "TDS",
    "TMPD",
    "Transition",
    "annealed_langevin",
    "calibration",
    "coverage",
    "daps",
    "ddim",
    "ddnm",
    "ddpm",
    "ddrm",
    "denoise_ve",
    "diffpir",
    "dpm_solver",
    "dps",
    "dsg",
    "fast_dips",
    "fps",
    "gaussian_posterior",
    "grid_for",
    "heun",
    "karras_grid",
    "lgd_mc",
    "log_snr_grid",
    "mcg",
    "mixture_posterior",
    "mmps",
    "moment_errors",
    "pigdm",
    "pnp_dm",
    "posterior",
    "reddiff",
    "repaint",
    "resampling_grid",
    "run",
    "sample",
    "score_ald",
    "sdedit",
    "sitcom",
    "sliced_wasserstein",
    "start",
    "tds",
    "tmpd",
]
