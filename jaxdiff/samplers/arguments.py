"""What a run is given: arguments that fit together, and the transition that a method moves by."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff._checks import concrete
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.operators.base import Operator
from jaxdiff.problems import Problem
from jaxdiff.samplers.base import GuidedSampler, Sampler
from jaxdiff.samplers.transitions import DDIM, DDPM, Transition, ddpm

__all__ = ["check_kinds", "check_run", "check_values", "noisy_transition_of", "transition_of"]

FOLLOWERS = "dps, daps or tds"
"""Methods that take the likelihood of any noise model, for the sentence that refuses another."""


def check_run(denoiser: DenoiserLike, problem: Problem | None, sampler: Sampler) -> None:
    """See that a run is possible: arguments of the right kinds, a measurement of its operator, a method that can use it.

    Values are looked at where they are known, outside of ``jit``, ``vmap`` and ``grad``.

    Raises:
        ValueError: if not; the sentence says what to do.
    """
    check_kinds(denoiser, sampler)
    if problem is not None:
        _check_problem(problem, denoiser)
    _check_served(sampler, problem)


def check_kinds(denoiser: DenoiserLike, sampler: Sampler) -> None:
    """See that a prior and a sampler are what they should be.

    Raises:
        ValueError: if one is not.
    """
    if not isinstance(sampler, Sampler):
        raise ValueError(f"{_shown(sampler)} is not a sampler; make one, as in jd.samplers.dps().")
    if isinstance(denoiser, type) or not (callable(denoiser) and hasattr(denoiser, "schedule")):
        raise ValueError(f"{_shown(denoiser)} is not a prior; load one, as in jd.load_denoiser('faces64').")


def _check_problem(problem: Problem, denoiser: DenoiserLike) -> None:
    if not isinstance(problem, Problem):
        raise ValueError(
            f"{_shown(problem)} is not a problem; make one with jd.observe(...) or jd.Problem(A, y, sigma)."
        )
    y, operator, std = problem.y, problem.operator, problem.noise_std
    if not isinstance(operator, Operator) or not isinstance(y, jax.Array | np.ndarray):
        raise ValueError(
            f"a problem needs an operator and an array y, but this one has {_shown(operator)} and {_shown(y)}; make it with "
            "jd.observe(...)."
        )
    many = jnp.ndim(std) > 0  # then the arrays of the operator may be many, too, and it cannot measure an image
    if many or tuple(y.shape) != tuple(operator.measurement_shape):
        shape = "" if many else f" {tuple(operator.measurement_shape)}"
        raise ValueError(
            f"y has shape {tuple(y.shape)} and σ {np.shape(std)}, but {type(operator).__name__} makes one "
            f"measurement{shape} of an image {tuple(operator.image_shape)}; for several measurements use jd.restore, or "
            "jax.vmap."
        )
    own, given = denoiser.schedule.alpha_bar.dtype, y.real.dtype
    if jnp.promote_types(own, given) != own:
        raise ValueError(f"the measurement is {given} and the prior {own}; give y as {own}, or the prior as {given}.")
    check_values(problem)


def _check_served(sampler: Sampler, problem: Problem | None) -> None:
    """See that the method has the measurement that it needs, by an operator that can do what it asks."""
    title, needs = sampler.title, sampler.needs
    if needs is None and problem is not None:
        raise ValueError(
            f"{title} draws from the prior and takes no measurement; give problem=None, or choose a method that "
            "restores, such as jd.samplers.dps()."
        )
    if needs is None:
        return
    if problem is None:
        raise ValueError(f"{title} restores a measurement; give a problem, or sample with jd.samplers.ddpm().")
    if not isinstance(problem.operator, needs):
        raise ValueError(
            f"{title} needs {sampler.wants}, and {type(problem.operator).__name__} is none; use {sampler.instead}."
        )
    if problem.noise is not None and not isinstance(problem.noise, sampler.takes):
        raise ValueError(
            f"{title} takes Gaussian noise of one σ, but this measurement has {problem.noise.title}; use {FOLLOWERS}."
        )
    sampler.check(problem)


def check_values(problems: Problem) -> None:
    """See that a measurement, or many, has no NaN and a possible σ, where these values are known.

    Raises:
        ValueError: if not.
    """
    y, std = problems.y, problems.noise_std
    if concrete(std):
        wrong = [value for value in np.asarray(std).ravel().tolist() if not 0 <= value < np.inf]
        if wrong:
            raise ValueError(f"σ = {wrong[0]:g} is no standard deviation: it is zero or positive, and finite.")
    if concrete(y) and not np.isfinite(np.asarray(y)).all():
        raise ValueError("the measurement y holds NaN or infinite values; repair it first, or mask those entries.")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float) else getattr(value, "__name__", type(value).__name__)


def transition_of(transition: Transition | GuidedSampler | None, default: Transition | None = None) -> Transition:
    """The transition that a method is to use; an unconditional sampler (``jd.samplers.ddim(eta=1.0)``) lends its own.

    Args:
        transition: what the caller gave.
        default: in place of None; DDPM where None too.

    Raises:
        ValueError: if it is neither.
    """
    if transition is None:
        return ddpm() if default is None else default
    if isinstance(transition, GuidedSampler) and transition.needs is None:  # a method would lose what it adds
        return transition.transition
    if isinstance(transition, types.FunctionType | type):
        name = transition.__name__
        raise ValueError(f"transition={name} is not a transition yet; call it, as in transition={name}().")
    if not callable(transition):
        raise ValueError(
            f"{type(transition).__name__} is not a transition; give jd.samplers.ddpm(...), jd.samplers.ddim(...) or an "
            "object called with (prediction, x_t, t, s, noise, schedule)."
        )
    return transition


def noisy_transition_of(
    transition: Transition | GuidedSampler | None, method: str, default: Transition | None = None
) -> Transition:
    """The transition of a method that steers through its noise.

    Args:
        transition: what the caller gave.
        method: the method's name, for the sentence.
        default: as in ``transition_of``.

    Raises:
        ValueError: if it is no transition, or adds no noise.
    """
    move = transition_of(transition, default)
    silent = isinstance(move, DDPM) and move.noise == "none"
    if isinstance(move, DDIM) and concrete(move.eta):
        silent = not np.any(np.asarray(move.eta) > 0)
    if silent:
        raise ValueError(
            f"{method} steers by the transition's noise, but this one adds none; use ddim(eta=1.0) or ddpm()."
        )
    return move
