"""The description of a training run. It is checked before anything else happens."""

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
        path: a folder, with its sub-folders, or a .zip file.
        weight: how often its images are shown, compared with those of a source of weight 1.
    """

    path: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images for training and for evaluation.

    Attributes:
        sources: folders and zips.
        flip: mirror each image left to right with probability 1/2.
        random_crop: crop along the longer side at random, not at the centre.
        holdout: the number of images, from all sources, that are kept for evaluation and not used for training.
        holdout_path: evaluate on these images instead, and train on all others.
        cache_gib: memory for decoded images, in GiB. Images that do not fit are decoded each time.
        workers: threads that decode images.
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
        path: as for ``init``.
        times: [first, last) of the timesteps at which it is used. By default, these are all.
    """

    path: str
    times: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss of one image at one noise level.

    Attributes:
        levels: how noise levels are drawn. "uniform" is uniform over the timesteps. "log_normal" is
            ln σ ~ N(level_mean, level_std²), as in EDM.
        level_mean: mean of ln σ, with σ on [-1, 1].
        level_std: standard deviation of ln σ.
        weighting: "simple" (mean squared error of the network's output) or "min_snr".
        min_snr_gamma: γ in the weight min(SNR + κ, γ).
        min_snr_floor: κ in this weight. If it is above 0, the highest noise keeps some weight.
        vlb_weight: λ of the hybrid loss, for learned variances.
        teachers: priors whose x̂₀ replaces a part of the training target. They help if a network changes its prediction, or
            is smaller. Each teacher gets an equal part of a batch, so all teachers together cost as much as one.
        teacher_share: the part of the target that they replace, between 0 and 1.
        teacher_snr: the SNR ᾱ/(1−ᾱ) at which they replace half of this part. At higher noise, they replace less.
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
        batch_size: images in an update, over all devices and hosts.
        accumulate: the number of parts in which a batch is computed, to save memory. Only dropout masks and the choice of
            teacher depend on it.
        learning_rate: the peak of the learning rate.
        warmup_steps: updates in which the learning rate rises to its peak.
        decay: how it goes on, "cosine" or "constant".
        final_fraction: fraction of the peak at the end of the cosine.
        weight_decay: decoupled weight decay, for kernels only.
        b1: decay of the first moment.
        b2: decay of the second moment.
        clip_norm: largest global norm of a gradient. 0 switches clipping off.
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
    """How often to log, evaluate and write a checkpoint.

    Attributes:
        log_every: updates between rows of ``log.csv``.
        eval_every: updates between evaluations, which also draw samples. 0 evaluates only at the end.
        checkpoint_every: updates between checkpoints.
        keep: the number of checkpoints that are kept.
        samples: the number of samples in an evaluation. It can be 0.
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
    """A training run. ``to_json`` and ``from_json`` are exact inverses.

    Attributes:
        prior: the network and the diffusion process. In JSON, it can also be the name of a preset.
        data: the images.
        loss: the loss.
        optimizer: AdamW and its schedule.
        report: evaluations and checkpoints.
        steps: the number of updates.
        ema: decays of the moving averages. The first average is evaluated, and exported as ``prior``.
        dtype: "float32" or "bfloat16", the type of the network's arithmetic. Parameters stay in float32.
        seed: decides the initial weights, the order of images, crops, flips, timesteps and noise.
        init: the checkpoint or embedded prior from whose weights the training starts.
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
        """The run that ``to_dict`` described. Missing fields get their defaults.

        Raises:
            ValueError: if a field is unknown, or a value is impossible.
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
