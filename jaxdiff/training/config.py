"""One readable description of a training run: what it says is checked before anything else happens."""

import dataclasses
import json
import math
import types
import typing
from importlib import resources
from pathlib import Path
from typing import Any

from jaxdiff.files import parse_json
from jaxdiff.models import PRESETS, PriorConfig
from jaxdiff.models.networks import network_named
from jaxdiff.names import nearest
from jaxdiff.training.checks import check

__all__ = [
    "DataConfig",
    "LossConfig",
    "OptimizerConfig",
    "ReportConfig",
    "Source",
    "Teacher",
    "TrainConfig",
    "bundled",
    "load_config",
]


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder or zip of images.

    Attributes:
        path: the folder (searched below too) or .zip file.
        weight: how many times as often one of its images is seen as one of a source of weight 1.
    """

    path: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images to learn from, and those to measure on.

    Attributes:
        sources: folders and zips.
        flip: mirror each image left to right with probability 1/2.
        random_crop: crop along the longer side at random; else at the centre.
        holdout: how many images to keep out of training for the measurements (spread over the sources).
        holdout_path: measure on these images instead, and train on all.
        cache_gib: keep decoded images in memory up to this much; above it they are decoded each time.
        workers: threads that decode.
    """

    sources: tuple[Source, ...] = ()
    flip: bool = True
    random_crop: bool = False
    holdout: int = 64
    holdout_path: str | None = None
    cache_gib: float = 4.0
    workers: int = 4


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A prior to learn from.

    Attributes:
        path: as ``init``.
        times: [first, last) of the timesteps at which it is asked; none: all of them.
    """

    path: str
    times: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss of one image at one noise level.

    Attributes:
        levels: how noise levels are drawn: "uniform" over the timesteps, or "log_normal": ln σ ~ N(level_mean, level_std²),
            as EDM does.
        level_mean: mean of ln σ, with σ on [-1, 1].
        level_std: standard deviation of ln σ.
        weighting: "simple" (mean squared error of what the network predicts) or "min_snr".
        min_snr_gamma: γ of min(SNR + κ, γ).
        min_snr_floor: κ of it; above 0 the highest noise keeps some weight.
        vlb_weight: λ of the hybrid loss, for learned variances.
        teachers: priors whose x̂₀ stands for part of the image in the target. A network that changes its prediction, or a
            smaller one, learns faster from them than from noisy images. Each is asked for an equal part of a batch, so
            that all of them cost as much as one. Their mean is better than any of them.
        teacher_share: the part of the image that they stand for, between 0 and 1.
        teacher_snr: ᾱ/(1−ᾱ) where only half that part is theirs; where the noise is higher no teacher sees much.
    """

    levels: str = "uniform"
    level_mean: float = -1.2
    level_std: float = 1.2
    weighting: str = "simple"
    min_snr_gamma: float = 5.0
    min_snr_floor: float = 0.0
    vlb_weight: float = 0.001
    teachers: tuple[Teacher, ...] = ()
    teacher_share: float = 0.5
    teacher_snr: float = 0.03


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its schedule.

    Attributes:
        batch_size: images an update, over all devices and hosts.
        accumulate: parts into which a batch is cut to save memory. The result is that of the whole, with two exceptions:
            dropout masks and the choice of teacher go by an image's place in its part of the batch.
        learning_rate: its peak.
        warmup_steps: updates over which it rises from 0.
        decay: "cosine" or "constant" afterwards.
        final_fraction: fraction of the peak at the end of the cosine.
        weight_decay: decoupled, of kernels only.
        b1: decay of the first moment.
        b2: decay of the second moment.
        clip_norm: largest global norm of a gradient; 0 for no clipping.
    """

    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 2e-4
    warmup_steps: int = 500
    decay: str = "cosine"
    final_fraction: float = 0.01
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.99
    clip_norm: float = 1.0


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """How often to log, measure and keep a checkpoint.

    Attributes:
        log_every: updates a row of ``log.csv``.
        eval_every: updates between measurements and sample sheets; 0 for only at the end.
        checkpoint_every: updates between checkpoints.
        keep: checkpoints kept.
        samples: images on a sample sheet; 0 for none.
        sample_steps: DDIM steps of a sample.
        times: timesteps at which held-out images are denoised.
    """

    log_every: int = 50
    eval_every: int = 5000
    checkpoint_every: int = 1000
    keep: int = 2
    samples: int = 16
    sample_steps: int = 50
    times: tuple[int, ...] = (10, 50, 100, 250, 500, 750)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run; ``to_json`` and ``from_json`` are exact inverses.

    Attributes:
        prior: network and diffusion process (or, in JSON, the name of a preset).
        data: the images.
        loss: the loss.
        optimizer: AdamW and its schedule.
        report: measurements and checkpoints.
        steps: updates.
        ema: decays of the moving averages; the first is measured, sampled from and exported as ``prior``.
        dtype: "float32" or "bfloat16", the type of the network's arithmetic; parameters stay float32.
        seed: decides initial weights, order of images, crops, flips, timesteps and noise.
        init: start from the weights of this checkpoint or embedded prior.
    """

    prior: PriorConfig
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    report: ReportConfig = ReportConfig()
    steps: int = 100_000
    ema: tuple[float, ...] = (0.9999, 0.999)
    dtype: str = "float32"
    seed: int = 0
    init: str | None = None

    def __post_init__(self) -> None:
        check(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries."""
        return _plain(dataclasses.asdict(self)) | {"prior": self.prior.to_dict()}

    def to_json(self) -> str:
        """Readable JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """The run that ``to_dict`` described; left-out fields take their defaults.

        Raises:
            ValueError: an unknown field (the nearest known one is named) or an impossible value.
        """
        if not isinstance(values, dict) or "prior" not in values:
            raise ValueError('a training configuration needs "prior": the name of a preset or a description.')
        prior = values["prior"]
        if isinstance(prior, str):
            prior = _preset(prior)
        elif isinstance(prior, dict):
            prior = _prior(prior)
        return _build(cls, values | {"prior": prior}, "")

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """The run that ``to_json`` described."""
        try:
            values = parse_json(text)
        except ValueError as error:
            raise ValueError(f"the configuration is no valid JSON ({error}).") from None
        return cls.from_dict(values)


def _preset(name: Any) -> PriorConfig:
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"no preset is called {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def _prior(values: dict[str, Any]) -> PriorConfig:
    """A prior from a description, where left-out fields take their defaults, or {"preset": name, ...changes}."""
    values = dict(values)
    base = _preset(values.pop("preset", "faces64")).to_dict()
    family = network_named(values.get("network", base["network"]))
    if family.name != base["network"]:
        base["unet"] = family.config().to_dict()
    unknown = sorted(set(values) - set(base))
    if unknown:
        raise ValueError(f"unknown field prior.{unknown[0]}; {_hint(unknown[0], base)}")
    unet = values.get("unet", {})
    if not isinstance(unet, dict):
        raise ValueError(f"prior.unet must be a group of fields, got {unet!r}.")
    return PriorConfig.from_dict(base | values | {"unet": base["unet"] | unet})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _hint(name: str, known: Any) -> str:
    close = nearest(name, known, cutoff=0.6)
    return f"did you mean {close!r}?" if close else f"the fields are {', '.join(known)}."


def _build(cls: Any, values: Any, where: str) -> Any:
    """A dataclass from plain JSON values, each checked against its annotation."""
    if not isinstance(values, dict):
        raise ValueError(f"{where.rstrip('.') or 'the configuration'} must be a group of fields, got {values!r}.")
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in hints:
            raise ValueError(f"unknown field {where}{name}; {_hint(name, hints)}")
    if cls in (Source, Teacher) and "path" not in values:
        raise ValueError(f"{where.rstrip('.')} needs a path.")
    return cls(**{name: _coerce(hints[name], value, where + name) for name, value in values.items()})


def _coerce(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _build(hint, value, name + ".")  # type: ignore[arg-type]
    if isinstance(hint, types.UnionType):
        return None if value is None else _coerce(typing.get_args(hint)[0], value, name)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list, got {value!r}.")
        return tuple(_coerce(typing.get_args(hint)[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    good = isinstance(value, (int, float) if hint is float else hint)
    if not good or (isinstance(value, bool) and hint is not bool) or (hint is float and not math.isfinite(value)):
        raise ValueError(f"{name} must be {kinds[hint]}, got {value!r}.")
    return float(value) if hint is float else value


def bundled() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("jaxdiff.training").joinpath("configs")
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".json"))


def load_config(name_or_path: str, overrides: dict[str, Any] | None = None) -> TrainConfig:
    """Read a configuration, bundled (by name) or from a file, and change some of its fields.

    Args:
        name_or_path: e.g. "faces64_minutes" or "runs/a/config.json".
        overrides: dotted field names → values, such as {"optimizer.learning_rate": 1e-4}.

    Raises:
        ValueError: no such configuration, or it is not a possible one.
    """
    path: Any = Path(name_or_path)
    if name_or_path in bundled():
        path = resources.files("jaxdiff.training").joinpath(f"configs/{name_or_path}.json")
    elif not path.is_file():
        raise ValueError(f"there is no configuration {name_or_path}; give a file, or one of {', '.join(bundled())}.")
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name_or_path} is no valid JSON ({error}).") from None
    if not isinstance(values, dict):
        raise ValueError(f'{name_or_path} is no training configuration, which is a group of fields and needs "prior".')
    return TrainConfig.from_dict(override(values, overrides or {}))


def override(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested ``values`` with dotted fields set; a preset's name becomes a group where one is needed."""
    values = json.loads(json.dumps(values))
    for name, value in changes.items():
        *groups, last = name.split(".")
        inner = values
        for group in groups:
            if isinstance(inner.get(group), str) and group == "prior":
                inner[group] = {"preset": inner[group]}
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{name} cannot be set: {group} is not a group of fields.")
        inner[last] = value
    return values
