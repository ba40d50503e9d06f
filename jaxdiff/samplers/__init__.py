"""Posterior samplers, and the one loop that runs them.

Each method is a factory, ``jd.samplers.dps(zeta=1.0)``; ``METHODS`` and ``UNCONDITIONAL`` have them by name. A method of your
own derives from ``Sampler`` or ``GuidedSampler``.
"""

from jaxdiff.samplers._methods.annealed_langevin import annealed_langevin
from jaxdiff.samplers._methods.daps import daps
from jaxdiff.samplers._methods.ddnm import ddnm
from jaxdiff.samplers._methods.ddrm import ddrm
from jaxdiff.samplers._methods.diffpir import diffpir
from jaxdiff.samplers._methods.dpm_solver import dpm_solver
from jaxdiff.samplers._methods.dps import dps
from jaxdiff.samplers._methods.dsg import dsg
from jaxdiff.samplers._methods.fast_dips import fast_dips
from jaxdiff.samplers._methods.flower import flower
from jaxdiff.samplers._methods.fps import fps
from jaxdiff.samplers._methods.heun import heun
from jaxdiff.samplers._methods.lgd_mc import lgd_mc
from jaxdiff.samplers._methods.mcg import mcg
from jaxdiff.samplers._methods.mmps import mmps
from jaxdiff.samplers._methods.pigdm import pigdm
from jaxdiff.samplers._methods.pnp_dm import pnp_dm
from jaxdiff.samplers._methods.pnp_flow import pnp_flow
from jaxdiff.samplers._methods.reddiff import reddiff
from jaxdiff.samplers._methods.repaint import repaint
from jaxdiff.samplers._methods.score_ald import score_ald
from jaxdiff.samplers._methods.sdedit import sdedit
from jaxdiff.samplers._methods.sitcom import sitcom
from jaxdiff.samplers._methods.tds import tds
from jaxdiff.samplers._methods.tmpd import tmpd
from jaxdiff.samplers._methods.unconditional import ddim, ddpm
from jaxdiff.samplers.base import Calls, GuidedSampler, Info, Sampler, State, residual_norm
from jaxdiff.samplers.continuous import denoise_ve
from jaxdiff.samplers.grids import flow_grid, karras_grid, log_snr_grid
from jaxdiff.samplers.loop import grid_for, run, sample, start
from jaxdiff.samplers.posterior import Posterior, posterior
from jaxdiff.samplers.registry import METHODS, UNCONDITIONAL, Method, register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition

__all__ = [
    *METHODS,
    *UNCONDITIONAL,
    "METHODS",
    "UNCONDITIONAL",
    "Calls",
    "GuidedSampler",
    "Info",
    "Method",
    "Posterior",
    "Sampler",
    "State",
    "Step",
    "Transition",
    "denoise_ve",
    "flow_grid",
    "grid_for",
    "karras_grid",
    "log_snr_grid",
    "posterior",
    "register",
    "residual_norm",
    "run",
    "sample",
    "start",
]
