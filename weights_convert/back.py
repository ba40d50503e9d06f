"""``jaxdiff convert PRIOR OUT --to FORM``: a prior as other codes read it. Nothing is computed, so the way back is exact."""

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdiff.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from jaxdiff.files import atomic
from jaxdiff.models import PriorConfig, SongConfig
from weights_convert import names
from weights_convert.diffusers_folder import UNET, WEIGHTS
from weights_convert.export import write_tensors
from weights_convert.families import ddpm, diffusers, edm, rules, score_sde
from weights_convert.infer import check_published

__all__ = ["FORMS", "write_back"]

FORMS = ("diffusers", "safetensors", "torch-names")
NAMES = {"edm": edm.names, "ddpm": ddpm.names, "diffusers": diffusers.names, "score-sde": score_sde.names}
VERSION = "0.30.0"
"""Oldest diffusers that has every field of the configuration."""


def write_back(prior: str, out: pathlib.Path, form: str, family: str | None = None, *, overwrite: bool = False) -> str:
    """Write a prior for another code.

    Args:
        prior: an embedded prior, or the path of one.
        out: the folder (diffusers) or file to make.
        form: one of ``FORMS``: a folder of diffusers; our names as safetensors; a state dict by a family's names.
        family: whose names, where the prior does not record where it comes from.
        overwrite: replace what an earlier conversion wrote to OUT.

    Returns:
        One line that says what was written.

    Raises:
        ValueError: if OUT is taken, or the form cannot express the prior.
    """
    if form == "safetensors" and out.suffix != ".safetensors":
        out = out.with_name(f"{out.name}.safetensors")
    _check_place(prior, out, form, overwrite)
    checkpoint = load_checkpoint(prior)
    if form == "safetensors":
        save_checkpoint(out, checkpoint.params, checkpoint.config, metadata=checkpoint.metadata, overwrite=overwrite)
        return f"{prior} -> {out}, by jaxdiff's names"
    if form == "diffusers":
        _write_diffusers(checkpoint, out)
        return f"{prior} -> {out}, a folder of diffusers"
    family, tensors = _by_names(checkpoint, family)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as partial:
        write_tensors(partial, tensors)
    return f"{prior}: {len(tensors)} tensors -> {out}, by the names of {family}"


def _check_place(prior: str, out: pathlib.Path, form: str, overwrite: bool) -> None:
    """See that OUT can be written, and that nothing is lost but what an earlier conversion wrote."""
    if form == "torch-names" and out.suffix not in (".pt", ".safetensors"):
        raise ValueError(f"{out} must end in .safetensors or .pt.")
    if not os.path.exists(out):
        return
    if not overwrite:
        raise ValueError(f"{out} exists already; choose another OUT, or add --overwrite.")
    source, place = pathlib.Path(prior).resolve(), out.resolve()
    if place.is_relative_to(source) or source.is_relative_to(place):
        raise ValueError(f"{out} holds the prior itself, which would be lost; choose another OUT.")
    if out.is_dir() != (form == "diffusers"):
        raise ValueError(f"{out} is a {'folder' if out.is_dir() else 'file'}, which --to {form} does not replace.")
    inside = [path for path in out.rglob("*") if not path.is_dir()] if out.is_dir() else []
    if foreign := [path for path in inside if path.relative_to(out).as_posix() not in FOLDER]:
        raise ValueError(
            f"{foreign[0]} is no part of a folder that was converted, and is not overwritten; move it away."
        )


def _by_names(checkpoint: Checkpoint, family: str | None) -> tuple[str, dict[str, np.ndarray]]:
    config, source = checkpoint.config, checkpoint.metadata.get("source", {})
    family = family or (source.get("family") if isinstance(source, dict) else None)
    if isinstance(config.unet, SongConfig):
        if family not in NAMES:
            raise ValueError(f"the prior does not record whose names it had; give --family {', '.join(NAMES)}.")
        return family, rules.restore(checkpoint.params, NAMES[family](config.unet))
    check_published(config)
    tensors = names.to_torch(traverse_util.flatten_dict(checkpoint.params, sep="/"))
    if family == "consistency":
        tensors = {name: value[..., None] if value.ndim == 3 else value for name, value in tensors.items()}
    return family or "guided-diffusion", {name: np.ascontiguousarray(value) for name, value in tensors.items()}


# --- diffusers -------------------------------------------------------------------------


FOLDER = (
    "model_index.json", "unet/config.json", f"unet/{WEIGHTS}.safetensors", "scheduler/scheduler_config.json",
)  # fmt: skip
"""The files of a folder of diffusers."""


def _write_diffusers(checkpoint: Checkpoint, out: pathlib.Path) -> None:
    config = checkpoint.config
    if not isinstance(config.unet, SongConfig):
        raise ValueError("diffusers has no network like guided-diffusion's; write --to torch-names.")
    unet, scheduler = _unet(config.unet), _scheduler(config)
    try:
        fits = _comparable(diffusers.config_from(unet, scheduler)) == _comparable(config)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("UNet2DModel of diffusers cannot express this network or its process; write --to torch-names.")
    import safetensors.numpy

    pipeline = "ScoreSdeVePipeline" if scheduler["_class_name"] == "ScoreSdeVeScheduler" else "DDPMPipeline"
    index = {"_class_name": pipeline, "_diffusers_version": VERSION, "unet": ["diffusers", "UNet2DModel"]}
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name[:32]}.", suffix=".partial", dir=out.parent))
    try:
        whole = folder / "whole"
        about = {"_class_name": "UNet2DModel", "_diffusers_version": VERSION, **unet}
        index_at, unet_at, weights_at, scheduler_at = (whole / place for place in FOLDER)
        for place, values in {index_at: index, unet_at: about, scheduler_at: scheduler}.items():
            place.parent.mkdir(exist_ok=True)
            place.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        tensors = rules.restore(checkpoint.params, diffusers.names(config.unet))
        safetensors.numpy.save_file(tensors, weights_at, metadata={"format": "pt"})
        if out.is_dir():
            out.rename(folder / "replaced")
        whole.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unet(config: SongConfig) -> dict[str, Any]:
    """The arguments of UNet2DModel that come nearest."""
    skip = "Skip" if config.input_pyramid == "skip" else ""
    levels = range(config.depth + 1)
    fourier = config.embedding == "fourier"
    return (
        UNET
        | {
            "sample_size": config.image_size,
            "in_channels": config.in_channels,
            "out_channels": config.out_channels,
            "center_input_sample": config.center_input,
            "time_embedding_type": config.embedding,
            "freq_shift": int(config.freq_shift) if config.freq_shift in (0, 1) else config.freq_shift,
            "flip_sin_to_cos": not config.sin_first,
            "down_block_types": [f"{'Attn' * (i in config.attend_down)}{skip}DownBlock2D" for i in levels],
            "up_block_types": [f"{'Attn' * (i in config.attend_up)}{skip}UpBlock2D" for i in reversed(levels)],
            "block_out_channels": list(config.channels),
            "layers_per_block": config.num_res_blocks,
            "mid_block_scale_factor": config.middle_scale,
            "downsample_padding": config.downsample_padding,
            "downsample_type": "resnet" if "res" in config.downsample and not skip else "conv",
            "upsample_type": "resnet" if "res" in config.upsample and not skip else "conv",
            "dropout": config.dropout,
            "act_fn": config.activation,
            "attention_head_dim": config.head_channels,
            "norm_num_groups": None if skip else config.norm_groups,
            "attn_norm_num_groups": config.middle_groups or None,
            "norm_eps": config.epsilon,
            "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
            "num_class_embeds": config.num_classes,
            "add_attention": config.middle == "attention",
        }
        | ({"flip_sin_to_cos": True} if fourier else {})
    )


def _scheduler(config: PriorConfig) -> dict[str, Any]:
    """The scheduler that comes nearest."""
    form = config.preconditioning
    if form is not None:
        low, high = config.schedule_range or (0.01, 1348.0)
        scale = 2 if form.data_range[0] == 0 else 1
        return {
            "_class_name": "ScoreSdeVeScheduler", "_diffusers_version": VERSION, "num_train_timesteps": 2000,
            "sigma_min": low / scale, "sigma_max": high / scale, "sampling_eps": 1e-5, "snr": 0.15, "correct_steps": 1,
        }  # fmt: skip
    betas = {ours: theirs for theirs, ours in diffusers.BETAS.items()}
    predictions = {ours: theirs for theirs, ours in diffusers.PREDICTIONS.items()}
    start, end = config.schedule_range or (0.1 / config.num_steps, 20 / config.num_steps)
    return {
        "_class_name": "DDPMScheduler", "_diffusers_version": VERSION, "num_train_timesteps": config.num_steps,
        "beta_schedule": betas.get(config.schedule), "beta_start": start, "beta_end": end,
        "prediction_type": predictions.get(config.prediction), "variance_type": config.variance, "clip_sample": True,
    }  # fmt: skip


def _comparable(config: PriorConfig) -> PriorConfig:
    """Without what has no bearing: fields of classes where there are none, equal groups, unused levels, a last digit."""
    unet = config.unet
    assert isinstance(unet, SongConfig)
    told: dict[str, Any] = {"label_rounding": "diffusers"}
    if unet.num_classes is None:
        told |= {"label_place": "embedding", "null_label": False}
    if unet.embedding == "fourier":
        told |= {"freq_shift": 0.0}
    if unet.input_pyramid == "none":
        told |= {"resample_filter": (), "resampled_shortcut": False} if "res" not in unet.downsample else {}
        # A floor on a group's channels that no layer reaches.
        told |= (
            {"group_channels": 1} if all(w // unet.group_channels >= unet.norm_groups for w in unet.channels) else {}
        )
    form = config.preconditioning
    if form is None and config.schedule_range is None and config.schedule == "linear":
        config = dataclasses.replace(config, schedule_range=(0.1 / config.num_steps, 20 / config.num_steps))
    if form is not None:
        form = dataclasses.replace(form, levels=1000, sigma_range=(0.01, 50.0))
    return dataclasses.replace(config, unet=dataclasses.replace(unet, **told), preconditioning=form)
