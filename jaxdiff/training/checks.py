"""What a configuration of a training run may say: values that are possible, and that go with each other."""

from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxdiff.training.config import TrainConfig

__all__ = ["FEWEST_STEPS", "check"]

FEWEST_STEPS = {"linear": 20, "scaled_linear": 12}
"""The last beta of these schedules is a constant times 1000/T, and at most 1."""

POSITIVE = (
    "steps",
    "optimizer.batch_size",
    "optimizer.accumulate",
    "optimizer.learning_rate",
    "loss.min_snr_gamma",
    "loss.level_std",
    "report.log_every",
    "report.checkpoint_every",
    "report.keep",
    "report.sample_steps",
    "data.workers",
)
NOT_NEGATIVE = (
    "optimizer.warmup_steps",
    "optimizer.weight_decay",
    "optimizer.clip_norm",
    "loss.vlb_weight",
    "loss.min_snr_floor",
    "loss.teacher_snr",
    "report.eval_every",
    "report.samples",
    "data.holdout",
    "data.cache_gib",
    "seed",
)
LARGEST = {"seed": 2**32 - 1, "steps": 2**31 - 1}
PARTS = ("optimizer.final_fraction", "loss.teacher_share")
"""Fields in [0, 1]."""
CHOICES = {
    "loss.levels": ("uniform", "log_normal"),
    "loss.weighting": ("simple", "min_snr"),
    "optimizer.decay": ("cosine", "constant"),
    "dtype": ("float32", "bfloat16"),
}


def check(config: "TrainConfig") -> None:
    """Refuse what cannot work, before anything is read or compiled.

    Raises:
        ValueError: if a value is not possible; the sentence names its field.
    """
    _check_prior(config)
    _check_values(config)
    _check_teachers(config)
    _check_together(config)


def _check_prior(config: "TrainConfig") -> None:
    prior = config.prior
    if prior.unet.in_channels != 3:
        raise ValueError(f"the images are RGB, so in_channels must be 3, got {prior.unet.in_channels}.")
    least = FEWEST_STEPS.get(prior.schedule, 1)
    if prior.num_steps < least:
        raise ValueError(
            f"prior.num_steps must be at least {least} with prior.schedule={prior.schedule}, whose betas exceed 1 in fewer, "
            f"got {prior.num_steps}."
        )


def _check_values(config: "TrainConfig") -> None:
    """Each field by itself."""
    positive = {name: attrgetter(name)(config) for name in POSITIVE}
    positive |= {f"data.sources[{i}].weight": source.weight for i, source in enumerate(config.data.sources)}
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}.")
    for name in NOT_NEGATIVE:
        if (value := attrgetter(name)(config)) < 0:
            raise ValueError(f"{name} must not be negative, got {value}.")
    for name, most in LARGEST.items():
        if (value := attrgetter(name)(config)) > most:
            raise ValueError(f"{name} must be at most {most}, got {value}.")
    for name, allowed in CHOICES.items():
        if (value := attrgetter(name)(config)) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")
    decays = {name: attrgetter(name)(config) for name in ("optimizer.b1", "optimizer.b2")}
    for name, decay in (decays | {f"ema[{i}]": decay for i, decay in enumerate(config.ema)}).items():
        if not 0 <= decay < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {decay}.")
    for name in PARTS:
        if not 0 <= (part := attrgetter(name)(config)) <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {part}.")


def _check_teachers(config: "TrainConfig") -> None:
    teachers, micro_batch = config.loss.teachers, config.optimizer.batch_size // config.optimizer.accumulate
    if teachers and config.prior.variance.startswith("learned"):
        raise ValueError(
            "loss.teachers cannot teach a learned variance; leave them out, or take a fixed prior.variance."
        )
    if teachers and micro_batch % len(teachers):
        raise ValueError(
            f"{len(teachers)} loss.teachers share a batch, but do not divide its {micro_batch} images; choose another "
            "optimizer.batch_size."
        )
    if config.loss.levels == "log_normal" and any(teacher.times for teacher in teachers):
        raise ValueError("loss.teachers with times need loss.levels=uniform, which draws timesteps.")
    total = config.prior.num_steps
    for i, times in enumerate(teacher.times for teacher in teachers):
        if times and not (len(times) == 2 and 0 <= times[0] < times[1] <= total):
            raise ValueError(f"loss.teachers[{i}].times must be [first, last) within 0 … {total}, got {list(times)}.")


def _check_together(config: "TrainConfig") -> None:
    """Fields that depend on others."""
    opt, report, total = config.optimizer, config.report, config.prior.num_steps
    if config.loss.levels == "log_normal" and config.prior.variance.startswith("learned"):
        raise ValueError("loss.levels=log_normal has no whole timesteps to learn a variance at; take uniform.")
    if not config.ema or len(set(config.ema)) != len(config.ema):
        raise ValueError(f"ema needs one or more different decays, got {list(config.ema)}; [0] averages nothing.")
    if not report.times or not all(0 <= t < total for t in report.times):
        raise ValueError(f"report.times must lie in 0 … {total - 1}, got {list(report.times)}.")
    if report.sample_steps > total:
        raise ValueError(f"report.sample_steps must be at most {total}, got {report.sample_steps}.")
    if opt.batch_size % opt.accumulate:
        raise ValueError(
            f"optimizer.accumulate={opt.accumulate} does not divide batch_size={opt.batch_size}; choose one that does."
        )
    if opt.warmup_steps >= config.steps:
        raise ValueError(f"optimizer.warmup_steps={opt.warmup_steps} must be below steps={config.steps}.")
