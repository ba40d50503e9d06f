"""Posterior samplers, one method a file, and the one loop that runs them."""

from jaxdiff.samplers._methods.annealed_langevin import AnnealedLangevin, annealed_langevin
from jaxdiff.samplers._methods.daps import DAPS, daps
from jaxdiff.samplers._methods.ddnm import DDNM, ddnm
from jaxdiff.samplers._methods.ddrm import DDRM, ddrm
from jaxdiff.samplers._methods.diffpir import DiffPIR, diffpir
from jaxdiff.samplers._methods.dpm_solver import DPMSolver, dpm_solver
from jaxdiff.samplers._methods.dps import DPS, dps
from jaxdiff.samplers._methods.dsg import DSG, dsg
from jaxdiff.samplers._methods.fast_dips import FastDIPS, fast_dips
from jaxdiff.samplers._methods.fps import FPS, fps
from jaxdiff.samplers._methods.heun import Heun, heun
from jaxdiff.samplers._methods.lgd_mc import LGDMC, lgd_mc
from jaxdiff.samplers._methods.mcg import MCG, mcg
from jaxdiff.samplers._methods.mmps import MMPS, mmps
from jaxdiff.samplers._methods.pigdm import PiGDM, pigdm
from jaxdiff.samplers._methods.pnp_dm import PnPDM, pnp_dm
from jaxdiff.samplers._methods.reddiff import REDDiff, reddiff
from jaxdiff.samplers._methods.repaint import RePaint, repaint, resampling_grid
from jaxdiff.samplers._methods.score_ald import ScoreALD, score_ald
from jaxdiff.samplers._methods.sdedit import SDEdit, sdedit
from jaxdiff.samplers._methods.sitcom import SITCOM, sitcom
from jaxdiff.samplers._methods.tds import TDS, tds
from jaxdiff.samplers._methods.tmpd import TMPD, tmpd
from jaxdiff.samplers._methods.unconditional import ddim, ddpm
from jaxdiff.samplers.base import GuidedSampler, Info, Sampler, State
from jaxdiff.samplers.continuous import denoise_ve
from jaxdiff.samplers.grids import karras_grid, log_snr_grid
from jaxdiff.samplers.loop import grid_for, run, sample, start
from jaxdiff.samplers.posterior import Posterior, posterior
from jaxdiff.samplers.transitions import DDIM, DDPM, Transition

__all__ = [
    "AnnealedLangevin",
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
    "grid_for",
    "heun",
    "karras_grid",
    "lgd_mc",
    "log_snr_grid",
    "mcg",
    "mmps",
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
    "start",
    "tds",
    "tmpd",
]
