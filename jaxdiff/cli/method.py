"""From the options of ``jaxdiff restore`` to the method, its settings and its steps."""

import argparse
from typing import Any

from jaxdiff import tasks
from jaxdiff.cli.measurement import noise_of, recorded_as
from jaxdiff.cli.options import check_steps
from jaxdiff.denoisers import Denoiser
from jaxdiff.network_calls import grid_within
from jaxdiff.samplers.base import Sampler
from jaxdiff.samplers.loop import grid_for
from jaxdiff.schedules import TimeGrid
from jaxdiff.tasks.choice import Default, default_for
from jaxdiff.tasks.recorded import defaults_of
from jaxdiff.tune.settings_file import read_settings

__all__ = ["IMPLIED", "LENGTH", "check_lengths", "grid_of", "method_of", "sampler_of", "settings_note", "table_of"]

IMPLIED = {"zeta": "dps", "norm": "dps", "strength": "score_ald", "start": "sdedit"}
"""Options that belong to one method: naming them names it."""
LENGTH = 250
"""Network calls, or steps of a method that is named, where neither is given."""


def method_of(args: argparse.Namespace) -> Default:
    """The method that is asked for, the one that the settings are for, or the best known for the task."""
    if args.method is not None:
        return Default(args.method, None, "")
    for option, method in IMPLIED.items():
        if getattr(args, option) is not None:
            return Default(method, None, "")
    task = recorded_as(args.task)
    if args.settings not in (None, "defaults", "recorded"):
        held = sorted(read_settings(args.settings).get(args.prior, {}).get(task, {}))
        if len(held) > 1:
            raise ValueError(
                f"{args.settings} holds settings of {', '.join(held)} for {task}; choose one with --method."
            )
        if held:
            return Default(held[0], None, " (the settings' method)")
    best = default_for(task, args.prior, args.steps or args.calls or LENGTH, noise=noise_of(args))
    return best._replace(why=f" ({best.why})")


def settings_note(args: argparse.Namespace) -> str:
    """What to say of the settings of a method that was named: others may be recorded for the task."""
    if args.method is None or args.settings is not None or any(getattr(args, option) is not None for option in IMPLIED):
        return ""
    recorded = tasks.settings(args.method, recorded_as(args.task), args.prior, noise=noise_of(args))
    return " (with its defaults; --settings recorded takes those recorded for this task)" if recorded else ""


def _named(args: argparse.Namespace) -> bool:
    """Whether the user named the method, by --method or by an option that only one method has."""
    return args.method is not None or any(getattr(args, option) is not None for option in IMPLIED)


def table_of(settings: str, method: str, prior: str) -> dict[str, Any] | None:
    """The settings that ``--settings`` asks for, as ``tasks.sampler`` takes them; None for the recorded ones."""
    if settings == "defaults":
        return defaults_of(method, prior)
    return None if settings == "recorded" else read_settings(settings)


def sampler_of(args: argparse.Namespace, chosen: Default) -> Sampler:
    """The method with its settings: its own, recorded ones or a file's, and what the options say on top."""
    settings = args.settings or ("defaults" if _named(args) else "recorded")
    table = table_of(settings, chosen.method, args.prior)
    if settings == "recorded" and chosen.options is not None:  # these and no others: it won with them
        table = {args.prior: {"default": {chosen.method: chosen.options}}}
    options = {name: value for name in IMPLIED if (value := getattr(args, name)) is not None}
    task, noise = recorded_as(args.task), noise_of(args)
    return tasks.sampler(chosen.method, task, args.prior, table=table, noise=noise, **options)


def grid_of(args: argparse.Namespace, chosen: Default, sampler: Sampler, denoiser: Denoiser) -> TimeGrid:
    """--steps are steps; --calls, and what is spent on the best known method, are network calls."""
    if args.steps is not None or (args.calls is None and _named(args)):
        steps = min(LENGTH, denoiser.schedule.num_steps) if args.steps is None else args.steps
        return grid_for(denoiser, sampler, steps, args.spacing)
    return grid_within(sampler, denoiser, chosen.calls or args.calls or LENGTH, args.spacing)


def check_lengths(args: argparse.Namespace, denoiser: Denoiser) -> None:
    """Refuse steps that the prior's schedule cannot place.

    Raises:
        ValueError: if there are more than it has.
    """
    if args.steps is not None:
        check_steps(denoiser, args.steps)
    total = denoiser.schedule.num_steps
    if args.start is not None and args.start > total:
        raise ValueError(f"--start {args.start} is beyond this prior's {total} forward steps; choose at most {total}.")
