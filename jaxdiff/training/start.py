"""What a run starts from: weights of its architecture or a shallower one, and teachers of its images and noise levels."""

import json
import math

import jax
import numpy as np

from jaxdiff.checkpoints import Checkpoint, load_checkpoint, load_denoiser
from jaxdiff.denoisers import Denoiser
from jaxdiff.models import PriorConfig, UNetConfig, parameter_shapes
from jaxdiff.training.config import TrainConfig
from jaxdiff.training.growth import grow, why_not
from jaxdiff.training.state import fresh_params, schedule_of

__all__ = ["added_parameters", "initial", "teachers_of", "unlike"]


def teachers_of(config: TrainConfig) -> tuple[Denoiser, ...]:
    """The priors that stand for part of the target.

    Raises:
        ValueError: if one is of other images or noise levels.
    """
    return tuple(_teacher(config, teacher.path) for teacher in config.loss.teachers)


def _teacher(config: TrainConfig, name: str) -> Denoiser:
    teacher, unet = load_denoiser(name), config.prior.unet
    wanted = (unet.image_size, unet.image_size, unet.in_channels)
    if teacher.image_shape != wanted:
        raise ValueError(
            f"{name} of loss.teachers is of images {teacher.image_shape}, the prior to be trained of {wanted}; choose "
            "one of the same size."
        )
    there, here = teacher.schedule.alpha_bar, schedule_of(config.prior).alpha_bar
    if there.shape != here.shape or not np.allclose(there, here, rtol=1e-4, atol=1e-7):
        raise ValueError(
            f"{name} of loss.teachers has another noise schedule; choose one with prior.schedule and prior.num_steps."
        )
    return teacher


def initial(config: TrainConfig) -> Checkpoint | None:
    """What the run starts from: a checkpoint of its architecture, or one that is grown to it.

    Raises:
        ValueError: if it is of another one.
    """
    if config.init is None:
        return None
    loaded = load_checkpoint(config.init)
    if loaded.config.network != config.prior.network:
        raise ValueError(
            f"{config.init} is of the family {loaded.config.network}, the prior to be trained of {config.prior.network}; "
            "leave out --config to take over the checkpoint's own, or change prior.network."
        )
    there, here = loaded.config.unet, config.prior.unet
    if reason := why_not(there, here):
        raise ValueError(
            f"{config.init} has another architecture ({reason}); leave out --config to take over the checkpoint's own, "
            "or change prior.unet, which may only gain residual blocks and attention."
        )
    if isinstance(here, UNetConfig) and parameter_shapes(here) != parameter_shapes(there):
        fresh = jax.jit(lambda key: fresh_params(config, key))(jax.random.key(config.seed))
        return loaded._replace(params=grow(loaded.params, loaded.config.adm, here, fresh))
    return loaded


def added_parameters(here: PriorConfig, there: PriorConfig) -> int:
    """How many more parameters one prior has than another."""
    new, old = (sum(map(math.prod, parameter_shapes(prior.unet).values())) for prior in (here, there))
    return new - old


def unlike(here: PriorConfig, there: PriorConfig) -> str:
    """In which fields of the diffusion process two priors differ; the same weights then mean something else."""
    fields = ("prediction", "schedule", "num_steps", "schedule_range", "rescale_timesteps", "preconditioning")
    old, new = there.to_dict(), here.to_dict()
    pairs = {name: (json.dumps(old[name]), json.dumps(new[name])) for name in fields}
    return ", ".join(f"prior.{name} is {old} there and {new} here" for name, (old, new) in pairs.items() if old != new)
